package drain

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// hang is a connect that hangs until a time.
func hang(until time.Time) func() time.Duration {
	return func() time.Duration { return max(0, time.Until(until)) }
}

// What was taken while connecting hung is not written in a bunch, whether drain or
// sink sets the rate, and the rate is back at once.
func TestRunDoesNotBunchAfterAStall(t *testing.T) {
	tests := map[string]*policies.Set{
		"the schedule": set(base(10), wide()),
		"the budget":   set(base(1000), policies.Budget{Limit: limit(10, 1), Concurrency: 64}),
		"two drains":   set(base(1000), policies.Budget{Limit: limit(10, 1), Concurrency: 64}),
	}
	e := tests["two drains"].Drains[0]
	e.Name = "e"
	tests["two drains"].Drains = append(tests["two drains"].Drains, e)
	for name, policy := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []string{"d", "e"}, func(b *bench) {
				s := b.sinks["service"]
				from := time.Now()
				s.connect = hang(from.Add(6 * time.Second))
				b.apply(policy)
				b.fill(2000)
				b.pass(6*time.Second - 1)
				if n := s.atOnce(); n != 0 {
					t.Fatalf("%d attempts while connecting hangs", n)
				}
				b.pass(54 * time.Second)
				times := s.began(from)
				b.wantInside(times, 10, 2) // a burst of one, and one more
				if n := len(times); n < 535 {
					t.Errorf("%d attempts in the 54 s after the stall at 10/s", n)
				}
				if n := b.stats("d").InFlight; n > 6 {
					t.Errorf("%d are held long after the stall, which is over half a second", n)
				}
			})
		})
	}
}

// Connects that always take long, and never as long, cost no rate.
func TestRunKeepsTheRateWithSlowConnects(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		random := rand.New(rand.NewPCG(7, 8))
		var mu sync.Mutex
		s := b.sinks["service"]
		s.connect = func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return time.Duration(50+random.IntN(100)) * time.Millisecond
		}
		b.apply(set(base(100), wide()))
		b.fill(10_000)
		from := time.Now()
		b.pass(60 * time.Second)
		times := s.began(from)
		b.wantInside(times, 100, 2)
		if n := len(times); n < 5940 {
			t.Errorf("%d attempts in a minute at 100/s", n)
		}
	})
}

// What was connecting when the window ended, an operator paused the drain, or the
// sink asked to be left alone, is not written, and leaves when it may.
func TestRunWritesNothingThatMayNotLeaveAnyMore(t *testing.T) {
	tests := map[string]func(b *bench){
		"the window": func(b *bench) {},
		"a pause": func(b *bench) {
			b.must(b.drains.Pause("d", time.Now().Add(20*time.Minute), "INC-1"))
		},
		"the sink": func(b *bench) {
			sink := b.drains.drain("d").sink()
			sink.heard(time.Now(), asked{wanted: 20 * time.Minute, honoured: 20 * time.Minute})
		},
	}
	for name, intervene := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				schedule := base(10)
				if name == "the window" {
					schedule = nightly(t)
					b.pass(389*time.Minute + 55*time.Second)
				}
				s := b.sinks["service"]
				from := time.Now()
				s.connect = hang(from.Add(10 * time.Second))
				b.apply(set(schedule, wide()))
				b.fill(30)
				b.pass(4 * time.Second)
				intervene(b)
				b.pass(10 * time.Minute)
				if n := len(s.began(from)); n != 0 {
					t.Errorf("%d attempts were written", n)
				}
				if got := b.stats("d"); got.Pending != 30 || b.drains.Budget("service").InFlight() != 0 {
					t.Errorf("%+v, %d slots taken; want all 30 pending", got, b.drains.Budget("service").InFlight())
				}
				b.pass(24 * time.Hour)
				b.wantDelivered("d", 30)
			})
		})
	}
}

// A retry that was not written counts as one that waits, and its tries as before.
func TestRunPutsBackWhatIsNotWritten(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		b.drains.cfg.Random = func(n int64) int64 { return n - 1 } // no jitter
		s.answer = func(Delivery) Outcome {
			s.connect = hang(time.Now().Add(10 * time.Second)) // one attempt at a time
			return Outcome{Status: 500, Error: "status 500"}
		}
		b.apply(set(base(10), wide()))
		b.fill(1)
		b.pass(5 * time.Second) // the second attempt connects
		b.must(b.drains.Pause("d", time.Time{}, "INC-1"))
		b.pass(time.Minute)
		stands, _ := b.buf.Standing("d", 0)
		if n := b.drains.drain("d").scheduled.Load(); stands.State != buffer.Scheduled || stands.Attempts != 1 || n != 1 {
			t.Errorf("%+v after an attempt that was not written, %d counted as scheduled", stands, n)
		}
	})
}
