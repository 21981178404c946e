package buffer_test

import (
	"testing"
	"time"

	"forebay/buffer"
)

// TestBeginLiveAsks: what is appended while it is looked up whether a key waits counts,
// and is not held back by who only asks.
func TestBeginLiveAsks(t *testing.T) {
	e, err := buffer.Open(t.Context(), buffer.Config{Dir: t.TempDir(), SegmentBytes: mib})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	configure(t, e, "mail")
	appendKeyed := func(key string, size int) {
		t.Helper()
		msg := noise(1, size)
		msg.Key = key
		if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{msg}); err != nil {
			t.Fatal(err)
		}
	}
	for e.Stats().Segments["sealed"] == 0 { // others wait, and their keys are in a file
		appendKeyed("other", 100<<10)
	}
	for _, meanwhile := range []bool{false, true} {
		release := e.StallKeys()
		asked := make(chan buffer.Passage)
		go func() {
			p, err := e.BeginLive(t.Context(), "orders", "a")
			if err != nil {
				t.Error(err)
			}
			asked <- p
		}()
		for limit := time.Now().Add(time.Minute); e.Asking("orders", "a") == 0; {
			if time.Now().After(limit) {
				t.Fatal("nobody asks within a minute")
			}
			<-time.After(time.Millisecond)
		}
		if meanwhile {
			appendKeyed("a", 10)
			if ds := takeKey(t, e, "a"); len(ds) != 1 {
				t.Errorf("%d messages are handed out while somebody asks, want 1", len(ds))
			}
		}
		release()
		p := <-asked
		if (p == nil) != meanwhile {
			t.Errorf("a request passes: %v; a message of its key was appended meanwhile: %v", p != nil, meanwhile)
		}
		if p != nil {
			p.End()
		}
	}
	if n := e.Asking("orders", "a"); n != 0 {
		t.Errorf("%d ask at the end", n)
	}
}

// takeKey takes all, and returns what has the key.
func takeKey(t *testing.T, e *buffer.Engine, key string) (found []buffer.Delivery) {
	t.Helper()
	ds, _, err := e.Take("mail", noon, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range ds {
		if d.Key == key {
			found = append(found, d)
		}
	}
	return found
}
