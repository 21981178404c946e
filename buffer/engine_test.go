package buffer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/buffertest"
)

const mib = 1 << 20

// open opens an engine with segments small enough to roll, seal and reclaim in
// every test; with a master key what it stores is encrypted.
func open(t testing.TB, dir string, masters ...buffer.MasterKey) *buffer.Engine {
	t.Helper()
	e, err := buffer.Open(context.Background(), buffer.Config{Dir: dir, SegmentBytes: mib, MasterKeys: masters})
	if err != nil {
		t.Fatalf("open %s: %v", dir, err)
	}
	// A test that has closed it, or crashed it, has said so itself.
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func subject(t *testing.T) buffertest.Subject {
	dir, err := os.MkdirTemp(t.TempDir(), "buffer")
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, dir)
	return buffertest.Subject{
		Buffer:    e,
		Settled:   func() error { return e.Settled() },
		Housekeep: func(now time.Time) { e.KeepHouse(now) },
		Reopen: func(crash bool) (buffertest.Engine, error) {
			if crash {
				dir = crashed(t, e, dir)
			} else if err := e.Close(); err != nil {
				return nil, err
			}
			wantSound(t, dir)
			e = open(t, dir)
			return e, nil
		},
		Close: func() error { return errors.Join(e.Close(), os.RemoveAll(dir)) },
	}
}

// crashed halts an engine and returns a copy of what kill -9 would leave.
func crashed(t testing.TB, e *buffer.Engine, dir string) string {
	t.Helper()
	e.Halt()
	to, err := os.MkdirTemp(filepath.Dir(dir), "crashed")
	if err != nil {
		t.Fatal(err)
	}
	copyTree(t, dir, to)
	_ = e.LetGo() // the crash is the error
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	return to
}

// copyTree copies files without their holes.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return copyFile(path, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; at += int64(len(buf)) {
		n, err := in.ReadAt(buf, at)
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func TestEngine(t *testing.T) { buffertest.Run(t, subject) }

func TestEngineModel(t *testing.T) { buffertest.RunModel(t, subject) }
