package drain

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"forebay/limiter"
	"forebay/policies"
)

// What the core predicts is what the core then does.
func TestCoreETA(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rates := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.2, 20), rapid.Float64Range(20, 2000))
		stretches := []stretch{}
		var from time.Duration
		for range rapid.IntRange(1, 5).Draw(t, "stretches") {
			stretches = append(stretches, stretch{from, limiter.Rate(rates.Draw(t, "rate"))})
			from += time.Duration(rapid.IntRange(1, 60).Draw(t, "length")) * time.Second
		}
		sinkRate := limiter.Rate(rapid.Float64Range(0.5, 2000).Draw(t, "sink rate"))
		sinkBurst := max(pace(sinkRate, Batch{}).Burst, rapid.IntRange(1, 300).Draw(t, "sink burst"))
		c := newCore(start(), calendar(stretches...), limiter.NewBudget(start(), limit(sinkRate, sinkBurst), 1000))
		ahead := rapid.IntRange(0, 5000).Draw(t, "ahead")
		eta, ok := c.eta(start(), float64(ahead)+1, outlook{}, crowd{})

		var left time.Time
		n := 0
		run(c, 24*time.Hour, func(int) time.Duration { return 0 }, func(now time.Time, k int) {
			if n <= ahead && ahead < n+k {
				left = now
			}
			n += k
			if n > ahead { // enough seen: nothing is permitted from here on
				c.setSchedule(now, always(0))
			}
		})
		if ok != !left.IsZero() {
			t.Fatalf("eta ok = %v, but left = %v after %d attempts", ok, left, n)
		}
		if !ok {
			return
		}
		wait, got := left.Sub(start()), eta.Sub(start())
		if off := (got - wait).Abs(); off > max(50*time.Millisecond, wait/20) {
			t.Fatalf("eta %v, left after %v", got, wait)
		}
	})
}

func TestCoreETAWithoutRate(t *testing.T) {
	tests := []struct {
		name   string
		at     func(time.Time) policies.Window
		budget *limiter.Budget
		n      float64
	}{
		{"never", always(0), unlimitedBudget(), 1},
		{"a window that closes for good", calendar(stretch{0, 10}, stretch{time.Minute, 0}), unlimitedBudget(), 601},
		{"a sink with rate 0", always(10), limiter.NewBudget(start(), limit(0, 1), 1), 1},
		{"beyond 400 days", always(1), unlimitedBudget(), 1e9},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCore(start(), tt.at, tt.budget)
			if at, ok := c.eta(start(), tt.n, outlook{}, crowd{}); ok {
				t.Errorf("eta of message %v = %v, want none", tt.n, at)
			}
		})
	}
}

func TestCoreETAAfterPause(t *testing.T) {
	c := newCore(start(), calendar(stretch{0, 10}, stretch{time.Minute, 20}), unlimitedBudget())
	got, ok := c.eta(start(), 101, outlook{pause: start().Add(2 * time.Minute)}, crowd{})
	if want := start().Add(2*time.Minute + 5*time.Second); !ok || got.Sub(want).Abs() > ms(1) {
		t.Errorf("eta of message 101 at 20/s after a pause of 2 min = %v, %v; want %v", got, ok, want)
	}
}

func TestCoreETAUnlimited(t *testing.T) {
	c := newCore(start(), calendar(stretch{0, 0}, stretch{time.Hour, limiter.Unlimited}), unlimitedBudget())
	got, ok := c.eta(start(), 1e6, outlook{}, crowd{})
	if want := start().Add(time.Hour); !ok || !got.Equal(want) {
		t.Errorf("eta in an unlimited window = %v, %v; want its edge %v", got, ok, want)
	}
}

func TestCoreOpens(t *testing.T) {
	c := newCore(start(), calendar(stretch{0, 5}, stretch{time.Hour, 0}, stretch{2 * time.Hour, 7}, stretch{3 * time.Hour, 0}), unlimitedBudget())
	for from, want := range map[time.Duration]time.Duration{
		time.Minute: time.Minute, time.Hour: 2 * time.Hour, 90 * time.Minute: 2 * time.Hour, 150 * time.Minute: 150 * time.Minute,
	} {
		if got := c.opens(start().Add(from)); !got.Equal(start().Add(want)) {
			t.Errorf("from %v on it opens %v after start, want %v", from, got.Sub(start()), want)
		}
	}
	if got := c.opens(start().Add(4 * time.Hour)); !got.IsZero() {
		t.Errorf("closed for good, and opens at %v", got)
	}
}

func TestCoreChange(t *testing.T) {
	c := newCore(start(), calendar(stretch{0, 5}, stretch{time.Hour, 5}, stretch{2 * time.Hour, 7}), unlimitedBudget())
	at, w, ok := c.change(start())
	if want := start().Add(2 * time.Hour); !ok || !at.Equal(want) || w.Rate != 7 {
		t.Errorf("change = %v, %v, %v; want 7/s at %v", at, w, ok, want)
	}
	if _, _, ok := newCore(start(), always(5), unlimitedBudget()).change(start()); ok {
		t.Error("a change where the rate is always the same")
	}
}
