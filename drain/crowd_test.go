package drain

import (
	"cmp"
	"context"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

// An eta holds where a drain shares its sink: with drains of other weights, some of which
// have less to send, a schedule of their own (what waits for a token that is not there loses
// some of that) or a window that opens later; with live traffic
// that has a part reserved or takes turns; and where bytes are short.
func TestETAInACrowd(t *testing.T) {
	late := nightly(t) // from half past midnight on
	late.Entries[0].Rate = 1000
	for name, tt := range map[string]struct {
		budget  policies.Budget
		weights map[string]int
		body    int
		live    int // requests that wait at any time
		change  func(*policies.Set)
		counts  map[string]int // of messages that a drain still has
		asked   time.Duration  // when the sink is first known
		off     float64        // how far of the wait; 0: a fiftieth
	}{
		"weights 1 to 3":    {budget: reserving(100, 1, 64, 0), weights: map[string]int{"a": 1, "b": 3}},
		"one has less":      {budget: reserving(100, 1, 64, 0), weights: map[string]int{"a": 1, "b": 3}, counts: map[string]int{"b": 800}},
		"three, fast":       {budget: reserving(300, 3, 64, 0), weights: map[string]int{"a": 1, "b": 2, "c": 5}},
		"a slow schedule":   {budget: reserving(100, 1, 64, 0), weights: map[string]int{"a": 1, "b": 3}, change: func(s *policies.Set) { s.Drains[1].Schedule = base(20) }, off: 0.06},
		"one comes later":   {budget: reserving(100, 1, 64, 0), weights: map[string]int{"a": 1, "b": 1}, change: func(s *policies.Set) { s.Drains[1].Schedule = late }, asked: 30*time.Minute - 10*time.Second},
		"reserved for live": {budget: reserving(100, 4, 64, 0.7), weights: map[string]int{"a": 1}, live: 10},
		"live takes turns":  {budget: reserving(100, 1, 64, 0), weights: map[string]int{"a": 1}, live: 10},
		"bytes":             {budget: bytesAlone(100_000), weights: map[string]int{"a": 1}, body: 2000},
		"bytes of two":      {budget: bytesAlone(100_000), weights: map[string]int{"a": 1, "b": 3}, body: 2000},
		"all of it":         {budget: policies.Budget{Limit: limit(100, 4), Concurrency: 64, ReserveForLive: 0.4, Bytes: 100_000}, weights: map[string]int{"a": 1, "b": 3}, body: 1000, live: 10},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []string{"a", "b", "c"}, func(b *bench) {
				policy := weighing(tt.budget, tt.weights)
				if tt.change != nil {
					tt.change(policy)
				}
				b.pass(tt.asked)
				b.bodies(repeat(2500, tt.body)...)
				for drain, left := range tt.counts {
					b.finish(drain, 2500-left)
				}
				b.apply(policy)
				ctx, stop := context.WithCancel(b.t.Context())
				c := b.callers()
				c.steady(ctx, tt.live)
				b.pass(8 * time.Second)
				now, wants := time.Now(), make(map[string]uint64)
				etas := make(map[string]time.Time)
				for drain := range tt.weights {
					s := b.stats(drain)
					ahead := min(800, s.Pending) - 1
					eta, _, note := b.drains.ETA(drain, now, time.Time{}, ahead)
					if note != "" {
						t.Fatalf("%s: %s", drain, note)
					}
					etas[drain], wants[drain] = eta, s.Delivered+ahead+1
				}
				for drain, left := range b.reached(wants) {
					if off, wait := left.Sub(etas[drain]), left.Sub(now); off.Abs() > max(time.Second, time.Duration(cmp.Or(tt.off, 0.02)*float64(wait))) {
						t.Errorf("%s: left after %v, %v off its eta", drain, wait, off)
					}
				}
				stop()
				b.pass(time.Second)
				c.group.Wait()
			})
		})
	}
}

