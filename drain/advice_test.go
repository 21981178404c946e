package drain

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

func asksRate(rate limiter.Rate) Advice {
	return Advice{Field: RateField, Rate: rate, Lasts: RateLasts}
}

func quotaLeft(n int, lasts time.Duration) Advice {
	return Advice{Field: QuotaField, Rate: limiter.Rate(float64(n) / lasts.Seconds()), Lasts: lasts}
}

// answers has a sink give advice with its next answer, and answer well.
func (b *bench) answers(advice ...Advice) {
	var once sync.Once
	b.sinks["service"].answer = func(Delivery) Outcome {
		o := Outcome{Class: Success, Status: 200}
		once.Do(func() { o.Advice = advice })
		return o
	}
}

// A rate that an answer asks for holds for a minute, of drains and live requests
// together, whoever was answered so; why, metric and eta know.
func TestRunKeepsToAnAskedRate(t *testing.T) {
	for _, live := range []bool{false, true} {
		for _, budget := range []policies.Budget{wide(), {Limit: limit(100, 20), Concurrency: 8}} {
			t.Run(fmt.Sprint(live, budget.Limit.Rate), func(t *testing.T) {
				inBubble(t, []string{"d"}, func(b *bench) {
					s := b.sinks["service"]
					b.answers(asksRate(5))
					b.apply(set(base(100), budget))
					b.pass(10 * time.Second)
					c := b.callers()
					if live {
						c.start(1, 0)
						c.group.Wait()
					}
					from := time.Now()
					b.fill(1000)
					b.pass(10 * time.Second)
					w, _ := b.drains.Why(time.Now(), "d")
					if w.Binding != RateHeader || w.Rate != 5 || !strings.Contains(showWhy(w, from), "Forebay-Rate asks for at most 5/s") {
						t.Errorf("why %s", showWhy(w, from))
					}
					if w.Next == nil || w.Next.At.Sub(from) < 59*time.Second || w.Next.At.Sub(from) > 61*time.Second || w.Next.Rate != 100 {
						t.Errorf("next %+v", w.Next)
					}
					if got := b.drains.Status(time.Now())[0]; got.Binding != RateHeader || got.Permitted != 5 {
						t.Errorf("status %+v", got)
					}
					c.start(3, 0)
					c.group.Wait()
					if _, refused := c.counts(); refused < 2 || c.refused[0].By != RateHeader || time.Until(c.refused[0].Until) > time.Second {
						t.Errorf("%d of 3 live requests were refused: %+v", refused, c.refused)
					}
					eta, _, note := b.drains.ETA("d", time.Now(), time.Time{}, b.stats("d").Pending-1)
					b.pass(time.Minute + 10*time.Second)
					times := s.began(from)
					b.wantInside(between(times, from.Add(time.Second), from.Add(59*time.Second)), 5, 1)
					if left := times[len(times)-1]; len(times) < 1000 || left.Sub(eta).Abs() > time.Second {
						t.Errorf("%d attempts, the last after %v; eta was %v %s", len(times), left.Sub(from), eta.Sub(from), note)
					}
				})
			})
		}
	}
}

// The next answer that has the field takes the place of the one before; a rate of 0
// stops everything until its end.
func TestRunFollowsTheLastRate(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		var rate atomic.Value
		rate.Store(asksRate(2))
		s.answer = func(Delivery) Outcome {
			return Outcome{Class: Success, Status: 200, Advice: []Advice{rate.Load().(Advice)}}
		}
		b.apply(set(base(100), wide()))
		b.fill(5000)
		b.pass(30 * time.Second)
		count := func(d time.Duration) int {
			from := time.Now()
			b.pass(d)
			return len(s.began(from))
		}
		for _, tt := range []struct{ rate, is limiter.Rate }{{2, 2}, {10, 10}, {limiter.Unlimited, 100}, {1000, 100}, {4, 4}} {
			rate.Store(asksRate(tt.rate))
			b.pass(time.Second)
			if n := count(20 * time.Second); n < int(19*tt.is) || n > int(20*tt.is)+2 {
				t.Errorf("%d attempts in 20 s at %v", n, tt.rate)
			}
		}
		rate.Store(asksRate(0))
		b.pass(time.Second)
		if n := count(55 * time.Second); n != 0 {
			t.Errorf("%d attempts at 0/s", n)
		}
		if w, _ := b.drains.Why(time.Now(), "d"); w.Binding != RateHeader || w.Rate != 0 {
			t.Errorf("why %s", showWhy(w, time.Now()))
		}
		if n := count(10 * time.Second); n == 0 || n > 3 {
			t.Errorf("%d attempts after the minute, want what finds out that it is still 0/s", n)
		}
	})
}

// counter is a service with a quota in fixed windows, that tells what is left.
type counter struct {
	quota  int
	window time.Duration

	mu      sync.Mutex
	ends    time.Time // guarded by mu
	left    int       // guarded by mu
	refused int       // guarded by mu
	served  int       // guarded by mu
}

func (c *counter) answer(Delivery) Outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for !now.Before(c.ends) {
		c.ends, c.left = c.ends.Add(c.window), c.quota
	}
	t := time.Duration(c.ends.Sub(now).Seconds()+1) * time.Second
	if c.left == 0 {
		c.refused++
		return Outcome{Status: 429, Advice: []Advice{quotaLeft(0, t)}}
	}
	c.left--
	c.served++
	return Outcome{Class: Success, Status: 200, Advice: []Advice{quotaLeft(c.left, t)}}
}

