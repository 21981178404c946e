package drain

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
	"forebay/buffer/buffertest"
	"forebay/limiter"
	"forebay/policies"
)

// slowBuffer takes its time to read.
type slowBuffer struct {
	*buffertest.Mem
	takes time.Duration
}

func (b slowBuffer) Take(drain string, now time.Time, n int) ([]buffer.Delivery, time.Time, error) {
	ds, next, err := b.Mem.Take(drain, now, n)
	time.Sleep(b.takes)
	return ds, next, err
}

// A pause holds once it is laid on, for what is being read too.
func TestPauseHoldsWhatIsBeingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := buffertest.NewMem(buffer.Stream{Name: "orders", Drains: []string{"d"}})
		sink := &fakeSink{}
		cfg := Config{NewSink: func(policies.Sink) (Sink, error) { return sink, nil }}
		d := New(cfg, slowBuffer{mem, 300 * time.Millisecond}, slog.New(slog.DiscardHandler), nil)
		if err := d.Apply(set(base(limiter.Unlimited), wide())); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(time.Second)
		if _, err := mem.Append(ctx, "orders", time.Now(), make([]buffer.Message, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if err := d.Pause("d", time.Time{}, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := len(sink.began(time.Time{})); n != 0 || d.Budget("service").InFlight() != 0 {
			t.Errorf("%d attempts after the pause, %d slots taken", n, d.Budget("service").InFlight())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// What was read while the window ended goes back, and can be cancelled.
func TestRunHoldsNothingAcrossAnEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := buffertest.NewMem(buffer.Stream{Name: "orders", Drains: []string{"d"}})
		sink := &fakeSink{}
		cfg := Config{NewSink: func(policies.Sink) (Sink, error) { return sink, nil }}
		d := New(cfg, slowBuffer{mem, 300 * time.Millisecond}, slog.New(slog.DiscardHandler), nil)
		if err := d.Apply(set(nightly(t), wide())); err != nil {
			t.Fatal(err)
		}
		msgs := make([]buffer.Message, 1)
		midnight := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		closes := midnight.Add(390 * time.Minute)
		time.Sleep(closes.Add(-200 * time.Millisecond).Sub(midnight))
		if _, err := mem.Append(ctx, "orders", time.Now(), msgs); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if got := d.Status(time.Now())[0].Permitted; got != 2 {
			t.Errorf("permitted rate %v just before the edge", got)
		}
		time.Sleep(100 * time.Millisecond)
		d.Status(time.Now()) // someone looks at the edge, which moves the core on
		time.Sleep(time.Second)
		if n := len(sink.began(midnight)); n != 0 {
			t.Errorf("%d attempts, though the window ended before the buffer had answered", n)
		}
		if err := mem.Cancel(ctx, buffer.Ref{Stream: "orders"}, time.Now()); err != nil {
			t.Errorf("Cancel of a message that went back = %v", err)
		}
		if got := d.Budget("service").InFlight(); got != 0 {
			t.Errorf("%d slots still taken", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
