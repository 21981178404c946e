package drain

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"forebay/policies"
)

// halver refuses every batch but single messages, and sends the halves of what it
// refused again.
type halver struct{ *fakeSink }

// Deliver implements Sink.
func (s halver) Deliver(ctx context.Context, msgs []Delivery) []Outcome {
	if Begin(ctx) != nil {
		return slices.Repeat([]Outcome{{Unsent: true}}, len(msgs))
	}
	s.begin(msgs)
	s.end()
	if len(msgs) == 1 {
		return []Outcome{{Class: Success, Status: 200}}
	}
	var outcomes []Outcome
	for _, half := range [][]Delivery{msgs[:len(msgs)/2], msgs[len(msgs)/2:]} {
		again, err := Again(ctx, half)
		if err != nil {
			outcomes = append(outcomes, slices.Repeat([]Outcome{{Class: Retry, Error: "cut short"}}, len(half))...)
			continue
		}
		outcomes = append(outcomes, s.Deliver(again, half)...)
	}
	return outcomes
}

// What is sent again within an attempt keeps to the rate too.
func TestAgainKeepsTheRate(t *testing.T) {
	inBatches(t, Batch{Messages: 16, Wait: time.Second}, func(b *bench, s *fakeSink) {
		b.wrap = func(s *fakeSink) Sink { return halver{s} }
		b.apply(set(base(400), policies.Budget{Limit: limit(200, 16), Concurrency: 4}))
		from := time.Now()
		b.fill(160)
		b.pass(10 * time.Second)
		b.wantDelivered("d", 160)
		times := s.began(from) // of 16 messages each once in 16, 8, 4, 2 and alone
		if len(times) != 5*160 {
			t.Errorf("%d messages sent, want %d", len(times), 5*160)
		}
		b.wantInside(times, 200, 16)
		if took := times[len(times)-1].Sub(from).Seconds(); took < 3.8 || took > 4.3 {
			t.Errorf("800 messages at 200/s took %v s", took)
		}
	})
}

// The end of a window ends what would be sent again.
func TestAgainEndsWithThePause(t *testing.T) {
	inBatches(t, Batch{Messages: 16, Wait: time.Second}, func(b *bench, s *fakeSink) {
		b.wrap = func(s *fakeSink) Sink { return halver{s} }
		b.apply(set(base(16), wide()))
		b.fill(16)
		b.pass(1500 * time.Millisecond)
		b.must(b.drains.Pause("d", time.Time{}, "INC-1"))
		before := len(s.began(time.Time{}))
		b.pass(time.Minute)
		if after := len(s.began(time.Time{})); after != before {
			t.Errorf("%d messages were sent during a pause", after-before)
		}
		if got := b.stats("d"); got.Scheduled+got.Delivered != 16 || got.Scheduled == 0 {
			t.Errorf("%d wait, %d delivered, want 16", got.Scheduled, got.Delivered)
		}
	})
}

func TestAgainOutsideOfADrain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if got, err := Again(ctx, nil); err != nil || got != ctx {
		t.Errorf("Again = %v, %v", got, err)
	}
	cancel()
	if _, err := Again(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Again after the end = %v", err)
	}
}
