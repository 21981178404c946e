package buffer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/block"
	"forebay/buffer/segment"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2027, 11, 11, 12, 0, 0, 0, time.UTC)

func orders(drains ...string) []buffer.Stream {
	return []buffer.Stream{{Name: "orders", Drains: drains}}
}

func configure(t testing.TB, e *buffer.Engine, drains ...string) {
	t.Helper()
	if err := e.Configure(orders(drains...)); err != nil {
		t.Fatal(err)
	}
}

// noise is a message that does not compress.
func noise(n uint64, size int) buffer.Message {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b) // never fails
	return buffer.Message{Method: "POST", Target: fmt.Sprintf("/orders/%d", n), Body: b}
}

// fill appends messages first … first+n-1, one a commit.
func fill(t testing.TB, e *buffer.Engine, first uint64, n, size int) {
	t.Helper()
	for i := range uint64(n) {
		if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(first+i, size)}); err != nil {
			t.Fatalf("append %d: %v", first+i, err)
		}
	}
}

// drainAll takes and acks everything and returns the offsets; each message has
// to be what fill appended.
func drainAll(t testing.TB, e *buffer.Engine, drain string) []uint64 {
	t.Helper()
	var got []uint64
	for {
		ds, _, err := e.Take(drain, noon, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(ds) == 0 {
			return got
		}
		for _, d := range ds {
			want := noise(d.Offset, len(d.Body))
			if d.Target != want.Target || !bytes.Equal(d.Body, want.Body) {
				t.Fatalf("message %d is %s with a body of %d bytes that are not its own", d.Offset, d.Target, len(d.Body))
			}
			got = append(got, d.Offset)
			e.Ack(drain, d.Offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
		}
	}
}

func upTo(n uint64) []uint64 {
	var s []uint64
	for i := range n {
		s = append(s, i)
	}
	return s
}

func wantBalanced(t testing.TB, e *buffer.Engine) {
	t.Helper()
	accounts, err := e.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts {
		if a.Imbalance() != 0 {
			t.Errorf("imbalance %d in %+v", a.Imbalance(), a)
		}
	}
}

func files(t testing.TB, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	return names
}

// tree lists a directory with sizes, to see that nothing was touched.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasSuffix(path, "LOCK") {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			fmt.Fprintln(&b, strings.TrimPrefix(path, dir), info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// inFormat makes a directory one of another format.
func inFormat(n int) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		if err := os.WriteFile(filepath.Join(dir, "FORMAT"), fmt.Appendf(nil, "forebay buffer %d\n", n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRefusedDirectories: one clear line, nothing touched.
func TestRefusedDirectories(t *testing.T) {
	for name, tc := range map[string]struct {
		crash bool
		harm  func(t *testing.T, dir string)
		want  string
	}{
		"a newer format":              {false, inFormat(3), "has format 3, this program reads 2; start the newer program"},
		"an older format":             {false, inFormat(1), "has format 1, this program reads 2; drain it with the older program"},
		"no format":                   {false, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "FORMAT")) }, "no FORMAT"},
		"no key":                      {false, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "KEY")) }, "KEY is missing"},
		"every segment gone":          {false, func(t *testing.T, dir string) { remove(t, files(t, dir, "seg-*")...) }, "all of its segments are missing"},
		"a sealed segment gone":       {false, func(t *testing.T, dir string) { remove(t, files(t, dir, "seg-*")[0]) }, "is missing, with messages"},
		"a sealed segment's log gone": {false, func(t *testing.T, dir string) { remove(t, files(t, dir, "seg-*/*.vlog")...) }, "no value log"},
		"a sealed segment's manifest": {false, func(t *testing.T, dir string) { remove(t, files(t, dir, "seg-*/MANIFEST")[0]) }, "no MANIFEST"},
		"the open segment gone": {true, func(t *testing.T, dir string) {
			open := slices.DeleteFunc(files(t, dir, "seg-*"), func(s string) bool {
				_, err := os.Stat(filepath.Join(s, "INDEX"))
				return err == nil
			})
			remove(t, open...)
		}, "the segment after"},
		"the open segment's log gone": {true, func(t *testing.T, dir string) {
			remove(t, files(t, dir, "seg-*/*.mem")...)
			remove(t, files(t, dir, "seg-*/*.vlog")...)
		}, "no value log"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e := open(t, dir)
			configure(t, e, "mail")
			fill(t, e, 0, 40, 60_000) // two segments and more
			if tc.crash {
				waitFor(t, "a sealed segment", func() bool { return e.Stats().Segments["sealed"] > 0 })
				dir = crashed(t, e, dir)
			} else if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			tc.harm(t, dir)
			before := tree(t, dir)
			_, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib})
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("open = %v, want one line with %q", err, tc.want)
			}
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Errorf("the directory was touched (-before +after):\n%s", diff)
			}
		})
	}
}

