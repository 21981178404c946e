package drain

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"forebay/limiter"
	"forebay/policies"
)

// reserving is a budget of which a share is live traffic's.
func reserving(rate limiter.Rate, burst, slots int, share float64) policies.Budget {
	return policies.Budget{Limit: limit(rate, burst), Concurrency: slots, ReserveForLive: share}
}

// used counts what live requests and the drain had of the sink while some time passed.
func (c *callers) used(d time.Duration) (live, drained float64) {
	before, _ := c.counts()
	was := c.b.stats("d").Delivered
	c.b.pass(d)
	after, _ := c.counts()
	return float64(after - before), float64(c.b.stats("d").Delivered - was)
}

// While both want more than there is, live traffic has its share of the rate, or of the
// slots where there is no rate, and the drain all the rest.
func TestReserveIsKept(t *testing.T) {
	for name, tt := range map[string]struct {
		budget policies.Budget
		takes  time.Duration
		whole  float64 // attempts a second
	}{
		"most":         {reserving(100, 2, 64, 0.6), 0, 100},
		"little":       {reserving(1000, 10, 64, 0.1), 0, 1000},
		"low rate":     {reserving(5, 2, 64, 0.4), 0, 5},
		"large burst":  {reserving(1000, 200, 64, 0.8), 0, 1000},
		"slots":        {reserving(limiter.Unlimited, 1, 10, 0.7), 100 * time.Millisecond, 100},
		"rate, slots":  {reserving(1000, 10, 10, 0.3), 100 * time.Millisecond, 100},
		"nearly whole": {reserving(1000, 10, 64, 0.9), 0, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				seconds := min(20, 5000/tt.whole) // a fast budget needs less time for as good a share
				b.sinks["service"].slow(tt.takes)
				b.apply(set(base(limiter.Unlimited), tt.budget))
				b.fill(int((seconds + 5) * tt.whole))
				ctx, stop := context.WithCancel(b.t.Context())
				c := b.callers()
				c.steady(ctx, 20)
				b.pass(2 * time.Second)
				from := time.Now()
				live, drained := c.used(time.Duration(seconds) * time.Second)
				w, _ := b.drains.Why(time.Now(), "d")
				stop()
				b.pass(2 * time.Second)
				c.group.Wait()
				whole := seconds * tt.whole
				if share := live / whole; share < tt.budget.ReserveForLive*0.96 || share > tt.budget.ReserveForLive*1.04 {
					t.Errorf("live traffic had %.3f of the budget, want %v; the drain %.3f", share, tt.budget.ReserveForLive, drained/whole)
				}
				if all := live + drained; all < whole*0.97 {
					t.Errorf("%v of the budget of %v were used", all, whole)
				}
				if w.Binding != LiveTraffic && w.Binding != Concurrency {
					t.Errorf("why: %s", showWhy(w, from))
				}
				if rate := tt.budget.Limit.Rate; rate != limiter.Unlimited {
					b.wantInside(b.sinks["service"].began(from), tt.whole, tt.budget.Limit.Burst+1+int(float64(rate)*0.005))
				}
			})
		})
	}
}

// What either side does not use is the other's within 100 ms, and goes back as fast.
func TestReserveFlows(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(limiter.Unlimited), reserving(1000, 10, 64, 0.6)))
		b.fill(10_000)
		b.pass(time.Second)
		c := b.callers()
		inside := func(when string, live, drained, wantLive, wantDrained float64) {
			t.Helper()
			if live < wantLive-15 || live > wantLive+15 || drained < wantDrained-15 || drained > wantDrained+15 {
				t.Errorf("%s: live traffic %v and the drain %v in 100 ms, want %v and %v", when, live, drained, wantLive, wantDrained)
			}
		}
		live, drained := c.used(100 * time.Millisecond)
		inside("the drain alone", live, drained, 0, 100)
		ctx, stop := context.WithCancel(b.t.Context())
		c.steady(ctx, 20)
		live, drained = c.used(100 * time.Millisecond)
		inside("both, at once", live, drained, 60, 40)
		w, _ := b.drains.Why(time.Now(), "d")
		if w.Binding != LiveTraffic || w.Rate != 400 {
			t.Errorf("while live traffic comes: %s", showWhy(w, time.Now()))
		}
		b.must(b.drains.Pause("d", time.Time{}, "to see"))
		live, drained = c.used(100 * time.Millisecond)
		inside("live traffic alone, at once", live, drained, 100, 0)
		b.must(b.drains.Resume("d"))
		live, drained = c.used(100 * time.Millisecond)
		inside("both again", live, drained, 60, 40)
		stop()
		b.pass(100 * time.Millisecond)
		live, drained = c.used(100 * time.Millisecond)
		inside("the drain alone, after 100 ms", live, drained, 0, 100)
		if w, _ = b.drains.Why(time.Now(), "d"); w.Binding != SinkBudget || w.Rate != 1000 {
			t.Errorf("while the drain is alone: %s", showWhy(w, time.Now()))
		}
		c.group.Wait()
	})
}

