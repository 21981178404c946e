package buffer_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/segment"
)

// TestOnceInProgress: while the first append with a key is being stored, the
// second neither stores nor answers for it.
func TestOnceInProgress(t *testing.T) {
	e := open(t, t.TempDir())
	configure(t, e, "mail")
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	e.Hook(func(s *segment.Segment, b []segment.Block) error {
		once.Do(func() { close(entered); <-release })
		return s.Commit(b)
	})
	key := buffer.OnceKey{Key: [16]byte{1}, Body: [8]byte{2}, TTL: time.Hour}
	appendOnce := func(ctx context.Context, key buffer.OnceKey) (bool, error) {
		_, replayed, err := e.AppendOnce(ctx, "orders", noon, []buffer.Message{noise(0, 100)}, key)
		return replayed, err
	}
	first := make(chan error, 1)
	go func() {
		_, err := appendOnce(t.Context(), key)
		first <- err
	}()
	<-entered
	if _, err := appendOnce(t.Context(), key); !errors.Is(err, buffer.ErrInProgress) {
		t.Errorf("the second append = %v, want ErrInProgress", err)
	}
	if _, err := appendOnce(t.Context(), buffer.OnceKey{Key: key.Key, TTL: time.Hour}); !errors.Is(err, buffer.ErrMismatch) {
		t.Errorf("an append of other content = %v, want ErrMismatch at once", err)
	}
	if _, err := e.Lookup(t.Context(), "orders", key.Key, noon); !errors.Is(err, buffer.ErrNoMessage) {
		t.Errorf("look-up = %v, want ErrNoMessage until it is stored", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("the first append: %v", err)
	}
	if replayed, err := appendOnce(t.Context(), key); err != nil || !replayed {
		t.Errorf("the append after it = replayed %v, %v; want replayed", replayed, err)
	}
	if _, err := e.Lookup(t.Context(), "orders", key.Key, noon); err != nil {
		t.Errorf("look-up of what is stored: %v", err)
	}
}

// TestLastOutcomeAfterLargeCommit: a commit that is larger than the segment that
// is kept ready gets one of its own. Which of a replayed message's outcomes is
// the last must not depend on which of the two was made first.
func TestLastOutcomeAfterLargeCommit(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	streams := orders("mail")
	streams[0].MaxMessageBytes = 8 * mib
	if err := e.Configure(streams); err != nil {
		t.Fatal(err)
	}
	fill(t, e, 0, 12, 60_000) // more than half a segment: the next is made ready
	waitFor(t, "a segment is made ready", func() bool { return len(files(t, dir, "seg-*")) == 2 })
	if ds, _, err := e.Take("mail", noon, 1); err != nil || len(ds) != 1 {
		t.Fatal(ds, err)
	}
	fill(t, e, 12, 1, 4*mib) // into a segment of its own
	e.Bury("mail", 0, buffer.ReasonPermanent, buffer.Result{At: noon, Attempts: 1, Status: 422})
	if _, err := e.Replay(t.Context(), "mail", []uint64{0}, noon); err != nil {
		t.Fatal(err)
	}
	fill(t, e, 13, 15, 60_000) // the last of them into the next one
	if ds, _, err := e.Take("mail", noon, 1); err != nil || len(ds) != 1 || ds[0].Offset != 0 {
		t.Fatal(ds, err)
	}
	e.Ack("mail", 0, buffer.Result{At: noon.Add(time.Minute), Attempts: 2, Status: 200})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(files(t, dir, filepath.Join("outcomes", "*.out"))); got != 2 {
		t.Fatalf("%d files of outcomes, want one of each segment that ended something", got)
	}
	e = open(t, dir)
	if err := e.Configure(streams); err != nil {
		t.Fatal(err)
	}
	st, err := e.Find(buffer.Ref{Stream: "orders"}, noon.Add(time.Hour))
	if err != nil || st.State() != buffer.Delivered || st.Drains[0].Attempts != 2 {
		t.Errorf("a message that was buried, replayed and delivered is %+v, %v; want delivered with the second attempt", st, err)
	}
}