// waitFor polls for what another goroutine is about to do.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 20 s", what)
		case <-tick.C:
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	_, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib})
	if want := fmt.Sprintf("in use by process %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("second open = %v, want %q", err, want)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).Close(); err != nil {
		t.Errorf("open after close: %v", err)
	}
	reader, err := os.Open(filepath.Join(dir, "LOCK"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := syscall.Flock(int(reader.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if _, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib}); err == nil || !strings.Contains(err.Error(), "in use: a verify reads it") {
		t.Errorf("open beside a verify = %v; the number in LOCK is nobody's", err)
	}
}

// nthBlock is where the nth block of messages starts in a value log.
func nthBlock(t testing.TB, log []byte, n int) int {
	t.Helper()
	for at := 0; ; at++ {
		i := bytes.Index(log[at:], []byte("FBLK"))
		if i < 0 {
			t.Fatalf("fewer than %d blocks", n)
		}
		at += i
		if size, ok := block.Length(log[at:]); ok && at+size <= len(log) && block.Peek(log[at:]).Kind == block.Messages {
			if n--; n < 0 {
				return at
			}
		}
	}
}

func edit(t testing.TB, path string, fn func([]byte)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fn(b)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamage harms files between two starts. Nothing wrong is delivered, what
// is sound is, and what is lost is accounted for.
func TestDamage(t *testing.T) {
	const n = 40
	flip := func(nth int) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			edit(t, files(t, dir, "seg-*/*.vlog")[0], func(b []byte) { b[nthBlock(t, b, nth)+block.HeaderSize+500] ^= 1 })
		}
	}
	// The segment that was open, or the newest. Names do not tell: a reserved
	// segment may have a higher one.
	newest := func(pattern string, fn func([]byte)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			names := files(t, dir, pattern)
			used := names[len(names)-1]
			for _, name := range names {
				_, hasIndex := os.Stat(filepath.Join(filepath.Dir(name), "INDEX"))
				_, hasBlocks := os.Stat(filepath.Join(filepath.Dir(name), "USED"))
				if hasIndex != nil && hasBlocks == nil {
					used = name
				}
			}
			edit(t, used, fn)
		}
	}
	zeroTail := func(b []byte) { clear(b[1000:]) }
	for name, tc := range map[string]struct {
		crash bool
		harm  func(t *testing.T, dir string)
		lost  int
	}{
		"a flipped bit in a sealed segment":   {false, flip(3), 1},
		"a flipped bit in an open segment":    {true, newest("seg-*/*.vlog", func(b []byte) { b[nthBlock(t, b, 1)+block.HeaderSize+500] ^= 1 }), 1},
		"the end of a write-ahead log lost":   {true, newest("seg-*/*.mem", zeroTail), 0},
		"all of a write-ahead log lost":       {true, newest("seg-*/*.mem", func(b []byte) { clear(b) }), 0},
		"a manifest overwritten":              {true, newest("seg-*/MANIFEST", func(b []byte) { clear(b) }), 0},
		"a sealed segment badger cannot open": {false, func(t *testing.T, dir string) { writeEmpty(t, files(t, dir, "seg-*")[0], "00042.mem") }, 0},
		"a sealed segment's table overwritten": {false, func(t *testing.T, dir string) {
			edit(t, files(t, dir, "seg-*/*.sst")[0], func(b []byte) { clear(b[:len(b)/2]) })
		}, 0},
		"an index flipped":        {false, newest("seg-*/INDEX", func(b []byte) { b[len(b)-1] ^= 1 }), 0},
		"an index deleted":        {false, func(t *testing.T, dir string) { remove(t, files(t, dir, "seg-*/INDEX")...) }, 0},
		"a torn write at the end": {true, newest("seg-*/*.vlog", func(b []byte) { copy(b[bytes.LastIndex(b, []byte("FBLK"))+200_000:], "FBLK\x01\x01\x00") }), 0},
		"an empty file of a crash": {true, func(t *testing.T, dir string) {
			segs := files(t, dir, "seg-*")
			writeEmpty(t, segs[len(segs)-1], "00042.mem")
		}, 0},
		"a segment that was never used":          {true, func(t *testing.T, dir string) { makeDir(t, filepath.Join(dir, "seg-00000000000000ff")) }, 0},
		"a removal that a crash interrupted":     {true, func(t *testing.T, dir string) { makeDir(t, filepath.Join(dir, "trash-00000000000000ff")) }, 0},
		"a damaged directory from an older harm": {true, func(t *testing.T, dir string) { makeDir(t, filepath.Join(dir, "quarantine-00000000000000ff")) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e := open(t, dir)
			configure(t, e, "mail")
			fill(t, e, 0, n, 60_000)
			if tc.crash {
				dir = crashed(t, e, dir)
			} else if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			tc.harm(t, dir)
			wantLost(t, dir, tc.lost)
			for start := range 2 { // what a start repairs stays repaired
				e = open(t, dir)
				configure(t, e, "mail")
				wantBalanced(t, e)
				if start == 0 {
					if err := e.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := drainAll(t, e, "mail")
			if len(got) != n-tc.lost {
				t.Errorf("%d messages delivered, want %d: %v", len(got), n-tc.lost, got)
			}
			wantBalanced(t, e)
			if dead := e.Stats().Drains[0].Dead[buffer.ReasonDamaged]; dead != uint64(tc.lost) {
				t.Errorf("%d dead as damaged, want %d", dead, tc.lost)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func writeEmpty(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func makeDir(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	writeEmpty(t, dir, "000001.vlog")
}

// TestFailedCommit: after an error the outcome is unknown, so the engine stops
// and the next start finds out.
func TestFailedCommit(t *testing.T) {
	for name, stored := range map[string]bool{"not stored": false, "stored after all": true} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e := open(t, dir)
			configure(t, e, "mail")
			fill(t, e, 0, 3, 100)
			e.FailCommits(stored)
			for range 2 {
				if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(3, 100)}); !errors.Is(err, buffer.ErrBroken) {
					t.Fatalf("append = %v, want ErrBroken", err)
				}
			}
			<-e.Failed()
			if err := e.Err(); !errors.Is(err, buffer.ErrBroken) || !strings.Contains(err.Error(), "input/output error") {
				t.Errorf("Err = %v, want ErrBroken with its cause", err)
			}
			if _, _, err := e.Take("mail", noon, 1); !errors.Is(err, buffer.ErrBroken) {
				t.Errorf("take = %v, want ErrBroken", err)
			}
			dir = crashed(t, e, dir)
			e = open(t, dir)
			configure(t, e, "mail")
			want := upTo(3)
			if stored {
				want = upTo(4)
			}
			if diff := cmp.Diff(want, drainAll(t, e, "mail")); diff != "" {
				t.Errorf("delivered after the restart (-want +got):\n%s", diff)
			}
			wantBalanced(t, e)
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSteadyChangesAreCommitted: changes that never pause must not put their
// own commit off.
func TestSteadyChangesAreCommitted(t *testing.T) {
	e := open(t, t.TempDir())
	configure(t, e, "mail")
	fill(t, e, 0, 1, 100)
	seq := e.Seq()
	waitFor(t, "a commit of changes alone", func() bool {
		ds, _, err := e.Take("mail", noon, 1)
		if err != nil || len(ds) != 1 {
			t.Fatal(ds, err)
		}
		e.Release("mail", 0, buffer.Retry{Due: noon})
		return e.Seq() > seq
	})
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestFullDisk: appends are refused before space runs out, acks and reading go
// on, and appends are taken again by themselves.
func TestFullDisk(t *testing.T) {
	e, err := buffer.Open(context.Background(), buffer.Config{Dir: t.TempDir(), SegmentBytes: mib, MaxBytes: 14 * mib})
	if err != nil {
		t.Fatal(err)
	}
	configure(t, e, "mail")
	accepted, room := uint64(0), e.Stats().Room
	for err == nil {
		if _, err = e.Append(t.Context(), "orders", noon, []buffer.Message{noise(accepted, 60_000)}); err == nil {
			accepted++
		}
		if accepted > 10_000 {
			t.Fatal("the disk never fills")
		}
	}
	if !errors.Is(err, buffer.ErrDiskFull) {
		t.Fatalf("append on a full disk = %v, want ErrDiskFull", err)
	}
	st := e.Stats()
	if !st.ReadOnly || st.Room != 0 {
		t.Errorf("Stats says %d bytes of room, read-only %t, when appends are refused", st.Room, st.ReadOnly)
	}
	// A segment may be begun with one more, or end with one less.
	if off := st.Streams[0].Bytes - room; off > 2*mib || off < -2*mib {
		t.Errorf("%d bytes were taken, where %d were said to fit", st.Streams[0].Bytes, room)
	}
	if diff := cmp.Diff(upTo(accepted), drainAll(t, e, "mail")); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	wantBalanced(t, e)
	waitFor(t, "an append after the backlog went", func() bool {
		_, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(accepted, 60_000)})
		return err == nil
	})
	if e.Stats().ReadOnly {
		t.Error("Stats says that appends are refused, when they are taken again")
	}
	wantBalanced(t, e)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestReclaim: the disk comes back as the backlog goes, and receipts stay.
func TestReclaim(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	configure(t, e, "mail", "sms")
	fill(t, e, 0, 200, 60_000)
	peak := e.Stats().Bytes
	drainAll(t, e, "mail")
	if e.Stats().Bytes < peak/2 {
		t.Error("segments went that one drain still needs")
	}
	drainAll(t, e, "sms")
	waitFor(t, "disk back", func() bool { return e.Stats().Segments["sealed"] == 0 })
	// Reserved for the open segment and the next: two of them.
	if got := e.Stats().Bytes; got > 2*segment.Reserved(mib) {
		t.Errorf("%d bytes on disk after the last ack, %d at the peak", got, peak)
	}
	for range 2 {
		st, err := e.Find(buffer.Ref{Stream: "orders", Offset: 7}, noon.Add(time.Hour))
		if err != nil || st.State() != buffer.Delivered || !st.AcceptedAt.Equal(noon) {
			t.Errorf("find of a message whose segment is gone = %+v, %v", st, err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = open(t, dir)
		configure(t, e, "mail", "sms")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestFirstDrainReadsAll: what a stream took before it had a drain waits for one.
func TestFirstDrainReadsAll(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	configure(t, e)
	fill(t, e, 0, 40, 60_000)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	if diff := cmp.Diff(upTo(40), drainAll(t, e, "mail")); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	configure(t, e, "mail", "late")
	if got := drainAll(t, e, "late"); got != nil {
		t.Errorf("a drain that was added later got %v", got)
	}
	wantBalanced(t, e)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestOrphans: what left the policy with a backlog stays, balanced, and is
// dropped once it is empty.
func TestOrphans(t *testing.T) {
	e := open(t, t.TempDir())
	configure(t, e, "mail", "sms")
	fill(t, e, 0, 3, 100)
	drainAll(t, e, "mail")
	configure(t, e, "sms")
	if got := len(e.Stats().Drains); got != 1 {
		t.Errorf("%d drains after an empty one left, want 1", got)
	}
	if err := e.Configure(nil); err != nil {
		t.Fatal(err)
	}
	st := e.Stats()
	if len(st.Streams) != 1 || !st.Streams[0].Orphaned || !st.Drains[0].Orphaned || st.Drains[0].Pending != 3 {
		t.Errorf("stats of an orphan = %+v", st)
	}
	if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{{}}); !errors.Is(err, buffer.ErrNoStream) {
		t.Errorf("append to an orphan = %v, want ErrNoStream", err)
	}
	wantBalanced(t, e)
	configure(t, e, "sms")
	drainAll(t, e, "sms")
	if err := e.Configure(nil); err != nil {
		t.Fatal(err)
	}
	if st := e.Stats(); len(st.Streams) != 0 {
		t.Errorf("stats after the last message left = %+v", st)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestMoveDrain: a drain that has nothing left may read another stream; one
// that has is not taken away, and nothing else changes either.
func TestMoveDrain(t *testing.T) {
	e := open(t, t.TempDir())
	configure(t, e, "mail")
	fill(t, e, 0, 1, 100)
	moved := []buffer.Stream{{Name: "logs", Drains: []string{"mail"}}, {Name: "orders"}}
	if err := e.Configure(moved); err == nil || !strings.Contains(err.Error(), "drain mail: it still has messages or dead letters of stream orders") {
		t.Errorf("Configure = %v", err)
	}
	if st := e.Stats(); len(st.Streams) != 1 {
		t.Errorf("streams after a refusal: %+v", st.Streams)
	}
	drainAll(t, e, "mail")
	if err := e.Configure(moved); err != nil {
		t.Error(err)
	}
	if st := e.Stats(); len(st.Drains) != 1 || st.Drains[0].Stream != "logs" {
		t.Errorf("drains: %+v", st.Drains)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestForgedIDs(t *testing.T) {
	e := open(t, t.TempDir())
	configure(t, e, "mail")
	fill(t, e, 0, 1, 100)
	id := e.ID(buffer.Ref{Stream: "orders"})
	if ref, err := e.Ref(strings.ToUpper(id)); err != nil || ref != (buffer.Ref{Stream: "orders"}) {
		t.Errorf("Ref(%s) = %v, %v", id, ref, err)
	}
	for _, forged := range []string{"", "x", strings.Repeat("a", 26), id[:25], id + "a", id[1:] + id[:1], strings.Repeat("0", 26), e.ID(buffer.Ref{Stream: "orders", Offset: 1})} {
		if ref, err := e.Ref(forged); !errors.Is(err, buffer.ErrNoMessage) {
			t.Errorf("Ref(%q) = %v, %v; want ErrNoMessage", forged, ref, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestTakeMix: due messages are held back while there are untried ones, and only
// then. Nothing stays of what was in the memory that is used again.
func TestTakeMix(t *testing.T) {
	e := open(t, t.TempDir())
	configure(t, e, "mail")
	fill(t, e, 0, 10, 100)
	ds, _, err := e.Take("mail", noon, 6)
	if err != nil || len(ds) != 6 {
		t.Fatal(ds, err)
	}
	for _, d := range ds {
		e.Release("mail", d.Offset, buffer.Retry{Due: noon, Tries: buffer.Tries{Attempts: 1}})
	}
	for _, tc := range []struct {
		limit, retries int
		want           []uint64
	}{
		{3, 1, []uint64{0, 6, 7}},
		{4, 1, []uint64{1, 8, 9, 2}}, // the untried run out
		{5, 0, []uint64{3, 4, 5}},
	} {
		for i := range ds {
			ds[i] = buffer.Delivery{Tries: buffer.Tries{Attempts: 9}, Message: buffer.Message{Key: "old", KeepAnswer: 1, Batch: "old", CancelKeys: []string{"old"}}}
		}
		room := ds
		ds, _, err = e.TakeMix(room, "mail", noon, tc.limit, tc.retries)
		var got []uint64
		for _, d := range ds {
			got = append(got, d.Offset)
			if tried := d.Offset < 6; tried != (d.Tries.Attempts == 1) || d.Key != "" || d.KeepAnswer != 0 || d.Batch != "" || d.CancelKeys != nil {
				t.Errorf("offset %d keeps of what was there before: %+v", d.Offset, d)
			}
		}
		if &ds[0] != &room[0] {
			t.Error("the room was not used")
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
			t.Errorf("TakeMix(%d, %d): %v, offsets (-want +got):\n%s", tc.limit, tc.retries, err, diff)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
