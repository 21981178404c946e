package drain

import (
	"testing"
	"time"

	"forebay/buffer"
)

// wantHead compares what is told of the oldest message; no state is no head.
func (b *bench) wantHead(state buffer.State, waitsFor string) {
	b.t.Helper()
	w, _ := b.drains.Why(time.Now(), "d")
	if w.Head == nil {
		if state != "" {
			b.t.Errorf("no head, want one that is %s and waits for %s", state, waitsFor)
		}
		return
	}
	first := b.buf.ID(buffer.Ref{Stream: "orders"})
	if w.Head.ID != first || w.Head.State != state || w.Head.WaitsFor != waitsFor {
		b.t.Errorf("head = %+v, want %s %s that waits for %q", *w.Head, state, first, waitsFor)
	}
}

// The head is the oldest message, and waits for what its drain is bound by, its
// retry or its answer.
func TestWhyTellsOfTheHead(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		s.takes = time.Second
		b.drains.cfg.Random = func(n int64) int64 { return n - 1 } // no jitter
		s.answer = func(m Delivery) Outcome {
			if m.Offset == 0 && m.Tries.Attempts == 0 {
				return Outcome{Status: 500, Error: "status 500"}
			}
			return Outcome{Class: Success, Status: 200}
		}
		b.apply(set(base(0), wide()))
		b.wantHead("", "")
		b.fill(3)
		b.wantHead(buffer.Queued, "schedule")
		b.must(b.drains.Pause("d", time.Time{}, "INC-1"))
		b.wantHead(buffer.Queued, "paused")
		b.must(b.drains.Resume("d"))
		b.apply(set(base(0.1), wide()))
		b.pass(10500 * time.Millisecond)
		b.wantHead(buffer.Delivering, "the sink's answer")
		b.pass(700 * time.Millisecond) // it failed, and is due a second later
		b.wantHead(buffer.Scheduled, "retry at 2000-01-01T00:00:12.000Z")
		b.pass(2 * time.Second) // it is due, and the schedule is slow
		b.wantHead(buffer.Scheduled, "schedule")
		b.pass(time.Minute)
		b.wantHead("", "")
	})
}

// A message waits for the first of its key where the drain has come by it, else for what
// its drain is bound by, its retry or its answer.
func TestMessageTellsWhatItWaitsFor(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		b.drains.cfg.Random = func(n int64) int64 { return n - 1 } // no jitter
		s.answer = func(Delivery) Outcome { return Outcome{Status: 500, Error: "status 500"} }
		b.apply(set(base(0), wide()))
		msgs := []buffer.Message{{Key: "a"}, {Key: "a"}, {Key: "b"}}
		if _, err := b.buf.Append(t.Context(), "orders", time.Now(), msgs); err != nil {
			t.Fatal(err)
		}
		first := b.buf.ID(buffer.Ref{Stream: "orders"})
		wants := func(ahead uint64, waitsFor ...string) {
			t.Helper()
			w, _ := b.drains.Why(time.Now(), "d")
			for offset, want := range waitsFor {
				ref := buffer.Ref{Stream: "orders", Offset: uint64(offset)}
				h := b.drains.Message(time.Now(), "d", ref, w)
				if h == nil || h.ID != b.buf.ID(ref) || h.WaitsFor != want || offset == 2 && h.Ahead != ahead {
					t.Errorf("message %d: %+v, want one that waits for %s, the last behind %d", offset, h, want, ahead)
				}
			}
		}
		wants(2, "schedule", "schedule", "schedule")
		b.must(b.drains.Pause("d", time.Time{}, "INC-1"))
		wants(2, "paused", "paused", "paused")
		b.must(b.drains.Resume("d"))
		b.apply(set(base(0.1), wide()))
		b.pass(10500 * time.Millisecond)
		wants(2, "retry at 2000-01-01T00:00:11.000Z", "message "+first, "schedule")
		s.slow(time.Minute)
		b.pass(10 * time.Second)
		wants(1, "the sink's answer", "message "+first, "schedule")
		w, _ := b.drains.Why(time.Now(), "d")
		for _, ref := range []buffer.Ref{{Stream: "orders", Offset: 3}, {Stream: "other"}} {
			if h := b.drains.Message(time.Now(), "d", ref, w); h != nil {
				t.Errorf("%v: %+v", ref, h)
			}
		}
		if h := b.drains.Message(time.Now(), "nobody", buffer.Ref{Stream: "orders"}, w); h != nil {
			t.Errorf("of no drain: %+v", h)
		}
	})
}
