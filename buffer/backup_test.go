package buffer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/buffertest"

	"github.com/google/go-cmp/cmp"
)

// backedUp is a backup of an engine.
func backedUp(t testing.TB, e *buffer.Engine) []byte {
	t.Helper()
	b, err := e.Backup(t.Context(), "test", []buffer.BackupFile{{Name: "control.json", Data: []byte("{}")}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out bytes.Buffer
	if err := b.Write(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if int64(out.Len()) != b.Bytes {
		t.Fatalf("%d bytes were written, %d announced", out.Len(), b.Bytes)
	}
	return out.Bytes()
}

// restored is a new directory with a backup, in which verify finds nothing.
func restored(t testing.TB, backup []byte, masters ...buffer.MasterKey) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	if _, err := buffer.Restore(t.Context(), bytes.NewReader(backup), dir, nil); err != nil {
		t.Fatal(err)
	}
	wantSound(t, dir, masters...)
	return dir
}

func wantSound(t testing.TB, dir string, masters ...buffer.MasterKey) *buffer.Verdict {
	t.Helper()
	before := tree(t, dir)
	v, err := buffer.Verify(t.Context(), dir, masters, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Damage)+len(v.Lost) > 0 {
		t.Errorf("verify found %+v, lost %+v", v.Damage, v.Lost)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Errorf("verify touched the directory (-before +after):\n%s", diff)
	}
	return v
}

// TestBackupModel puts a backup that is restored in the place of a crash. From the
// first one on the directory is encrypted, with what was in it before.
func TestBackupModel(t *testing.T) {
	buffertest.RunModel(t, func(t *testing.T) buffertest.Subject {
		s := subject(t)
		e, master, masters := s.Buffer.(*buffer.Engine), masterKey(t), []buffer.MasterKey(nil)
		s.Settled = func() error { return e.Settled() }
		s.Housekeep = func(now time.Time) { e.KeepHouse(now) }
		s.Reopen = func(bool) (buffertest.Engine, error) {
			backup := backedUp(t, e)
			if err := e.Close(); err != nil {
				return nil, err
			}
			e = open(t, restored(t, backup, masters...), master)
			masters = []buffer.MasterKey{master}
			return e, nil
		}
		s.Close = func() error { return e.Close() }
		return s
	})
}

// TestBackupWhileWritten backs up beside appends, acks, rolls, removals and merges.
// All that was accepted before is in it, but for what was acked.
func TestBackupWhileWritten(t *testing.T) {
	e := open(t, filepath.Join(t.TempDir(), "data"))
	configure(t, e, "mail")
	const before = 60
	fill(t, e, 0, before, 30_000)
	ids := make([]string, before)
	for i := range ids {
		ids[i] = e.ID(buffer.Ref{Stream: "orders", Offset: uint64(i)})
	}
	b, err := e.Backup(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Backup(t.Context(), "test", nil); !errors.Is(err, buffer.ErrBackingUp) {
		t.Errorf("a second backup = %v, want ErrBackingUp", err)
	}
	// All of it is delivered, and its segments would go, while the copy has not begun.
	fill(t, e, before, before, 30_000)
	if got := drainAll(t, e, "mail"); len(got) != 2*before {
		t.Fatalf("%d messages were taken, want %d", len(got), 2*before)
	}
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
	e.KeepHouse(noon.Add(1000 * time.Hour))
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
	held := len(e.Dirs())
	var out bytes.Buffer
	if err := b.Write(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	b.Close()
	waitFor(t, "segments that were held go", func() bool { return len(e.Dirs()) < held })
	e.Halt()

	r := open(t, restored(t, out.Bytes()))
	configure(t, r, "mail")
	if diff := cmp.Diff(upTo(before), drainAll(t, r, "mail")); diff != "" {
		t.Errorf("delivered by the restored directory (-want +got):\n%s", diff)
	}
	for i, id := range ids {
		if ref, err := r.Ref(id); err != nil || ref.Offset != uint64(i) {
			t.Errorf("the receipt of message %d is of %v, %v", i, ref, err)
		}
	}
	wantBalanced(t, r)
}

// A backup has receipts, answers and idempotency keys of what is gone, although
// their files go while it is written.
func TestBackupKeepsRecords(t *testing.T) {
	e := open(t, filepath.Join(t.TempDir(), "data"))
	configure(t, e, "mail")
	const n = 40
	for i := range n {
		if _, _, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(uint64(i), 60_000)}, onceKeyOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	drainAll(t, e, "mail")
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
	fill(t, e, n, n, 60_000)
	waitFor(t, "records of sealed segments", func() bool {
		return matches(t, e.Dir(), "outcomes/*.out") > 0 && matches(t, e.Dir(), "once/*.once") > 0
	})
	b, err := e.Backup(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	drainAll(t, e, "mail")
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
	e.KeepHouse(noon.Add(1000 * time.Hour))
	var out bytes.Buffer
	if err := b.Write(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if got := matches(t, e.Dir(), "once/*.once"); got > 0 {
		t.Errorf("%d files of idempotency keys that are past their time are left", got)
	}
	r := open(t, restored(t, out.Bytes()))
	configure(t, r, "mail")
	for i := range n {
		if st, err := r.Find(buffer.Ref{Stream: "orders", Offset: uint64(i)}, noon); err != nil || st.State() != buffer.Delivered {
			t.Errorf("receipt %d: %v, %v", i, st.State(), err)
		}
		if _, replayed, err := r.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(uint64(i), 60_000)}, onceKeyOf(i)); err != nil || !replayed {
			t.Errorf("key %d: replayed %v, %v", i, replayed, err)
		}
	}
}

func matches(t testing.TB, dir, pattern string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestBackupOfABrokenEngine: what cannot be made durable is not backed up.
func TestBackupOfABrokenEngine(t *testing.T) {
	e := open(t, filepath.Join(t.TempDir(), "data"))
	configure(t, e, "mail")
	b, err := e.Backup(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	e.Halt()
	if err := b.Write(t.Context(), io.Discard); !errors.Is(err, buffer.ErrBroken) {
		t.Errorf("write = %v, want ErrBroken", err)
	}
	b.Close()
	if _, err := e.Backup(t.Context(), "test", nil); !errors.Is(err, buffer.ErrBroken) {
		t.Errorf("backup = %v, want ErrBroken", err)
	}
}

// TestRestoreRefuses: one clear error, and nothing is left.
func TestRestoreRefuses(t *testing.T) {
	e := open(t, filepath.Join(t.TempDir(), "data"))
	configure(t, e, "mail")
	fill(t, e, 0, 10, 10_000)
	whole := backedUp(t, e)
	for name, tc := range map[string]struct {
		harm func(b []byte) []byte
		want string
	}{
		"empty":               {func([]byte) []byte { return nil }, "none of Forebay's"},
		"something else":      {func([]byte) []byte { return []byte(strings.Repeat("text ", 100)) }, "none of Forebay's"},
		"cut off in a file":   {func(b []byte) []byte { return b[:len(b)/2] }, fmt.Sprintf("cut off after %d of %d bytes", len(whole)/2, len(whole))},
		"without its trailer": {func(b []byte) []byte { return b[:len(b)-33] }, "cut off"},
		"one byte short":      {func(b []byte) []byte { return b[:len(b)-1] }, "cut off"},
		"more behind it":      {func(b []byte) []byte { return append(b, 0) }, "goes on after its end"},
		"a flipped bit":       {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "damaged in seg-"},
		"a flipped digest":    {func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "trailer does not fit"},
		"a flipped program":   {func(b []byte) []byte { b[39] ^= 1; return b }, "header is damaged"},
		"another version":     {func(b []byte) []byte { b[8] = 9; return b }, "has version 9, this program reads 1"},
		"a file that is not ours": {func([]byte) []byte {
			b, err := e.Backup(t.Context(), "test", []buffer.BackupFile{{Name: "../x", Data: []byte("x")}})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			var out bytes.Buffer
			if err := b.Write(t.Context(), &out); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}, "would not be in the directory"},
	} {
		for _, isThere := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, directory there %v", name, isThere), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "restored")
				if isThere {
					if err := os.Mkdir(dir, 0o700); err != nil {
						t.Fatal(err)
					}
				}
				_, err := buffer.Restore(t.Context(), bytes.NewReader(tc.harm(slices.Clone(whole))), dir, nil)
				if !errors.Is(err, buffer.ErrBackup) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("restore = %v, want one line with %q", err, tc.want)
				}
				entries, err := os.ReadDir(dir)
				if len(entries) > 0 || (err == nil) != isThere {
					t.Errorf("left in the directory: %v, %v", entries, err)
				}
			})
		}
	}
}

func TestRestoreEnds(t *testing.T) {
	e := open(t, filepath.Join(t.TempDir(), "data"))
	configure(t, e, "mail")
	fill(t, e, 0, 10, 10_000)
	whole := backedUp(t, e)
	dir := filepath.Join(t.TempDir(), "restored")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := buffer.Restore(ctx, bytes.NewReader(whole), dir, func(n, of int64) {
		if of != int64(len(whole)) {
			t.Errorf("progress: of %d, want %d", of, len(whole))
		}
		if n > of/2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("restore = %v, want it to be cancelled", err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
	used := restored(t, whole)
	before := tree(t, used)
	if _, err := buffer.Restore(t.Context(), bytes.NewReader(whole), used, nil); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("restore over a buffer = %v", err)
	}
	if diff := cmp.Diff(before, tree(t, used)); diff != "" {
		t.Errorf("the directory was touched (-before +after):\n%s", diff)
	}
}
