package drain

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/buffertest"
	"forebay/limiter"
	"forebay/policies"
)

// infeasible is a policy in which messages are late after so long.
func infeasible(s policies.Schedule, b policies.Budget, delay time.Duration) *policies.Set {
	p := set(s, b)
	p.Drains[0].Deadline = policies.Deadline{MaxDelay: delay, OnExpire: policies.EndExpire}
	return p
}

// letIn appends messages one by one for as long as they are feasible, at most so many.
func (b *bench) letIn(most int) (n int, again time.Time) {
	for n < most {
		again, ok := b.drains.Feasible("orders", time.Now(), 1)
		if !ok {
			return n, again
		}
		b.fill(1)
		n++
	}
	return n, time.Time{}
}

// What is let in makes it, and the next would not have: on schedules with windows,
// ramps, a floor, urgency and a sink that is slower.
func TestFeasibleAtTheBound(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 8))
	for i := range 8 {
		s := nightly(t)
		s.Base, s.Floor = limiter.Rate(random.IntN(3))/10, limiter.Rate(random.IntN(2))/20
		s.Entries[0].Rate, s.Entries[0].Ramp = limiter.Rate(random.IntN(4))/2, time.Duration(random.IntN(3))*time.Hour
		budget := wide()
		if random.IntN(2) == 0 {
			budget.Limit = limit(limiter.Rate(1+random.IntN(8))/10, 1)
		}
		p := infeasible(s, budget, time.Duration(30+random.IntN(300))*time.Minute)
		if random.IntN(2) == 0 {
			p.Drains[0].Deadline.UrgentBefore, p.Drains[0].Deadline.UrgentRate = p.Drains[0].Deadline.MaxDelay/3, 1
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) { // from midnight on
				b.apply(p)
				b.pass(time.Minute)
				n, again := b.letIn(30_000)
				begin := time.Now()
				t.Logf("%d in %v: base %v floor %v night %v ramp %v sink %v, urgent %v", n, p.Drains[0].Deadline.MaxDelay,
					s.Base, s.Floor, s.Entries[0].Rate, s.Entries[0].Ramp, budget.Limit.Rate, p.Drains[0].Deadline.UrgentRate)
				extra := 4 // one may leave with a token that is there, others by rounding
				if p.Drains[0].Deadline.UrgentRate > 0 {
					extra += 4 // which may come a moment sooner than is counted on
				}
				b.fill(extra)
				b.pass(p.Drains[0].Deadline.MaxDelay + 10*time.Second)
				if d := b.stats("d"); d.Delivered < uint64(n) || d.Expired == 0 {
					t.Errorf("%d were let in, %d more were not: %d delivered, %d expired", n, extra, d.Delivered, d.Expired)
				}
				if !again.IsZero() && again.Before(begin) {
					t.Errorf("feasible again %v ago", begin.Sub(again))
				}
			})
		})
	}
}

// Who comes back when told to is let in, and not much before.
func TestFeasibleAgain(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(infeasible(nightly(t), wide(), 2*time.Hour))
		b.pass(time.Hour)
		n, again := b.letIn(30_000)
		if n < 14_395 || n > 14_400 {
			t.Errorf("%d are feasible within 2 h at 2/s", n)
		}
		if wait := time.Until(again); wait < 0 || wait > time.Second {
			t.Errorf("again in %v at 2/s", wait)
		}
		b.fill(7200)
		b.pass(recountEvery)
		if again, ok := b.drains.Feasible("orders", time.Now(), 600); ok || time.Until(again) < 64*time.Minute || time.Until(again) > 66*time.Minute {
			t.Errorf("an hour's worth over the bound, and 600: %v, again in %v", ok, time.Until(again))
		}
		b.must(b.drains.Pause("d", time.Time{}, "")) // changes nothing of what is feasible
		b.pass(time.Second)
		if again, ok := b.drains.Feasible("orders", time.Now(), 1); ok || time.Until(again) > 61*time.Minute {
			t.Errorf("while paused: %v, again in %v", ok, time.Until(again))
		}
		b.must(b.drains.Resume("d"))
		b.pass(time.Until(again) + 59*time.Minute)
		if _, ok := b.drains.Feasible("orders", time.Now(), 1); ok {
			t.Error("feasible a minute too soon")
		}
		b.pass(2 * time.Minute)
		if _, ok := b.drains.Feasible("orders", time.Now(), 1); !ok {
			t.Error("not feasible when it was to be")
		}
	})
}

// What has no deadline, or is delivered late, is always feasible; a reload is felt at
// once; a batch is let in whole or not at all; the slowest of several drains counts.
func TestFeasibleByPolicy(t *testing.T) {
	inBubble(t, []string{"d", "e"}, func(b *bench) {
		ask := func(n int) bool {
			_, ok := b.drains.Feasible("orders", time.Now(), n)
			if ok && n < 1e6 {
				b.fill(n)
			}
			return ok
		}
		p := infeasible(base(1), wide(), time.Hour)
		b.apply(p)
		if ask(3700) || !ask(3000) || ask(3000) || !ask(500) {
			t.Error("batches are not judged by what fits")
		}
		late := infeasible(base(1), wide(), time.Hour)
		late.Drains[0].Deadline.OnExpire = policies.EndDeliver
		if b.apply(late); !ask(1e6) {
			t.Error("on_expire: deliver refuses")
		}
		if b.apply(set(base(1), wide())); !ask(1e6) {
			t.Error("a drain without a deadline refuses")
		}
		b.pass(time.Second)
		two := infeasible(base(1e6), wide(), time.Hour)
		e := two.Drains[0]
		e.Name, e.Schedule = "e", base(2) // there wait as many as were filled in
		two.Drains = append(two.Drains, e)
		if b.apply(two); !ask(3000) || ask(1000) {
			t.Error("the slower of two drains does not count")
		}
		if b.apply(infeasible(base(0), wide(), time.Hour)); ask(1) {
			t.Error("a drain that stands still lets something in")
		}
		if again, _ := b.drains.Feasible("orders", time.Now(), 1); !again.IsZero() {
			t.Errorf("a drain that stands still for good lets in at %v", again)
		}
		if b.apply(infeasible(base(limiter.Unlimited), wide(), time.Hour)); !ask(1e6) {
			t.Error("what is unlimited refuses")
		}
	})
}

func BenchmarkFeasible(b *testing.B) {
	for name, p := range map[string]*policies.Set{
		"none": set(base(1e6), wide()), "deadline": infeasible(base(1e6), wide(), time.Hour),
	} {
		mem := buffertest.NewMem(buffer.Stream{Name: "orders", Drains: []string{"d"}})
		d := New(Config{NewSink: func(policies.Sink) (Sink, error) { return &fakeSink{}, nil }}, mem, slog.New(slog.DiscardHandler), nil)
		if err := d.Apply(p); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			now := time.Now()
			for b.Loop() {
				d.Feasible("orders", now, 1)
			}
		})
	}
}
