package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forebay/buffer"
)

// aBackup is that of an empty buffer.
func aBackup(t *testing.T) []byte {
	t.Helper()
	e, err := buffer.Open(t.Context(), buffer.Config{Dir: filepath.Join(t.TempDir(), "data"), SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	b, err := e.Backup(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out bytes.Buffer
	if err := b.Write(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// leaves fails the test unless a folder holds these names.
func leaves(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("left in the folder: %q, want %q", got, want)
	}
}

// TestBackupCommand: a file is there whole, or not at all.
func TestBackupCommand(t *testing.T) {
	whole := aBackup(t)
	for name, tc := range map[string]struct {
		server http.HandlerFunc
		code   int
		stderr string
	}{
		"whole":   {answer(200, "application/octet-stream", string(whole)), exitDone, ""},
		"cut off": {answer(200, "application/octet-stream", string(whole[:len(whole)-10])), exitFailed, "cut off"},
		"a broken connection": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(whole[:100])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, exitFailed, "cut off"},
		"something else":  {answer(200, "text/html", "<html>"), exitFailed, "none of Forebay's"},
		"refused":         {answer(409, "application/problem+json", `{"title":"Under way already","detail":"Another backup is being written."}`), exitFailed, "under way already"},
		"an older server": {answer(404, "application/problem+json", `{"title":"Not found","detail":"The admin API has nothing here."}`), exitFailed, "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(tc.server)
			defer srv.Close()
			dir := t.TempDir()
			file := filepath.Join(dir, "b")
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), []string{"backup", "--to", file, "--admin-url", srv.URL}, nil, &stdout, &stderr)
			if code != tc.code || !strings.Contains(stderr.String(), tc.stderr) {
				t.Errorf("backup = %d, want %d\n%s%s", code, tc.code, &stdout, &stderr)
			}
			if code != exitDone {
				leaves(t, dir)
				return
			}
			leaves(t, dir, "b")
			if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, whole) {
				t.Errorf("the file has %d bytes, %v", len(got), err)
			}
			stdout.Reset()
			if code := run(t.Context(), []string{"backup", "--to", "-", "--admin-url", srv.URL}, nil, &stdout, &stderr); code != exitDone || !bytes.Equal(stdout.Bytes(), whole) {
				t.Errorf("backup --to - = %d, %d bytes, want %d", code, stdout.Len(), len(whole))
			}
			restored := filepath.Join(dir, "data")
			if code := run(t.Context(), []string{"restore", "--from", "-", "--data", restored}, &stdout, &bytes.Buffer{}, &stderr); code != exitDone {
				t.Errorf("restore --from - = %d\n%s", code, &stderr)
			}
		})
	}
}

// TestBackupElsewhere: the error names the file that was asked for.
func TestBackupElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none", "b")
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"backup", "--to", file}, nil, &bytes.Buffer{}, &stderr)
	if want := "error: backup: open " + file + ": no such file or directory\n"; code != exitFailed || stderr.String() != want {
		t.Errorf("backup = %d\n%swant\n%s", code, &stderr, want)
	}
}

// TestBackupInterrupted ends a backup while the server sends.
func TestBackupInterrupted(t *testing.T) {
	whole := aBackup(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the caller leaves
		_, _ = w.Write(whole[:len(whole)/2])
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	}))
	defer srv.Close()
	dir := t.TempDir()
	var stderr bytes.Buffer
	code := run(ctx, []string{"backup", "--to", filepath.Join(dir, "b"), "--admin-url", srv.URL}, nil, &bytes.Buffer{}, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("backup = %d\n%s", code, &stderr)
	}
	leaves(t, dir)
}

// TestBackupToFullDisk: /dev/full is as full as a disk can be.
func TestBackupToFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full here")
	}
	defer full.Close()
	srv := httptest.NewServer(answer(200, "application/octet-stream", string(aBackup(t))))
	defer srv.Close()
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"backup", "--to", "-", "--admin-url", srv.URL}, nil, full, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "no space left on device") {
		t.Errorf("backup = %d\n%s", code, &stderr)
	}
}

func TestProgressText(t *testing.T) {
	if got, want := progressText(512<<20, 1<<30, 2e9), "512.0 MiB of 1.0 GiB (50 %), 256.0 MiB/s"; got != want {
		t.Errorf("progressText = %q, want %q", got, want)
	}
}
