package drain

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// breaking is a policy whose sink has a breaker and a slow start.
func breaking(rate limiter.Rate, budget policies.Budget) *policies.Set {
	s := set(base(rate), budget)
	s.Sinks[0].Breaker = halfOf(50)
	s.Sinks[0].SlowStart = 30 * time.Second
	return s
}

// An hour without the sink buries nothing, shows it a handful of messages, and
// what waits leaves in a slow start when it is back.
func TestRunStopsAtABreaker(t *testing.T) {
	for _, outcome := range []Outcome{{Error: "connection refused"}, {Class: Timeout, Error: "timeout"}, {Status: 503}} {
		inBubble(t, []string{"d", "e"}, func(b *bench) {
			s := b.sinks["service"]
			from := time.Now()
			back := from.Add(time.Hour)
			s.answer = func(Delivery) Outcome {
				if time.Now().Before(back) {
					return outcome
				}
				return Outcome{Class: Success, Status: 200}
			}
			s.takes = 100 * time.Millisecond
			policy := breaking(100, policies.Budget{Limit: limit(100, 10), Concurrency: 8})
			e := policy.Drains[0]
			e.Name = "e"
			policy.Drains = append(policy.Drains, e)
			b.apply(policy)
			b.fill(1_500)
			b.pass(10 * time.Minute)
			if n := len(s.began(from.Add(2 * time.Second))); n < 35 || n > 42 {
				t.Errorf("%d probes in 10 min, want one every 15 s", n)
			}
			for _, status := range b.drains.Status(time.Now()) {
				if status.Binding != Breaker || status.Permitted != 0 || status.State != Blocked {
					t.Errorf("status with the breaker open: %+v", status)
				}
			}
			b.pass(50 * time.Minute)
			if n := len(s.seen()); n > 300 {
				t.Errorf("the sink that was down saw %d messages of 3,000", n)
			}
			b.pass(15 * time.Second)
			b.wantSlowStart(s)
			b.pass(10 * time.Minute)
			b.wantDelivered("d", 1_500)
			b.wantDelivered("e", 1_500)
		})
	}
}

// wantSlowStart checks what a sink of 100/s got since it came back, which was
// within the last open_for.
func (b *bench) wantSlowStart(s *fakeSink) {
	b.t.Helper()
	status := b.drains.Status(time.Now())[0]
	if status.Binding != SlowStart && status.Binding != Breaker {
		b.t.Errorf("binding %s after the sink is back", status.Binding)
	}
	b.pass(time.Minute)
	times := s.began(time.Now().Add(-time.Minute - 15*time.Second))
	probe := times[0]
	for _, check := range []struct {
		after     time.Duration
		low, high int
	}{{time.Second, 1, 12}, {10 * time.Second, 150, 230}, {30 * time.Second, 1350, 1600}} {
		if n := len(between(times, probe, probe.Add(check.after))); n < check.low || n > check.high {
			b.t.Errorf("%d attempts in the %v after the probe, want %d … %d", n, check.after, check.low, check.high)
		}
	}
	b.wantInside(times, 100, 10)
}

// Two drains share the one probe, and a probe that is cut off frees it.
func TestRunProbesOneAtATime(t *testing.T) {
	inBubble(t, []string{"d", "e"}, func(b *bench) {
		s := b.sinks["service"]
		var down atomic.Bool
		down.Store(true)
		s.answer = func(Delivery) Outcome {
			if down.Load() {
				return Outcome{Error: "connection refused"}
			}
			return Outcome{Class: Success, Status: 200}
		}
		policy := breaking(limiter.Unlimited, wide())
		e := policy.Drains[0]
		e.Name = "e"
		policy.Drains = append(policy.Drains, e)
		b.apply(policy)
		b.fill(500)
		b.pass(time.Second)
		opened := time.Now()
		s.slow(10 * time.Second)
		b.pass(60 * time.Second)
		times := s.began(opened)
		for i := 1; i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap < 25*time.Second {
				t.Errorf("probes %v apart, want 10 s under way and 15 s open", gap)
			}
		}
		if len(times) < 2 || len(times) > 3 {
			t.Errorf("%d probes in a minute", len(times))
		}
		s.slow(0)
		down.Store(false)
		b.pass(2 * time.Minute)
		b.wantDelivered("d", 500)
		b.wantDelivered("e", 500)
	})
}

// A breaker that a new policy switches off lets everything through at once.
func TestApplySwitchesTheBreakerOff(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		s.answer = func(Delivery) Outcome { return Outcome{Error: "connection refused"} }
		b.apply(breaking(100, wide()))
		b.fill(500)
		b.pass(10 * time.Second)
		was := len(s.began(time.Time{}))
		without := set(base(100), wide())
		b.apply(without)
		b.pass(time.Second)
		if n := len(s.began(time.Time{})) - was; n < 90 {
			t.Errorf("%d attempts in the second after the breaker went", n)
		}
		if s.closes() != 0 {
			t.Error("a change of the breaker rebuilt the sink")
		}
	})
}

func TestETAThroughASlowStart(t *testing.T) {
	for _, n := range []int{10, 400, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				s := b.sinks["service"]
				var down atomic.Bool
				down.Store(true)
				s.answer = func(Delivery) Outcome {
					if down.Load() {
						return Outcome{Error: "connection refused"}
					}
					return Outcome{Class: Success, Status: 200}
				}
				policy := breaking(limiter.Unlimited, policies.Budget{Limit: limit(100, 5), Concurrency: 64})
				policy.Drains[0].Retry.Initial, policy.Drains[0].Retry.Max = 1, 1
				b.apply(policy)
				b.fill(n + 100)
				b.pass(5 * time.Second)
				down.Store(false)
				now := time.Now()
				waiting := b.stats("d").Pending + b.stats("d").Scheduled
				eta, _, note := b.drains.ETA("d", now, time.Time{}, waiting-1)
				if note != "" {
					t.Fatalf("note %q", note)
				}
				b.pass(10 * time.Minute)
				b.wantDelivered("d", uint64(n+100))
				times := s.began(now)
				left := times[len(times)-1]
				if off := left.Sub(eta).Abs(); off > max(time.Second, left.Sub(now)/50) {
					t.Errorf("the last of %d left after %v, eta was %v", waiting, left.Sub(now), eta.Sub(now))
				}
			})
		})
	}
}