// A service that tells what is left of its quota has no call to refuse anything, and
// most of its quota is used.
func TestRunKeepsToAQuota(t *testing.T) {
	for _, quota := range []int{20, 100, 800} {
		t.Run(fmt.Sprint(quota), func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				s := b.sinks["service"]
				c := &counter{quota: quota, window: 10 * time.Second, ends: time.Now().Add(10 * time.Second), left: quota}
				s.answer, s.takes = c.answer, 20*time.Millisecond
				b.apply(set(base(limiter.Unlimited), policies.Budget{Limit: limit(limiter.Unlimited, 1), Concurrency: 8}))
				b.fill(20 * quota)
				b.pass(2 * time.Minute)
				c.mu.Lock()
				served, refused := c.served, c.refused
				c.mu.Unlock()
				if first := 8; refused > first { // those that leave before anything is known
					t.Errorf("%d refused", refused)
				}
				if least := 12 * quota * 2 / 3; served < least {
					t.Errorf("%d served, of %d in two minutes", served, 12*quota)
				}
			})
		})
	}
}

// A quota that is used up is a pause of the drains, clamped as Retry-After is; live
// requests pass.
func TestRunWaitsForAQuota(t *testing.T) {
	for _, tt := range []struct {
		asks, pause time.Duration
		detail      string
		result      string
	}{
		{20 * time.Second, 20 * time.Second, "RateLimit has nothing left for 20s", "taken"},
		{365 * 24 * time.Hour, time.Hour, "honour_retry_after clamps that to 1h0m0s", "clamped"},
	} {
		t.Run(tt.asks.String(), func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				s := b.sinks["service"]
				b.answers(quotaLeft(0, tt.asks))
				b.apply(set(base(10), wide()))
				from := time.Now()
				b.fill(1000)
				b.pass(time.Second)
				w, _ := b.drains.Why(time.Now(), "d")
				if w.Binding != RateHeader || w.Rate != 0 || !strings.Contains(showWhy(w, from), tt.detail) {
					t.Errorf("why %s", showWhy(w, from))
				}
				if n := b.metric("forebay_sink_advice_total", "service", "rate-header", tt.result); n != 1 {
					t.Errorf("forebay_sink_advice_total of what was %s = %v", tt.result, n)
				}
				c := b.callers()
				c.start(1, 0)
				c.group.Wait()
				if sent, _ := c.counts(); sent != 1 {
					t.Error("a live request did not pass")
				}
				was := len(s.began(from))
				b.pass(tt.pause - 2*time.Second)
				if n := len(s.began(from)); n != was {
					t.Errorf("%d attempts in the pause", n-was)
				}
				b.pass(3 * time.Second)
				if len(s.began(from)) == was {
					t.Error("no attempt after the pause")
				}
			})
		})
	}
}

// What makes no sense changes nothing, is counted, and is told for a minute.
func TestRunIgnoresNonsense(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.answers(Advice{Field: RateField, Fault: "it is not a rate"}, Advice{Field: PauseField, Fault: "it is neither"})
		b.apply(set(base(10), wide()))
		b.fill(1000)
		b.pass(10 * time.Second)
		w, _ := b.drains.Why(time.Now(), "d")
		if w.Binding != Schedule || w.Rate != 10 || !strings.Contains(showWhy(w, start()), "the sink's Retry-After is ignored: it is neither") {
			t.Errorf("why %s", showWhy(w, start()))
		}
		for _, name := range []string{"rate-header", "retry-after"} {
			if n := b.metric("forebay_sink_advice_total", "service", name, "ignored"); n != 1 {
				t.Errorf("forebay_sink_advice_total of %s = %v", name, n)
			}
		}
		b.wantDelivered("d", 100)
		b.pass(time.Minute)
		if w, _ := b.drains.Why(time.Now(), "d"); strings.Contains(showWhy(w, start()), "ignored") {
			t.Errorf("it is still told: %s", showWhy(w, start()))
		}
	})
}

// Whoever waits for the end of an asked rate knows when it is, half open too.
func TestStepLooksAgainWhenARateEnds(t *testing.T) {
	s := newSinkState(start(), policies.Sink{Name: "service", Budget: wide()}, nil)
	s.advised(start(), []Advice{asksRate(0)}, time.Hour)
	c := newCore(start(), calendar(stretch{0, 5}), s.budget)
	now := start().Add(time.Second)
	for _, state := range BreakerStates() {
		o := s.outlook(now)
		o.breaker, o.opens = state, now.Add(time.Hour)
		v := c.step(now, 1, o)
		want := start().Add(RateLasts)
		if state == BreakerOpen {
			want = o.opens
		}
		if v.take != 0 || !v.again.Equal(want) {
			t.Errorf("%v: %+v, want to look again at %v", state, v, want)
		}
		if got := c.binding(now, o, buffer.DrainStats{Pending: 1}); got != v.binding {
			t.Errorf("told %s, the step was held by %s", got, v.binding)
		}
	}
}

// metric is a series' value; its labels' values.
func (b *bench) metric(name string, values ...string) float64 {
	b.t.Helper()
	families, err := b.reg.Gather()
	b.must(err)
	for _, f := range families {
		for _, m := range f.Metric {
			var has []string
			for _, l := range m.Label {
				has = append(has, l.GetValue())
			}
			slices.Sort(has)
			if f.GetName() == name && slices.Equal(has, slices.Sorted(slices.Values(values))) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	b.t.Fatalf("no series %s %v", name, values)
	return 0
}
