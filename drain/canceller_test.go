package drain

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
	"forebay/buffer/buffertest"
	"forebay/policies"
)

// searching is a buffer whose cancels take their time, and are counted.
type searching struct {
	*buffertest.Mem
	takes time.Duration

	mu       sync.Mutex
	cancels  int // guarded by mu
	inFlight int // guarded by mu
	most     int // guarded by mu
}

func (b *searching) CancelKey(ctx context.Context, stream, key string, now time.Time) (int, error) {
	b.mu.Lock()
	b.cancels++
	b.inFlight++
	b.most = max(b.most, b.inFlight)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.inFlight--
		b.mu.Unlock()
	}()
	n, err := b.Mem.CancelKey(ctx, stream, key, now) // what comes later is not seen
	select {
	case <-time.After(b.takes):
		return n, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// cancelling runs a drain whose sink asks to cancel the SKU of every tenth order.
func cancelling(t *testing.T, may bool, takes time.Duration, test func(b *searching, s *fakeSink, d *Drains, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &searching{Mem: buffertest.NewMem(buffer.Stream{Name: "orders", Drains: []string{"d"}}), takes: takes}
		s := &fakeSink{answer: func(m Delivery) Outcome {
			o := Outcome{Class: Success, Status: 200}
			if m.Offset%10 == 0 {
				o.CancelKeys = []string{m.CancelKeys[0]}
			}
			return o
		}}
		d := New(Config{NewSink: func(policies.Sink) (Sink, error) { return s, nil }, StopTimeout: time.Second}, b, slog.New(slog.DiscardHandler), nil)
		policy := set(base(10), wide())
		policy.Sinks[0].MayCancel = may
		if err := d.Apply(policy); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		test(b, s, d, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	})
}

func (b *searching) fill(t *testing.T, skus ...string) {
	t.Helper()
	var msgs []buffer.Message
	for _, sku := range skus {
		msgs = append(msgs, buffer.Message{Method: "POST", Target: "/", CancelKeys: []string{sku}})
	}
	if _, err := b.Append(t.Context(), "orders", time.Now(), msgs); err != nil {
		t.Fatal(err)
	}
}

// A sink that may cancels what waits of a key, and nothing else; one that may not
// cancels nothing.
func TestRunCancelsWhatASinkAsks(t *testing.T) {
	for _, may := range []bool{true, false} {
		cancelling(t, may, 0, func(b *searching, _ *fakeSink, _ *Drains, stop func()) {
			b.fill(t, "shoes", "shoes", "hats", "shoes", "hats")
			time.Sleep(time.Minute)
			stop()
			want := buffer.DrainStats{Delivered: 5}
			if may {
				want = buffer.DrainStats{Delivered: 3, Cancelled: 2}
			}
			if got := b.Stats().Drains[0]; got.Delivered != want.Delivered || got.Cancelled != want.Cancelled {
				t.Errorf("may_cancel %v: %d delivered, %d cancelled; want %d and %d", may, got.Delivered, got.Cancelled, want.Delivered, want.Cancelled)
			}
		})
	}
}

// Cancels are bounded, and those of one key are one; the loop goes on meanwhile,
// and a message is settled when what its answer asked for is done.
func TestRunBoundsCancels(t *testing.T) {
	cancelling(t, true, time.Minute, func(b *searching, s *fakeSink, _ *Drains, stop func()) {
		var skus []string
		for i := range 400 {
			skus = append(skus, fmt.Sprint("sku-", i/10%20)) // every key twice, 20 s apart
		}
		b.fill(t, skus...)
		time.Sleep(30 * time.Second)
		if n := len(s.began(time.Time{})); n < 150 {
			t.Errorf("%d attempts in 30 s at 10/s beside slow cancels", n)
		}
		if got := b.Stats().Drains[0]; got.InFlight < maxCancels {
			t.Errorf("%d in flight while %d cancels last", got.InFlight, maxCancels)
		}
		time.Sleep(time.Hour)
		stop()
		if b.most != maxCancels {
			t.Errorf("%d cancels at once, want %d", b.most, maxCancels)
		}
		if got := b.Stats().Drains[0]; got.Delivered+got.Cancelled != 400 {
			t.Errorf("in the end: %+v", got)
		}
	})
}

// Those who ask for the same key at once share a cancel that began after them.
func TestCancellerSharesACancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &searching{Mem: buffertest.NewMem(buffer.Stream{Name: "orders", Drains: []string{"d"}}), takes: time.Minute}
		c := newCanceller(b, slog.New(slog.DiscardHandler))
		var asking sync.WaitGroup
		for range maxCancels {
			b.fill(t, "shoes")
			asking.Go(func() {
				if err := c.cancel(t.Context(), "orders", "shoes"); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Second)
		}
		asking.Wait()
		if got := b.Stats().Drains[0]; b.cancels != 2 || got.Cancelled != maxCancels || len(c.turns) != 0 {
			t.Errorf("%d cancels ended %d messages, %d keys remembered; want 2, %d and none", b.cancels, got.Cancelled, len(c.turns), maxCancels)
		}
	})
}

// A stop does not wait for a cancel without end: the message is tried again, and
// the sink asked again.
func TestStopAbandonsACancel(t *testing.T) {
	cancelling(t, true, time.Hour, func(b *searching, _ *fakeSink, d *Drains, stop func()) {
		b.fill(t, "shoes")
		time.Sleep(time.Minute)
		from := time.Now()
		stop()
		if took := time.Since(from); took > 2*time.Second {
			t.Errorf("the stop took %v", took)
		}
		if got := b.Stats().Drains[0]; got.Delivered != 0 || got.InFlight != 0 || d.Budget("service").InFlight() != 0 {
			t.Errorf("after the stop: %+v, %d slots taken", got, d.Budget("service").InFlight())
		}
	})
}