// finish ends the first messages of a drain.
func (b *bench) finish(drain string, n int) {
	b.t.Helper()
	ds, _, err := b.buf.Take(drain, time.Now(), n)
	b.must(err)
	for _, m := range ds {
		b.buf.Ack(drain, m.Offset, buffer.Result{At: time.Now(), Attempts: 1, Status: 200})
	}
}

// reached is when drains had delivered so many, but for a fifth of a second.
func (b *bench) reached(wants map[string]uint64) map[string]time.Time {
	at := make(map[string]time.Time)
	for len(at) < len(wants) && b.t.Context().Err() == nil {
		b.pass(200 * time.Millisecond)
		for drain, want := range wants {
			if _, ok := at[drain]; !ok && b.stats(drain).Delivered >= want {
				at[drain] = time.Now()
			}
		}
	}
	return at
}

// What is feasible is what others leave in time.
func TestFeasibleInACrowd(t *testing.T) {
	inBubble(t, []string{"a", "b", "c"}, func(b *bench) {
		policy := weighing(reserving(100, 1, 64, 0), map[string]int{"a": 1, "b": 3})
		policy.Drains[0].Deadline = policies.Deadline{MaxDelay: time.Minute}
		b.bodies(repeat(6000, 0)...)
		b.finish("a", 5900)
		b.apply(policy)
		b.pass(time.Second)
		waiting := int(b.stats("a").Pending)
		if _, ok := b.drains.Feasible("orders", time.Now(), 60*25*11/10-waiting); ok {
			t.Error("a tenth more than its part in a minute is feasible")
		}
		if _, ok := b.drains.Feasible("orders", time.Now(), 60*25*9/10-waiting); !ok {
			t.Error("a tenth less than its part in a minute is not feasible")
		}
	})
}

// A drain that gets as much as it sends has its part for good; of many the smaller are
// one; and whatever there is, nobody has more than it could take, and together they
// have all that some could still take.
func TestCrowd(t *testing.T) {
	c := crowd{mine: party{weight: 1}, others: []party{{weight: 1, comes: 30, most: math.Inf(1)}}}
	if until := c.contend(start(), start().Add(time.Hour), limiter.Unlimited, 100); c.remainder != 70 || !until.Equal(start().Add(time.Hour)) {
		t.Errorf("beside 30/s that keep coming: %v until %v", c.remainder, until)
	}
	var all []user
	for range 1000 {
		all = append(all, user{&drain{}, party{weight: 2, left: 10, most: 5}})
	}
	list := others(all, all[0].drain)
	if last := list[len(list)-1]; len(list) != maxParties+1 || last.weight != 2*(999-maxParties) || last.left != 10*(999-maxParties) {
		t.Errorf("%d parties, the last %+v", len(list), last)
	}
	rapid.Check(t, func(t *rapid.T) {
		rates := rapid.Float64Range(0, 1000)
		capacity := rates.Draw(t, "capacity")
		var all []*party
		want := 0.0
		for range rapid.IntRange(1, 8).Draw(t, "parties") {
			p := &party{weight: float64(rapid.IntRange(1, 100).Draw(t, "weight")), rate: rates.Draw(t, "rate")}
			p.most, want = p.rate, want+p.rate
			all = append(all, p)
		}
		fill(all, capacity, func(p *party) (float64, float64) { return p.weight, 1 })
		had := 0.0
		for _, p := range all {
			if had += p.rate; p.rate > p.most {
				t.Fatalf("%+v has more than it could take", p)
			}
			for _, q := range all {
				if p.rate < p.most-1e-6 && q.rate/q.weight > p.rate/p.weight+1e-6 {
					t.Fatalf("%+v has less than its part beside %+v", p, q)
				}
			}
		}
		if math.Abs(had-min(want, capacity)) > 1e-6*(1+want) {
			t.Fatalf("they have %v of %v, and want %v", had, capacity, want)
		}
	})
}
