package drain

import (
	"fmt"
	"math"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"forebay/limiter"
	"forebay/policies"
)

// start is a midnight.
func start() time.Time { return time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC) }

func ms(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }

func limit(rate limiter.Rate, burst int) limiter.Limit {
	return limiter.Limit{Rate: rate, Burst: burst}
}

func always(rate limiter.Rate) func(time.Time) policies.Window {
	return func(time.Time) policies.Window { return policies.Window{Rate: rate, Because: "base"} }
}

// stretch is a rate that holds from so long after start.
type stretch struct {
	from time.Duration
	rate limiter.Rate
}

// calendar is a schedule of stretches; the first begins before all time.
func calendar(stretches ...stretch) func(time.Time) policies.Window {
	return func(now time.Time) policies.Window {
		after := sort.Search(len(stretches), func(i int) bool { return stretches[i].from > now.Sub(start()) })
		i := max(0, after-1)
		w := policies.Window{Rate: stretches[i].rate, Because: fmt.Sprint("w", i)}
		if i+1 < len(stretches) {
			w.Until = start().Add(stretches[i+1].from)
		}
		return w
	}
}

func unlimitedBudget() *limiter.Budget {
	return limiter.NewBudget(start(), limit(limiter.Unlimited, 1), 1_000_000)
}

// show prints a verdict on one line.
func show(now time.Time, want int, v verdict) string {
	again := "-"
	if !v.again.IsZero() {
		again = v.again.Sub(start()).Round(time.Microsecond).String()
	}
	return fmt.Sprintf("%-9v want %-3d take %-3d %-12s again %s", now.Sub(start()), want, v.take, v.binding, again)
}

