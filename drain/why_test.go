package drain

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

// showWhy prints an answer on a few lines, with times after start.
func showWhy(w Why, start time.Time) string {
	after := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.Sub(start).Round(time.Millisecond).String()
	}
	var s strings.Builder
	fmt.Fprintf(&s, "\n%v by %s", w.Rate, w.Binding)
	for _, t := range w.Constraints {
		fmt.Fprintf(&s, "\n%s %v until %s: %s", t.Name, t.Rate, after(t.Until), t.Detail)
	}
	if w.Next != nil {
		fmt.Fprintf(&s, "\nthen %v by %s at %s", w.Next.Rate, w.Next.Because, after(w.Next.At))
	}
	return s.String()
}

func TestWhy(t *testing.T) {
	failing := func(o Outcome) func(b *bench) {
		return func(b *bench) {
			b.sinks["service"].answer = func(Delivery) Outcome { return o }
			b.fill(1000)
			b.pass(10 * time.Second)
		}
	}
	filled := func(b *bench) { b.fill(1000); b.pass(time.Second) }
	budget := policies.Budget{Limit: limit(40, 1), Concurrency: 8}
	tests := []struct {
		name   string
		policy *policies.Set
		then   func(b *bench)
		want   string
	}{
		{"the schedule", breaking(10, budget), filled, `
10/s by schedule
schedule 10/s until -: base
sink-budget 40/s until -: the sink's rate
concurrency unlimited until -: 0 of 8 slots in use`},
		{"the sink's budget", breaking(100, budget), filled, `
40/s by sink-budget
schedule 100/s until -: base
sink-budget 40/s until -: the sink's rate
concurrency unlimited until -: 0 of 8 slots in use`},
		{"nothing to do", breaking(limiter.Unlimited, wide()), func(*bench) {}, `
unlimited by empty
schedule unlimited until -: base
concurrency unlimited until -: 0 of 64 slots in use
empty unlimited until -: nothing is due; 0 scheduled, 0 in flight`},
		{"an open breaker", breaking(10, budget), failing(Outcome{Error: "refused"}), `
0/s by breaker
schedule 10/s until -: base
sink-budget 40/s until -: the sink's rate
concurrency unlimited until -: 0 of 8 slots in use
breaker 0/s until 20s: open: nothing is sent; it failed last with refused
then 10/s by base at 20s`},
		{"a pause that the sink asked for", breaking(10, budget), failing(Outcome{Status: 429, RetryAfter: time.Minute}), `
0/s by retry-after
schedule 10/s until -: base
sink-budget 40/s until -: the sink's rate
concurrency unlimited until -: 0 of 8 slots in use
retry-after 0/s until 1m0.1s: the sink asked for 1m0s
then 10/s by base at 1m0.1s`},
		{"a pause of a year", breaking(10, budget), failing(Outcome{Status: 503, RetryAfter: 365 * 24 * time.Hour}), `
0/s by retry-after
schedule 10/s until -: base
sink-budget 40/s until -: the sink's rate
concurrency unlimited until -: 0 of 8 slots in use
retry-after 0/s until 1h0m0.1s: the sink asked for 8760h0m0s; honour_retry_after clamps that to 1h0m0s
then 10/s by base at 1h0m0.1s`},
		{"a pause of no time", breaking(10, budget), func(b *bench) {
			b.sinks["service"].answer = func(Delivery) Outcome { return Outcome{Status: 429, RetryAfter: 1} }
			b.fill(1000)
			b.pass(500 * time.Millisecond)
		}, `
0/s by retry-after
schedule 10/s until -: base
sink-budget 40/s until -: the sink's rate
concurrency unlimited until -: 0 of 8 slots in use
retry-after 0/s until 1.1s: the sink asked for less than the least pause, 1s
then 10/s by base at 1.1s`},
		{"operators", breaking(10, budget), func(b *bench) {
			b.must(b.drains.Override("d", 30, time.Now().Add(time.Minute), "INC-1"))
			filled(b)
		}, `
30/s by override
override 30/s until 1m0s: INC-1
schedule 10/s until -: base
sink-budget 40/s until -: the sink's rate
concurrency unlimited until -: 0 of 8 slots in use
then 10/s by base at 1m0s`},
		{"a pause by operators", breaking(10, budget), func(b *bench) {
			b.must(b.drains.Pause("d", time.Time{}, "INC-1"))
			filled(b)
		}, `
0/s by paused
paused 0/s until -: INC-1
schedule 10/s until -: base
sink-budget 40/s until -: the sink's rate
concurrency unlimited until -: 0 of 8 slots in use`},
		{"a pause over a rate by operators", breaking(10, budget), func(b *bench) {
			b.must(b.drains.Pause("d", time.Now().Add(time.Minute), "INC-1"))
			b.must(b.drains.Override("d", 30, time.Now().Add(time.Hour), "INC-2"))
			filled(b)
		}, `
0/s by paused
paused 0/s until 1m0s: INC-1
override 30/s until 1h0m0s: INC-2
schedule 10/s until -: base
sink-budget 40/s until -: the sink's rate
concurrency unlimited until -: 0 of 8 slots in use
then 30/s by override at 1m0s`},
		{"slots", set(base(limiter.Unlimited), policies.Budget{Limit: limit(limiter.Unlimited, 1), Concurrency: 2}), func(b *bench) {
			b.sinks["service"].takes = time.Minute
			filled(b)
		}, `
unlimited by concurrency
schedule unlimited until -: base
concurrency unlimited until -: 2 of 2 slots in use`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				tt.policy.Sinks[0].Breaker.MinRequests = 50
				from := time.Now()
				b.apply(tt.policy)
				tt.then(b)
				w, ok := b.drains.Why(time.Now(), "d")
				if diff := cmp.Diff(tt.want, showWhy(w, from)); !ok || diff != "" {
					t.Errorf("why (-want +got):\n%s", diff)
				}
				if s := b.drains.Status(time.Now())[0]; s.Binding != w.Binding || s.Permitted != w.Rate || !cmp.Equal(s.Next, w.Next) {
					t.Errorf("status says %+v", s)
				}
			})
		})
	}
	inBubble(t, []string{"d"}, func(b *bench) {
		if _, ok := b.drains.Why(time.Now(), "x"); ok {
			t.Error("a reason for no drain")
		}
	})
}