// Live requests that do not wait find their share too, however much a drain wants; what
// they leave of it is the drain's at once.
func TestReserveForWhoDoesNotWait(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(limiter.Unlimited), reserving(100, 10, 64, 0.6)))
		b.fill(2000)
		b.pass(time.Second)
		c := b.callers()
		c.start(1, 0) // the first may be refused
		b.pass(50 * time.Millisecond)
		from := time.Now()
		was := b.stats("d").Delivered
		_, refusedBefore := c.counts()
		sentBefore, _ := c.counts()
		for range 500 { // 50/s
			c.start(1, 0)
			b.pass(20 * time.Millisecond)
		}
		sent, refused := c.counts()
		if sent -= sentBefore; sent < 495 || refused-refusedBefore > 5 {
			t.Errorf("%d of 500 were sent and %d refused, at 50/s of 60/s that are theirs", sent, refused-refusedBefore)
		}
		if n := b.stats("d").Delivered - was; n < 480 || n > 510 {
			t.Errorf("the drain had %d in 10 s, want the 500 that are left", n)
		}
		b.wantInside(b.sinks["service"].began(from), 100, 10+1)
	})
}

// Whatever both sides take and from whom, together they are inside the sink's limit.
func TestReserveEnvelope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := limiter.Rate(rapid.Float64Range(1, 3000).Draw(t, "rate"))
		burst := rapid.IntRange(2, 60).Draw(t, "burst")
		share := rapid.Float64Range(0.01, 1).Draw(t, "share")
		s := newSinkState(start(), policies.Sink{Budget: reserving(rate, burst, 10_000, share)}, nil)
		c := newCore(start(), always(limiter.Unlimited), s.budget)
		now := start()
		var times []time.Time
		took := func(n int) {
			for range n {
				times = append(times, now)
			}
		}
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30_000).Draw(t, "µs")) * time.Microsecond)
			if rapid.Bool().Draw(t, "live") {
				turn, err := s.pass(now, 0)
				switch {
				case err != nil:
				case rapid.IntRange(0, 9).Draw(t, "unsent") == 0:
					s.land(now, true)
					s.budget.Return(now, 1)
				default:
					turn.sent.Store(true)
					took(1)
				}
				continue
			}
			took(s.step(now, c, rapid.IntRange(0, 40).Draw(t, "want")).take)
		}
		checkEnvelope(t, "both", times, rate, burst)
	})
}

// So little of a budget that it cannot be parted is taken in turns.
func TestReserveOfTooLittle(t *testing.T) {
	for name, limits := range map[string]struct {
		limit limiter.Limit
		slots int
	}{
		"burst": {limit(100, 1), 64}, "slots": {limit(limiter.Unlimited, 1), 1},
	} {
		if r := (*reserve)(nil).reserved(start(), 0.5, limits.limit, limits.slots); r != nil {
			t.Errorf("%s: parted %+v", name, r)
		}
	}
	r := (*reserve)(nil).reserved(start(), 1, limit(100, 10), 4)
	if r.slots != 3 || r.most != 9 {
		t.Errorf("the whole of 4 slots and 10 tokens is %d and %v, want one of each left", r.slots, r.most)
	}
}