func TestCoreTraces(t *testing.T) {
	type step struct {
		at    time.Duration
		want  int
		pause time.Duration // after start; 0: none
		free  int           // slots released before
	}
	tests := []struct {
		name   string
		at     func(time.Time) policies.Window
		budget *limiter.Budget
		steps  []step
		want   string
	}{
		{
			name:   "starts empty, and keeps its grid when the timer is late",
			at:     always(100),
			budget: unlimitedBudget(),
			steps:  []step{{at: 0, want: 9}, {at: ms(10), want: 9}, {at: ms(23), want: 9}, {at: ms(30.5), want: 9}, {at: ms(48), want: 9}, {at: ms(50), want: 9}},
			want: `
0s        want 9   take 0   schedule     again 10ms
10ms      want 9   take 1   schedule     again 20ms
23ms      want 9   take 1   schedule     again 30ms
30.5ms    want 9   take 1   schedule     again 40ms
48ms      want 9   take 1   schedule     again 53ms
50ms      want 9   take 0   schedule     again 53ms`,
		},
		{
			name:   "a wait without messages gives no more than the burst",
			at:     always(100),
			budget: unlimitedBudget(),
			steps:  []step{{at: 0, want: 0}, {at: time.Hour, want: 9}, {at: time.Hour + ms(1), want: 9}},
			want: `
0s        want 0   take 0   empty        again -
1h0m0s    want 9   take 1   schedule     again 1h0m0.01s
1h0m0.001s want 9   take 0   schedule     again 1h0m0.01s`,
		},
		{
			// An hour late, a step gives the burst and the 5 ms that any late timer gets.
			name:   "an edge holds exactly one token, rate 0 none",
			at:     calendar(stretch{0, 0}, stretch{time.Hour, 1000}, stretch{2 * time.Hour, 0}),
			budget: unlimitedBudget(),
			steps:  []step{{at: 0, want: 9}, {at: time.Hour + ms(1), want: 9}, {at: time.Hour + ms(1), want: 9}, {at: 2*time.Hour - ms(1), want: 99}, {at: 2*time.Hour - ms(0.5), want: 99}, {at: 2 * time.Hour, want: 9}},
			want: `
0s        want 9   take 0   schedule     again 1h0m0s
1h0m0.001s want 9   take 2   schedule     again 1h0m0.003s
1h0m0.001s want 9   take 0   schedule     again 1h0m0.003s
1h59m59.999s want 99  take 15  schedule     again 2h0m0s
1h59m59.9995s want 99  take 0   schedule     again 2h0m0s
2h0m0s    want 9   take 0   schedule     again -`,
		},
		{
			name:   "the sink's budget binds",
			at:     always(1000),
			budget: limiter.NewBudget(start(), limit(10, 1), 5),
			steps:  []step{{at: 0, want: 9}, {at: ms(100), want: 9}, {at: ms(104), want: 9}, {at: ms(203), want: 9}},
			want: `
0s        want 9   take 0   sink-budget  again 100ms
100ms     want 9   take 1   sink-budget  again 200ms
104ms     want 9   take 0   sink-budget  again 200ms
203ms     want 9   take 1   sink-budget  again 300ms`,
		},
		{
			name:   "an unlimited schedule is bound by slots and budget",
			at:     always(limiter.Unlimited),
			budget: limiter.NewBudget(start(), limit(limiter.Unlimited, 1), 3),
			steps:  []step{{at: 0, want: 2}, {at: 0, want: 9}, {at: ms(1), want: 9, free: 2}, {at: ms(2), want: 1, free: 1}},
			want: `
0s        want 2   take 2   unlimited    again 0s
0s        want 9   take 1   concurrency  again -
1ms       want 9   take 2   concurrency  again -
2ms       want 1   take 1   unlimited    again 2ms`,
		},
		{
			name:   "a pause of the sink",
			at:     always(10),
			budget: unlimitedBudget(),
			steps:  []step{{at: ms(500), want: 9, pause: 3 * time.Second}, {at: 3 * time.Second, want: 9, pause: 3 * time.Second}},
			want: `
500ms     want 9   take 0   retry-after  again 3s
3s        want 9   take 1   schedule     again 3.1s`,
		},
		{
			name:   "a sink that may be sent nothing",
			at:     always(10),
			budget: limiter.NewBudget(start(), limit(0, 1), 3),
			steps:  []step{{at: time.Second, want: 9}},
			want: `
1s        want 9   take 0   sink-budget  again -`,
		},
		{
			name:   "fast drains gather 2 ms of tokens",
			at:     always(20_000),
			budget: unlimitedBudget(),
			steps:  []step{{at: 0, want: 256}, {at: ms(2), want: 256}, {at: ms(5), want: 256}, {at: time.Second, want: 256}},
			want: `
0s        want 256 take 0   schedule     again 2ms
2ms       want 256 take 40  schedule     again 4ms
5ms       want 256 take 60  schedule     again 7ms
1s        want 256 take 256 schedule     again 1s`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCore(start(), tt.at, tt.budget)
			var got strings.Builder
			for _, s := range tt.steps {
				for range s.free {
					tt.budget.Release()
				}
				now := start().Add(s.at)
				var pause time.Time
				if s.pause > 0 {
					pause = start().Add(s.pause)
				}
				fmt.Fprintf(&got, "\n%s", show(now, s.want, c.step(now, s.want, outlook{pause: pause})))
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("trace (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCoreReload(t *testing.T) {
	tests := []struct {
		name     string
		from, to limiter.Rate
		want     time.Duration // until the next token, an hour into the old rate
	}{
		{"a lower rate clamps to its burst", 10_000, 100, 0},
		{"a higher rate adds nothing", 0.5, 1, 0},
		{"from 0 it starts empty", 0, 10, ms(100)},
		{"the same rate is no change", 10, 10, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCore(start(), always(tt.from), unlimitedBudget())
			now := start().Add(time.Hour)
			c.setSchedule(now, always(tt.to))
			if got, most := c.pacer.Level(now), float64(pace(tt.to, Batch{}).Burst); got > most {
				t.Errorf("%v tokens after %v → %v, burst %v", got, tt.from, tt.to, most)
			}
			at, _ := c.pacer.When(now, 1)
			if got := at.Sub(now); got != tt.want {
				t.Errorf("first token %v after %v → %v, want %v", got, tt.from, tt.to, tt.want)
			}
		})
	}
}

// A schedule that was replaced while its window was closed holds at once.
func TestCoreReloadToZero(t *testing.T) {
	c := newCore(start(), always(100), unlimitedBudget())
	now := start().Add(time.Second)
	c.setSchedule(now, always(0))
	if v := c.step(now, 5, outlook{}); v.take != 0 || v.binding != Schedule {
		t.Errorf("after a reload to 0: %s", show(now, 5, v))
	}
	c.setSchedule(now.Add(time.Second), always(100))
	now = now.Add(time.Second)
	if v := c.step(now, 5, outlook{}); v.take != 0 {
		t.Errorf("after a reload from 0: %s", show(now, 5, v))
	}
}

func TestCoreGiveBack(t *testing.T) {
	budget := limiter.NewBudget(start(), limit(100, 10), 10)
	c := newCore(start(), always(1000), budget)
	now := start().Add(time.Second)
	v := c.step(now, 8, outlook{})
	if v.take != 8 || budget.InFlight() != 8 {
		t.Fatalf("took %d, %d in flight; want 8", v.take, budget.InFlight())
	}
	c.giveBack(now, budget, v, 5, 5)
	if budget.InFlight() != 3 {
		t.Errorf("%d in flight after giving 5 of 8 back", budget.InFlight())
	}
	if v := c.step(now, 9, outlook{}); v.take != 7 {
		t.Errorf("took %d after giving 5 of 8 back; want the 7 that are left of 10", v.take)
	}
}

// run steps a core as a loop with late timers would, always with a backlog,
// and returns when each attempt started.
func run(c *core, until time.Duration, late func(i int) time.Duration, started func(now time.Time, n int)) {
	now, end := start(), start().Add(until)
	for i := 0; now.Before(end); i++ {
		v := c.step(now, maxTake, outlook{})
		if v.take > 0 {
			started(now, v.take)
			for range v.take {
				c.budget.Release()
			}
			continue
		}
		if v.again.IsZero() {
			return
		}
		now = later(now, v.again).Add(late(i))
	}
}

func TestCoreMeanRate(t *testing.T) {
	for _, rate := range []limiter.Rate{0.5, 1, 7.3, 10, 99, 100, 150, 199, 500, 999, 2500, 20_000} {
		for _, both := range []bool{false, true} {
			budget := unlimitedBudget()
			if both {
				budget = limiter.NewBudget(start(), pace(rate, Batch{}), 1000)
			}
			c := newCore(start(), always(rate), budget)
			n, until := 0, 200*time.Second
			if rate > 100 {
				until = 10 * time.Second
			}
			// Timers that are up to 5 ms late, in a fixed pattern.
			late := func(i int) time.Duration { return time.Duration(i*i%51) * 100 * time.Microsecond }
			run(c, until, late, func(_ time.Time, k int) { n += k })
			want := float64(rate) * until.Seconds()
			if got := float64(n); got > want+float64(pace(rate, Batch{}).Burst) || got < want*0.995-1 {
				t.Errorf("rate %v, budget the same %v: %v attempts in %v, want %v", rate, both, got, until, want)
			}
		}
	}
}

// Whatever the rates, windows and lateness, attempts stay inside the envelope
// of every stretch and of the sink, with 5 ms of the rate for the grid.
func TestCoreEnvelope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rates := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.5, 20), rapid.Float64Range(20, 3000))
		var stretches []stretch
		var from time.Duration
		for range rapid.IntRange(1, 4).Draw(t, "stretches") {
			stretches = append(stretches, stretch{from, limiter.Rate(rates.Draw(t, "rate"))})
			from += time.Duration(rapid.IntRange(20, 2000).Draw(t, "length")) * time.Millisecond
		}
		sinkRate := limiter.Rate(rapid.Float64Range(1, 3000).Draw(t, "sink rate"))
		sinkBurst := max(pace(sinkRate, Batch{}).Burst, rapid.IntRange(1, 50).Draw(t, "sink burst"))
		budget := limiter.NewBudget(start(), limit(sinkRate, sinkBurst), 1000)
		c := newCore(start(), calendar(stretches...), budget)
		mostLate := rapid.IntRange(0, 12_000).Draw(t, "most late in µs")
		lates := rapid.SliceOfN(rapid.IntRange(0, mostLate), 1, 20).Draw(t, "late")
		var times []time.Time
		late := func(i int) time.Duration { return time.Duration(lates[i%len(lates)]) * time.Microsecond }
		run(c, from, late, func(now time.Time, n int) {
			for range n {
				times = append(times, now)
			}
		})
		checkEnvelope(t, "sink", times, sinkRate, sinkBurst)
		for i, s := range stretches {
			end := from
			if i+1 < len(stretches) {
				end = stretches[i+1].from
			}
			inside := between(times, start().Add(s.from), start().Add(end))
			checkEnvelope(t, fmt.Sprint("stretch ", i), inside, s.rate, pace(s.rate, Batch{}).Burst)
			if s.rate == 0 && len(inside) > 0 {
				t.Fatalf("%d attempts in a window with rate 0", len(inside))
			}
		}
	})
}

func between(times []time.Time, from, to time.Time) []time.Time {
	var in []time.Time
	for _, at := range times {
		if !at.Before(from) && at.Before(to) {
			in = append(in, at)
		}
	}
	return in
}

func checkEnvelope(t *rapid.T, name string, times []time.Time, rate limiter.Rate, burst int) {
	for i := range times {
		for j := i; j < len(times); j++ {
			window := times[j].Sub(times[i]) + maxLate
			if most := float64(rate)*window.Seconds() + float64(burst) + 1e-6; float64(j-i+1) > most {
				t.Fatalf("%s: %d attempts in %v, at most %v", name, j-i+1, window, most)
			}
		}
	}
}

func TestGather(t *testing.T) {
	for rate, want := range map[limiter.Rate]int{0.5: 1, 100: 1, 1000: 2, 20_000: 40, 1e9: 256, limiter.Unlimited: 256} {
		if got := gather(rate, 256); got != want {
			t.Errorf("gather(%v, 256) = %d, want %d", rate, got, want)
		}
	}
	if got := pace(limiter.Rate(math.Pow10(9)), Batch{}).Burst; got != 1e7 {
		t.Errorf("burst at 1e9/s = %d, want 10 ms of it", got)
	}
}
