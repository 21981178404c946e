package drain

import (
	"strings"
	"testing"
	"time"

	"forebay/limiter"
)

// resting has a sink ask for ten minutes, once, and passes one of them.
func resting(t *testing.T, test func(b *bench, s *fakeSink)) {
	t.Helper()
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		asked := time.Time{}
		s.answer = func(Delivery) Outcome {
			if asked.IsZero() {
				asked = time.Now()
				return Outcome{Status: 429, RetryAfter: 10 * time.Minute}
			}
			return Outcome{Class: Success, Status: 200}
		}
		policy := set(base(limiter.Unlimited), wide())
		policy.Sinks[0].Budget.Concurrency = 1
		b.apply(policy)
		b.fill(5)
		b.pass(time.Minute)
		test(b, s)
	})
}

func wantResting(t *testing.T, b *bench, s *fakeSink) {
	t.Helper()
	if n := len(s.began(time.Time{})); n != 1 {
		t.Errorf("%d attempts, want the one that was answered with a pause", n)
	}
	w, _ := b.drains.Why(time.Now(), "d")
	if text := showWhy(w, time.Now()); w.Binding != RetryAfter || !strings.Contains(text, "the sink asked for 10m0s") {
		t.Errorf("why: %s", text)
	}
}

// A pause that a sink asked for outlasts a restart, and is over when it would have been.
func TestRestOutlivesARestart(t *testing.T) {
	resting(t, func(b *bench, s *fakeSink) {
		policy := set(base(limiter.Unlimited), wide())
		b.restart(policy)
		b.pass(time.Minute)
		b.restart(policy)
		b.pass(8*time.Minute - time.Second)
		wantResting(t, b, s)
		b.pass(2 * time.Second)
		b.wantDelivered("d", 5)
	})
}

// It belongs to a name: while the policy has no such sink it goes on.
func TestRestOutlivesItsSink(t *testing.T) {
	resting(t, func(b *bench, s *fakeSink) {
		policy := set(base(limiter.Unlimited), wide())
		renamed := set(base(limiter.Unlimited), wide())
		renamed.Sinks[0].Name, renamed.Drains = "other", nil
		b.apply(renamed)
		b.pass(time.Minute)
		b.restart(renamed)
		b.pass(time.Minute)
		b.apply(policy)
		b.pass(time.Minute)
		wantResting(t, b, s)
		b.pass(6*time.Minute + time.Second)
		b.wantDelivered("d", 5)
	})
}

// Whoever honours less from now on does not wait for one that was a mistake.
func TestRestIsHonouredForLess(t *testing.T) {
	resting(t, func(b *bench, _ *fakeSink) {
		policy := set(base(limiter.Unlimited), wide())
		policy.Drains[0].Retry.HonourRetryAfter = time.Minute
		b.restart(policy)
		b.pass(time.Minute + time.Second)
		b.wantDelivered("d", 4) // all but the one that was told, whose retry it is
	})
}

// Where the clock was set back meanwhile it lasts no longer than it was asked for.
func TestRestAndTheClock(t *testing.T) {
	resting(t, func(b *bench, _ *fakeSink) {
		for i := range b.rest {
			b.rest[i].Until = b.rest[i].Until.Add(24 * time.Hour)
		}
		b.restart(set(base(limiter.Unlimited), wide()))
		b.pass(10*time.Minute + time.Second)
		b.wantDelivered("d", 5)
	})
}
