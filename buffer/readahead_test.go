package buffer_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"forebay/buffer"

	"github.com/google/go-cmp/cmp"
)

// taken takes n messages one by one, and returns how many blocks were read from disk
// when nothing is read any more.
func taken(t testing.TB, e *buffer.Engine, n int) (offsets []uint64, read int) {
	t.Helper()
	for range n {
		ds, _, err := e.Take("mail", noon, 1)
		if err != nil || len(ds) != 1 {
			t.Fatalf("take: %d messages, %v", len(ds), err)
		}
		offsets = append(offsets, ds[0].Offset)
		e.Ack("mail", ds[0].Offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
	}
	waitFor(t, "readers to end", func() bool { return e.Readers() == 0 })
	return offsets, e.BlocksRead()
}

// cold is a start with n messages on disk, a block of 60 KB each.
func cold(t testing.TB, n int, drains ...string) *buffer.Engine {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, drains...)
	fill(t, e, 0, n, 60_000)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, drains...)
	return e
}

// TestLiveDrainReadsNothing: what comes in is in memory still when a drain that keeps
// up takes it, however much that is in the end.
func TestLiveDrainReadsNothing(t *testing.T) {
	e := open(t, t.TempDir())
	configure(t, e, "mail")
	const n, size = 1200, 60_000 // more than the memory for blocks
	for i := range uint64(n) {
		fill(t, e, i, 1, size)
		if offsets, _ := taken(t, e, 1); offsets[0] != i {
			t.Fatalf("message %d came, %v were taken", i, offsets)
		}
	}
	if read := e.BlocksRead(); read != 0 {
		t.Errorf("%d blocks were read from disk", read)
	}
}

// TestReadAhead: a drain that reads in order has the next blocks read for it, within
// bounds and each of them once; one that stands still or jumps leaves nothing behind.
func TestReadAhead(t *testing.T) {
	const n, ahead = 120, 2 << 20 / 60_000
	t.Run("in order", func(t *testing.T) {
		e := cold(t, n, "mail")
		if _, read := taken(t, e, 1); read < 10 || read > 1+ahead {
			t.Errorf("%d blocks were read for the first message, want 1 and at most %d ahead", read, ahead)
		}
		_, before := taken(t, e, 2)
		if _, read := taken(t, e, 0); read != before {
			t.Errorf("a drain that stands still had %d blocks read", read-before)
		}
		if got, read := taken(t, e, n-3); read != n || !slices.IsSorted(got) {
			t.Errorf("%d blocks were read for %d messages %v", read, n, got)
		}
	})
	t.Run("a reader that does not get to it", func(t *testing.T) {
		e := cold(t, n, "mail")
		e.ClaimAhead("mail")
		if got, read := taken(t, e, n); read != n || !slices.IsSorted(got) {
			t.Errorf("%d blocks were read for %d messages %v", read, n, got)
		}
	})
	t.Run("a jump", func(t *testing.T) {
		e := cold(t, n, "mail")
		_, before := taken(t, e, 1)
		for offset := range uint64(90) {
			_ = e.Cancel(t.Context(), buffer.Ref{Stream: "orders", Offset: offset}, noon) // the first is delivered
		}
		got, read := taken(t, e, 1)
		if diff := cmp.Diff([]uint64{90}, got); diff != "" || read > before+1+ahead {
			t.Errorf("behind a gap %d blocks were read, offsets (-want +got):\n%s", read-before, diff)
		}
	})
	t.Run("several drains", func(t *testing.T) {
		e := cold(t, n, "mail", "sms")
		if diff := cmp.Diff(upTo(n), drainAll(t, e, "mail")); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(upTo(n), drainAll(t, e, "sms")); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
		if _, read := taken(t, e, 0); read != n {
			t.Errorf("%d blocks were read for two drains, want %d: the second finds them in memory", read, n)
		}
	})
}

// TestColdReadersBesideAppends: drains that read an old backlog and appends do not
// disturb each other.
func TestColdReadersBesideAppends(t *testing.T) {
	const n, more = 100, 50
	e := cold(t, n, "mail", "sms", "push")
	var readers sync.WaitGroup
	for _, drain := range []string{"mail", "sms", "push"} {
		readers.Go(func() {
			var got []uint64
			for len(got) < n {
				got = append(got, drainAll(t, e, drain)...)
			}
			got = append(got, drainAll(t, e, drain)...)
			if !slices.IsSorted(got) {
				t.Errorf("%s got %v", drain, got)
			}
		})
	}
	fill(t, e, n, more, 60_000)
	readers.Wait()
	for _, drain := range []string{"mail", "sms", "push"} {
		drainAll(t, e, drain)
	}
	for _, d := range e.Stats().Drains {
		if d.Delivered != n+more {
			t.Errorf("%s delivered %d of %d", d.Drain, d.Delivered, n+more)
		}
	}
	wantBalanced(t, e)
}

// TestIndexWithoutPlaces: an index that does not say where blocks lie is made again.
func TestIndexWithoutPlaces(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, 5, 1000)
	coder, _ := e.Coder()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	path := files(t, dir, "seg-*/INDEX")[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, payload, err := coder.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := coder.Unpack(h, payload)
	if err != nil {
		t.Fatal(err)
	}
	raw[0] &^= 2
	payload, h.Codec = coder.Pack(raw)
	if err := os.WriteFile(path, coder.Seal(nil, &h, payload), 0o600); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	if got := e.Recovery(); got.Scanned != 1 || got.Carried != 0 {
		t.Errorf("recovery = %+v, want one segment scanned", got)
	}
	if diff := cmp.Diff(upTo(5), drainAll(t, e, "mail")); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
}
