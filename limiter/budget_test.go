package limiter_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"forebay/limiter"
)

func signalled(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestBudgetTakesBothOrNothing(t *testing.T) {
	b := limiter.NewBudget(start(), limiter.Limit{Rate: 10, Burst: 2}, 2)
	if got := b.Take(start(), 1); got != limiter.OfTokens {
		t.Errorf("first Take = %v, want OfTokens: a budget starts empty", got)
	}
	if got := b.InFlight(); got != 0 {
		t.Errorf("%d in flight after a Take without tokens", got)
	}
	now := start().Add(time.Second)
	for range 2 {
		if got := b.Take(now, 1); got != limiter.NoShortage {
			t.Fatalf("Take = %v with tokens and slots", got)
		}
	}
	now = now.Add(time.Second)
	if got := b.Take(now, 1); got != limiter.OfSlots {
		t.Errorf("Take with both slots taken = %v, want OfSlots", got)
	}
	b.Release()
	if got := b.Take(now, 2); got != limiter.NoShortage {
		t.Errorf("Take(2) after a Release = %v: the Take that lacked a slot kept its tokens", got)
	}
	b.Return(now, 2)
	if got := b.Take(now, 2); got != limiter.NoShortage {
		t.Errorf("Take(2) after Return(2) = %v", got)
	}
}

func TestBudgetSetKeepsWhatIsInFlight(t *testing.T) {
	b := limiter.NewBudget(start(), limiter.Limit{Rate: limiter.Unlimited, Burst: 1}, 3)
	for range 3 {
		b.Take(start(), 1)
	}
	b.Set(start(), limiter.Limit{Rate: limiter.Unlimited, Burst: 1}, 2)
	b.Release()
	if got := b.Take(start(), 1); got != limiter.OfSlots {
		t.Errorf("Take with 2 in flight of 2 = %v, want OfSlots", got)
	}
	b.Release()
	if got := b.Take(start(), 1); got != limiter.NoShortage {
		t.Errorf("Take with 1 in flight of 2 = %v", got)
	}
}

func TestBudgetWatch(t *testing.T) {
	limit := limiter.Limit{Rate: 1, Burst: 1}
	tests := []struct {
		name  string
		short limiter.Shortage
		event func(*limiter.Budget)
		want  bool
	}{
		{"a slot comes free", limiter.OfSlots, func(b *limiter.Budget) { b.Release() }, true},
		{"a slot does not help who lacks tokens", limiter.OfTokens, func(b *limiter.Budget) { b.Release() }, false},
		{"tokens come back", limiter.OfTokens, func(b *limiter.Budget) { b.Return(start(), 1) }, true},
		{"a slot comes back", limiter.OfSlots, func(b *limiter.Budget) { b.Return(start(), 1) }, true},
		{"a new rate", limiter.OfTokens, func(b *limiter.Budget) { b.Set(start(), limiter.Limit{Rate: 2, Burst: 1}, 1) }, true},
		{"more slots", limiter.OfSlots, func(b *limiter.Budget) { b.Set(start(), limit, 2) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := limiter.NewBudget(start(), limit, 1)
			b.Take(start().Add(time.Second), 1)
			ch, forgotten := make(chan struct{}, 1), make(chan struct{}, 1)
			b.Watch(ch, tt.short)
			b.Watch(forgotten, tt.short)
			b.Forget(forgotten)
			tt.event(b)
			if got := signalled(ch); got != tt.want {
				t.Errorf("signalled = %v, want %v", got, tt.want)
			}
			if signalled(forgotten) {
				t.Error("a signal after Forget")
			}
			b.Set(start(), limit, 5)
			if got := signalled(ch); got == tt.want {
				t.Errorf("second signal = %v; one Watch is one signal", got)
			}
		})
	}
}

// Slots and envelope hold for whatever several takers do.
func TestBudgetEnvelope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(1, 5000).Draw(t, "rate")
		burst := rapid.IntRange(1, 50).Draw(t, "burst")
		slots := rapid.IntRange(1, 20).Draw(t, "slots")
		b := limiter.NewBudget(start(), limiter.Limit{Rate: limiter.Rate(rate), Burst: burst}, slots)
		now, held := start(), 0
		var used []time.Time
		for range rapid.IntRange(1, 200).Draw(t, "operations") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Millisecond)).Draw(t, "step")))
			switch rapid.IntRange(0, 3).Draw(t, "operation") {
			case 0, 1:
				if b.Take(now, 1) == limiter.NoShortage {
					used = append(used, now)
					held++
				}
			case 2:
				if held > 0 {
					b.Release()
					held--
				}
			case 3:
				if held > 0 && len(used) > 0 && used[len(used)-1].Equal(now) {
					b.Return(now, 1)
					held--
					used = used[:len(used)-1]
				}
			}
			if held > slots || b.InFlight() != held {
				t.Fatalf("%d in flight, the budget says %d of %d", held, b.InFlight(), slots)
			}
		}
		for i := range used {
			for j := i; j < len(used); j++ {
				window := used[j].Sub(used[i])
				if most := rate*window.Seconds() + float64(burst); float64(j-i+1) > most+1e-6 {
					t.Fatalf("%d taken in %v, at most %v", j-i+1, window, most)
				}
			}
		}
	})
}