// What changes next is what comes first: the pace, or the end of what binds in its
// place; while something else lets nothing through, that is what comes after it.
func TestNextChangeIsWhatComesFirst(t *testing.T) {
	in := func(s int) time.Time { return start().Add(time.Duration(s) * time.Second) }
	tests := []struct {
		name string
		o    outlook
		want *Change
	}{
		{"nothing binds", outlook{}, &Change{At: in(60), Rate: 70, Because: "w1"}},
		{"a pause that ends before the window", outlook{pause: in(20)}, &Change{At: in(20), Rate: 5, Because: "w0"}},
		{"a pause that ends after the window", outlook{pause: in(90)}, &Change{At: in(60), Rate: 70, Because: "w1"}},
		{"an open breaker", outlook{breaker: BreakerOpen, opens: in(15)}, &Change{At: in(15), Rate: 5, Because: "w0"}},
		{"an open breaker, then a pause", outlook{breaker: BreakerOpen, opens: in(15), pause: in(20)}, &Change{At: in(15), Because: string(RetryAfter)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			budget := limiter.NewBudget(start(), limit(100, 1), 5)
			c := newCore(start(), calendar(stretch{0, 5}, stretch{time.Minute, 70}), budget)
			d := &drain{core: c}
			w := d.why(start(), tt.o, buffer.DrainStats{Pending: 1})
			if diff := cmp.Diff(tt.want, w.Next); diff != "" {
				t.Errorf("next change (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever a pick was held by is what is told.
func TestWhyIsWhatThePickWasHeldBy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rates := rapid.SampledFrom([]limiter.Rate{0, 1, 30, 900, limiter.Unlimited})
		whole := policies.Budget{Limit: limit(rates.Draw(t, "budget"), 3), Concurrency: rapid.IntRange(1, 5).Draw(t, "slots")}
		budget := limiter.NewBudget(start(), whole.Limit, whole.Concurrency)
		c := newCore(start(), calendar(stretch{0, rates.Draw(t, "first")}, stretch{5 * time.Second, rates.Draw(t, "second")}), budget)
		now := start()
		for range 40 {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond)
			if rapid.IntRange(0, 9).Draw(t, "hold") == 0 {
				c.setHands(now, hands{}.with(Hold{Kind: Override, Rate: rates.Draw(t, "override"), Until: now.Add(time.Second)}))
			}
			o := outlook{breaker: rapid.SampledFrom(BreakerStates()).Draw(t, "breaker"), opens: now.Add(time.Second)}
			if rapid.IntRange(0, 5).Draw(t, "pause") == 0 {
				o.pause = now.Add(time.Second)
			}
			v := c.step(now, rapid.IntRange(1, 20).Draw(t, "want"), o)
			if got := c.binding(now, o, buffer.DrainStats{Pending: 1}); got != v.binding {
				t.Fatalf("told %s, the pick was held by %s", got, v.binding)
			}
			for range rapid.IntRange(0, budget.InFlight()).Draw(t, "ended") {
				budget.Release()
			}
		}
	})
}

// Messages wait behind the first of their key, and others pass.
func TestRunKeepsOrder(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		back := time.Now().Add(time.Minute)
		var got []string
		s.answer = func(m Delivery) Outcome {
			if m.Key == "a" && time.Now().Before(back) {
				return Outcome{Status: 500}
			}
			got = append(got, string(m.Body)) // attempts do not overlap: the rate is low
			return Outcome{Class: Success, Status: 200}
		}
		policy := set(base(10), wide())
		policy.Drains[0].Retry = policies.Retry{MaxAttempts: 1000, MaxAge: time.Hour, Initial: 20 * time.Second, Max: 20 * time.Second}
		b.drains.cfg.Random = func(n int64) int64 { return n - 1 } // no jitter
		b.apply(policy)
		var msgs []buffer.Message
		for i, key := range []string{"a", "b", "a", "", "b", "a"} {
			msgs = append(msgs, buffer.Message{Key: key, Body: fmt.Append(nil, i)})
		}
		if _, err := b.buf.Append(t.Context(), "orders", time.Now(), msgs); err != nil {
			t.Fatal(err)
		}
		b.pass(30 * time.Second)
		if want := []string{"1", "3", "4"}; !cmp.Equal(got, want) {
			t.Errorf("delivered %v beside a key that fails, want %v", got, want)
		}
		w, _ := b.drains.Why(time.Now(), "d")
		if w.Binding != Ordering {
			t.Errorf("two messages behind the first of their key: %s", showWhy(w, back))
		}
		b.buf.SetMaxParkedKeys(1)
		if s := b.drains.Status(time.Now())[0]; s.State != Blocked || s.Binding != Ordering {
			t.Errorf("status at the bound of parked keys: %+v", s)
		}
		b.pass(time.Minute)
		if want := []string{"1", "3", "4", "0", "2", "5"}; !cmp.Equal(got, want) {
			t.Errorf("delivered %v, want %v", got, want)
		}
	})
}
