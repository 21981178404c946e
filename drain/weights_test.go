package drain

import (
	"context"
	"testing"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// weighing is a policy of drains with these weights to one sink.
func weighing(budget policies.Budget, weights map[string]int) *policies.Set {
	s := set(base(limiter.Unlimited), budget)
	like := s.Drains[0]
	s.Drains = nil
	for _, name := range []string{"a", "b", "c"} {
		if w, ok := weights[name]; ok {
			like.Name, like.Weight = name, w
			s.Drains = append(s.Drains, like)
		}
	}
	return s
}

// had counts what each drain delivered while some time passed.
func (b *bench) had(d time.Duration) map[string]float64 {
	n := make(map[string]float64)
	for _, s := range b.buf.Stats().Drains {
		n[s.Drain] -= float64(s.Delivered)
	}
	b.pass(d)
	for _, s := range b.buf.Stats().Drains {
		n[s.Drain] += float64(s.Delivered)
	}
	return n
}

func (b *bench) wantHad(when string, had, want map[string]float64, off float64) {
	b.t.Helper()
	for name, n := range want {
		if diff := had[name] - n; diff > n*off+2 || diff < -n*off-2 {
			b.t.Errorf("%s: %s had %v, want %v within %v; all: %v", when, name, had[name], n, off, had)
		}
	}
}

// Drains that wait for one budget have it in the ratio of their weights, of tokens as
// of slots, and none of it is lost.
func TestWeights(t *testing.T) {
	for name, tt := range map[string]struct {
		budget  policies.Budget
		takes   time.Duration
		weights map[string]int
		whole   float64
	}{
		"1 to 4":           {reserving(100, 1, 64, 0), 0, map[string]int{"a": 1, "b": 4}, 100},
		"1 to 4, fast":     {reserving(2000, 20, 64, 0), 0, map[string]int{"a": 1, "b": 4}, 2000},
		"large burst":      {reserving(500, 200, 64, 0), 0, map[string]int{"a": 4, "b": 1}, 500},
		"three":            {reserving(200, 2, 64, 0), 0, map[string]int{"a": 1, "b": 2, "c": 5}, 200},
		"none said":        {reserving(100, 1, 64, 0), 0, map[string]int{"a": 0, "b": 0}, 100},
		"far apart":        {reserving(1000, 10, 64, 0), 0, map[string]int{"a": 1, "b": 99}, 1000},
		"slots":            {reserving(limiter.Unlimited, 1, 10, 0), 100 * time.Millisecond, map[string]int{"a": 1, "b": 4}, 100},
		"a single slot":    {reserving(limiter.Unlimited, 1, 1, 0), 10 * time.Millisecond, map[string]int{"a": 1, "b": 4}, 100},
		"beside live ones": {reserving(200, 4, 64, 0.5), 0, map[string]int{"a": 1, "b": 4}, 100},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []string{"a", "b", "c"}, func(b *bench) {
				seconds := min(10, 6000/tt.whole) // as good a share takes a fast budget less time
				b.sinks["service"].slow(tt.takes)
				b.apply(weighing(tt.budget, tt.weights))
				b.fill(int((seconds + 4) * tt.whole))
				ctx, stop := context.WithCancel(b.t.Context())
				c := b.callers()
				if tt.budget.ReserveForLive > 0 {
					c.steady(ctx, 20)
				}
				b.pass(2 * time.Second)
				had, sum := b.had(time.Duration(seconds)*time.Second), 0.0
				stop()
				b.pass(time.Second)
				c.group.Wait()
				want := make(map[string]float64)
				for _, w := range tt.weights {
					sum += float64(max(1, w))
				}
				for name, w := range tt.weights {
					want[name] = seconds * tt.whole * float64(max(1, w)) / sum
				}
				b.wantHad("while it was watched", had, want, 0.05)
				if all := had["a"] + had["b"] + had["c"]; all < tt.whole*seconds*0.98 {
					t.Errorf("%v of %v were used", all, tt.whole*seconds)
				}
			})
		})
	}
}

// What a drain does not need is the others' at once; it has no claim to it later, and a
// new weight holds at once.
func TestWeightsOfIdleDrains(t *testing.T) {
	inBubble(t, []string{"a", "b", "c"}, func(b *bench) {
		budget := reserving(1000, 10, 64, 0)
		policy := weighing(budget, map[string]int{"a": 1, "b": 4})
		b.apply(policy)
		b.fill(20_000)
		b.pass(time.Second)
		b.must(b.drains.Pause("b", time.Time{}, "to see"))
		b.wantHad("b is paused, at once", b.had(100*time.Millisecond), map[string]float64{"a": 100, "b": 0}, 0.1)
		b.wantHad("b is paused", b.had(5*time.Second), map[string]float64{"a": 5000, "b": 0}, 0.01)
		b.must(b.drains.Resume("b"))
		b.wantHad("b is back, at once", b.had(200*time.Millisecond), map[string]float64{"a": 40, "b": 160}, 0.25)
		slow := weighing(budget, map[string]int{"a": 1, "b": 4})
		slow.Drains[1].Schedule = base(100)
		b.apply(slow)
		b.pass(time.Second)
		b.wantHad("b's schedule is below its part", b.had(time.Second), map[string]float64{"a": 900, "b": 100}, 0.05)
		b.apply(weighing(budget, map[string]int{"a": 4, "b": 1}))
		b.pass(100 * time.Millisecond)
		b.wantHad("the other way round", b.had(time.Second), map[string]float64{"a": 800, "b": 200}, 0.05)
	})
}
