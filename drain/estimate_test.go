package drain

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"forebay/limiter"
)

// What an estimate says of a neighbour is what the forecast says of it.
func TestEstimateOfNeighbours(t *testing.T) {
	asked := 0
	rapid.Check(t, func(t *rapid.T) {
		var parts []stretch
		var from time.Duration
		for range rapid.IntRange(1, 5).Draw(t, "stretches") {
			parts = append(parts, stretch{from, limiter.Rate(rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.2, 2000)).Draw(t, "rate"))})
			from += time.Duration(rapid.IntRange(1, 600).Draw(t, "length")) * time.Second
		}
		rate := limiter.Rate(rapid.Float64Range(0.5, 2000).Draw(t, "sink rate"))
		c := newCore(start(), calendar(parts...), limiter.NewBudget(start(), limit(rate, pace(rate, Batch{}).Burst), 1000))
		ahead := float64(rapid.IntRange(0, 200_000).Draw(t, "ahead"))
		at, even, ok := c.evenly(start(), ahead+1, outlook{}, crowd{})
		e := &estimate{made: start(), ahead: ahead, at: at, even: even, share: firstMargin}
		if !ok {
			e.note = "no rate in sight"
		}
		other := float64(rapid.IntRange(0, 200_000).Draw(t, "other"))
		if off := even.before + even.behind; rapid.Bool().Draw(t, "near") && off > 0 {
			other = max(0, ahead-even.before) + min(off, 1e5)*rapid.Float64Range(0, 1).Draw(t, "part")
			other = float64(int(other))
		}
		if !e.covers(start().Add(estimateFor), other) {
			return
		}
		asked++
		got, p90, note := e.leaves(start(), other)
		want, ok := c.eta(start(), other+1, outlook{}, crowd{})
		if ok != (note == "") {
			t.Fatalf("%v ahead: note %q from the estimate of %v; a forecast of its own: %v", other, note, ahead, ok)
		}
		if off := got.Sub(want).Abs(); ok && off > 2*time.Millisecond {
			t.Fatalf("%v ahead: %v from the estimate of %v (%+v); %v from a forecast of its own", other, got.Sub(start()), ahead, even, want.Sub(start()))
		}
		if least := got.Add(time.Second); ok && p90.Before(least) {
			t.Fatalf("p90 %v, want a second after the eta %v at least", p90, got)
		}
	})
	if asked == 0 {
		t.Error("no neighbour was covered")
	}
}

func TestEstimateEnds(t *testing.T) {
	e := &estimate{made: start(), ahead: 1000, at: start().Add(time.Minute), even: even{rate: 100, before: 500, behind: 2000}}
	none := &estimate{made: start(), ahead: 1000, note: "the drain is paused"}
	tests := []struct {
		name  string
		e     *estimate
		after time.Duration
		ahead float64
		want  bool
	}{
		{"its own", e, 0, 1000, true},
		{"the first", e, 0, 500, true},
		{"before the first", e, 0, 499, false},
		{"the last", e, 0, 3000, true},
		{"behind the last", e, 0, 3001, false},
		{"another clock reading", e, -time.Millisecond, 1000, true},
		{"old", e, estimateFor + 1, 1000, false},
		{"none yet", nil, 0, 1000, false},
		{"no rate for those behind either", none, 0, 5000, true},
		{"those before may leave", none, 0, 999, false},
		{"counted one by one", &estimate{made: start(), ahead: 3}, 0, 3, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.e.covers(start().Add(tt.after), tt.ahead); got != tt.want {
				t.Errorf("covers = %v, want %v", got, tt.want)
			}
		})
	}
}
