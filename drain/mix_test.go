package drain

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"forebay/buffer"
	"forebay/buffer/buffertest"
	"forebay/policies"
)

// Whatever sizes the takes have, retries are at most the share of all attempts
// and one more, over any stretch, and with retries enough they are about that.
func TestAllowance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.SampledFrom([]float64{0, 0.05, 0.2, 0.5, 1}).Draw(t, "share")
		var a allowance
		var all, retries []int
		for range rapid.IntRange(1, 60).Draw(t, "takes") {
			n := rapid.IntRange(1, 256).Draw(t, "n")
			due := rapid.IntRange(0, n).Draw(t, "due")
			r := min(due, a.of(n, share))
			a.spent(r, n-r, share)
			all, retries = append(all, n), append(retries, r)
		}
		for i := range all {
			n, r := 0, 0
			for j := i; j < len(all); j++ {
				n, r = n+all[j], r+retries[j]
				if float64(r) > share*float64(n)+1+1e-6 {
					t.Fatalf("takes %d … %d: %d retries of %d attempts, share %v", i, j, r, n, share)
				}
			}
		}
	})
	var a allowance
	retries := 0
	for range 1000 {
		r := a.of(1, 0.2)
		a.spent(r, 1-r, 0.2)
		retries += r
	}
	if retries != 200 {
		t.Errorf("%d retries in 1000 takes of one, want a fifth", retries)
	}
}

// mixingBuffer holds retries back by putting back what it took too many of.
type mixingBuffer struct{ *buffertest.Mem }

func (b mixingBuffer) TakeMix(_ []buffer.Delivery, drain string, now time.Time, n, retries int) ([]buffer.Delivery, time.Time, error) {
	all, next, err := b.Take(drain, now, n+1000)
	var due, untried, surplus []buffer.Delivery
	for _, m := range all {
		if m.Tries.Attempts > 0 {
			due = append(due, m)
		} else {
			untried = append(untried, m)
		}
	}
	firsts := min(len(untried), max(0, n-min(retries, len(due))))
	again := min(len(due), n-firsts)
	surplus = append(due[again:len(due):len(due)], untried[firsts:]...)
	for _, m := range surplus {
		b.Return(drain, m.Offset)
	}
	return append(due[:again:again], untried[:firsts]...), next, err
}

// While first attempts wait a fifth of the attempts are retries; when none does,
// the rest is tried at the full rate.
func TestRunKeepsToTheRetryBudget(t *testing.T) {
	for _, share := range []float64{0.2, 1} {
		synctest.Test(t, func(t *testing.T) {
			mem := buffertest.NewMem(buffer.Stream{Name: "orders", Drains: []string{"d"}})
			const messages = 300
			var firsts, retries atomic.Int64
			sink := &fakeSink{answer: func(m Delivery) Outcome {
				if m.Tries.Attempts > 0 {
					retries.Add(1)
				} else {
					firsts.Add(1)
				}
				if m.Tries.Attempts < 3 {
					return Outcome{Status: 500}
				}
				return Outcome{Class: Success, Status: 200}
			}}
			stop := runDrains(t, mixingBuffer{mem}, sink, share)
			if _, err := mem.Append(t.Context(), "orders", time.Now(), make([]buffer.Message, messages)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Second)
			synctest.Wait()
			got := float64(retries.Load()) / float64(firsts.Load()+retries.Load())
			if share == 0.2 && (got < 0.17 || got > 0.201) || share == 1 && got < 0.5 {
				t.Errorf("%d retries beside %d first attempts with a budget of %v", retries.Load(), firsts.Load(), share)
			}
			time.Sleep(time.Second * 4 * messages / 50)
			synctest.Wait()
			if n := len(sink.began(time.Time{})); n != 4*messages {
				t.Errorf("%d attempts, want all %d once no first attempt waits", n, 4*messages)
			}
			stop()
		})
	}
}

// runDrains runs drain d of orders to a sink; stop ends it and waits.
func runDrains(t *testing.T, buf Buffer, sink Sink, share float64) (stop func()) {
	t.Helper()
	d := New(Config{NewSink: func(policies.Sink) (Sink, error) { return sink, nil }}, buf, slog.New(slog.DiscardHandler), nil)
	policy := set(base(50), wide())
	policy.Drains[0].Retry.Budget = share
	policy.Drains[0].Retry.Initial, policy.Drains[0].Retry.Max = time.Second, time.Second
	if err := d.Apply(policy); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
