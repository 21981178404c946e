package buffer_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"forebay/buffer"
)

// wordsOf is what a sink said that does not compress.
func wordsOf(n uint64) string { return string(noise(n, 250).Body) }

// fillReserve makes changes until those have no room either.
func fillReserve(t *testing.T, e *buffer.Engine) {
	t.Helper()
	for n := uint64(0); ; n++ {
		ds, _, err := e.Take("mail", noon, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			e.Release("mail", d.Offset, buffer.Retry{Due: noon, Tries: buffer.Tries{Attempts: 1}, Error: wordsOf(n<<8 + d.Offset)})
		}
		switch err := e.Settled(); {
		case errors.Is(err, buffer.ErrDiskFull):
			return
		case err != nil || n > 1000:
			t.Fatalf("round %d of changes on a full volume: %v, want ErrDiskFull in the end", n, err)
		}
	}
}

// fillUp appends until there is no room.
func fillUp(t *testing.T, e *buffer.Engine) (accepted uint64) {
	t.Helper()
	for {
		_, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(accepted, 60_000)})
		switch {
		case errors.Is(err, buffer.ErrDiskFull):
			return accepted
		case err != nil || accepted > 1000:
			t.Fatalf("append %d on a full volume: %v, want ErrDiskFull in the end", accepted, err)
		}
		accepted++
	}
}

// TestChangesWaitForSpace: changes that a totally full volume has no room for
// are written by themselves once it has.
func TestChangesWaitForSpace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	var free atomic.Bool
	asked := e.FillVolume(func() bool { return !free.Load() })
	accepted := fillUp(t, e)
	fillReserve(t, e)
	ds, _, err := e.Take("mail", noon, 1)
	if err != nil || len(ds) != 1 {
		t.Fatal(ds, err)
	}
	e.Ack("mail", 0, buffer.Result{At: noon, Attempts: 2, Status: 200})
	if err := e.Settled(); !errors.Is(err, buffer.ErrDiskFull) {
		t.Fatalf("an ack on the full volume: %v, want ErrDiskFull", err)
	}
	seq, n := e.Seq(), asked.Load()
	waitFor(t, "further attempts failed", func() bool { return asked.Load() >= n+3 })
	free.Store(true) // nobody asks for a commit any more
	waitFor(t, "the changes are written", func() bool { return e.Seq() > seq })
	e = open(t, crashed(t, e, dir))
	configure(t, e, "mail")
	if st, err := e.Find(buffer.Ref{Stream: "orders"}, noon); err != nil || st.State() != buffer.Delivered {
		t.Errorf("find what was acked on the full volume = %+v, %v; want delivered", st, err)
	}
	if got := len(drainAll(t, e, "mail")); got != int(accepted)-1 {
		t.Errorf("%d messages are left after the restart, want %d", got, accepted-1)
	}
	wantBalanced(t, e)
}

// TestBallastLetsSegmentsGo: on a totally full volume the change that gives a
// segment up gets the space that is held back, or nothing would ever be freed.
func TestBallastLetsSegmentsGo(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, 50, 60_000)
	waitFor(t, "segments are sealed", func() bool { return e.Stats().Segments["sealed"] >= 2 })
	ballast := files(t, dir, "BALLAST")[0]
	held := func() bool {
		_, err := os.Stat(ballast)
		return err == nil
	}
	e.FillVolume(held)
	fillReserve(t, e)
	for offset := range uint64(50) {
		if ds, _, err := e.Take("mail", noon, 1); err != nil || len(ds) != 1 || ds[0].Offset != offset {
			t.Fatal(ds, err)
		}
		e.Ack("mail", offset, buffer.Result{At: noon, Attempts: 2, Status: 200})
	}
	waitFor(t, "the sealed segments go", func() bool { return e.Stats().Segments["sealed"] == 0 })
	waitFor(t, "space is held back again", held)
	wantBalanced(t, e)
}
