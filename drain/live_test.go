package drain

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// callers are live requests, and when they were sent.
type callers struct {
	b *bench

	mu      sync.Mutex
	sent    []time.Time // guarded by mu
	names   []int       // guarded by mu; in the order in which they were sent
	refused []*Refusal  // guarded by mu
	others  []error     // guarded by mu
	waiting atomic.Int64
	group   sync.WaitGroup
}

func (b *bench) callers() *callers { return &callers{b: b} }

// one makes a live request that lasts as long as the sink's attempts do.
func (c *callers) one(ctx context.Context, name int, wait time.Duration) {
	c.waiting.Add(1)
	turn, err := c.b.drains.Enter(ctx, "service", 0, wait)
	c.waiting.Add(-1)
	if err != nil {
		c.note(err)
		return
	}
	defer turn.End()
	s := c.b.sinks["service"]
	if err := Begin(turn.Context(ctx)); err != nil {
		turn.Ended(Outcome{Unsent: true})
		c.note(err)
		return
	}
	s.begin([]Delivery{{ID: "live"}})
	defer s.end()
	c.mu.Lock()
	c.sent, c.names = append(c.sent, time.Now()), append(c.names, name)
	c.mu.Unlock()
	time.Sleep(s.lasts())
	o := Outcome{Class: Success, Status: 200}
	if s.answer != nil {
		o = s.answer(Delivery{ID: "live"})
	}
	turn.Ended(o)
}

func (c *callers) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := errors.AsType[*Refusal](err); ok {
		c.refused = append(c.refused, r)
		return
	}
	c.others = append(c.others, err)
}

// start makes n requests at once; wait says how long each waits.
func (c *callers) start(n int, wait time.Duration) {
	for i := range n {
		c.group.Go(func() { c.one(c.b.t.Context(), i, wait) })
		synctest.Wait() // they come in their order
	}
}

// steady keeps n requests waiting until ctx is done.
func (c *callers) steady(ctx context.Context, n int) {
	for range n {
		c.group.Go(func() {
			for ctx.Err() == nil {
				c.one(ctx, 0, time.Hour)
			}
		})
	}
	synctest.Wait()
}

func (c *callers) counts() (sent, refused int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sent), len(c.refused)
}

// Live requests that wait and drains share a budget: each gets on, whatever the
// rates, and together they stay inside.
func TestLiveAndDrainsShare(t *testing.T) {
	for name, tt := range map[string]struct {
		sink, drain float64
		burst       int
		seconds     int
		low, high   float64 // share of the budget that the drain has
	}{
		// What waits for a token that is not there loses some of its own rate.
		"drain below its half":      {100, 30, 1, 20, 0.25, 0.3},
		"drain that takes all":      {100, float64(limiter.Unlimited), 1, 20, 0.45, 0.55},
		"fast drain":                {5000, 1000, 50, 2, 0.18, 0.205},
		"fast drain that takes all": {5000, float64(limiter.Unlimited), 50, 2, 0.45, 0.55},
		"large burst":               {1000, float64(limiter.Unlimited), 200, 5, 0.45, 0.58},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				budget := policies.Budget{Limit: limit(limiter.Rate(tt.sink), tt.burst), Concurrency: 64}
				b.apply(set(base(limiter.Rate(tt.drain)), budget))
				b.fill(int(tt.sink) * (tt.seconds + 2))
				ctx, stop := context.WithCancel(b.t.Context())
				c := b.callers()
				c.steady(ctx, 20)
				b.pass(time.Second)
				before, _ := c.counts()
				was, from := b.stats("d").Delivered, time.Now()
				b.pass(time.Duration(tt.seconds) * time.Second)
				after, _ := c.counts()
				drained, live := float64(b.stats("d").Delivered-was), float64(after-before)
				stop()
				b.pass(time.Second)
				c.group.Wait()
				whole := tt.sink * float64(tt.seconds)
				if share := drained / whole; share < tt.low || share > tt.high {
					t.Errorf("the drain had %.3f of the budget, want %.2f … %.2f; live requests %.3f", share, tt.low, tt.high, live/whole)
				}
				if all := drained + live; all < whole*0.97 {
					t.Errorf("%v of the budget of %v were used", all, whole)
				}
				b.wantInside(b.sinks["service"].began(from), tt.sink, tt.burst+1+int(tt.sink*0.005))
			})
		})
	}
}

// Slots are shared as well, where there is no rate.
func TestLiveAndDrainsShareSlots(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.sinks["service"].slow(100 * time.Millisecond)
		b.apply(set(base(limiter.Unlimited), policies.Budget{Limit: limit(limiter.Unlimited, 1), Concurrency: 4}))
		b.fill(10_000)
		ctx, stop := context.WithCancel(b.t.Context())
		c := b.callers()
		c.steady(ctx, 20)
		was := b.stats("d").Delivered
		before, _ := c.counts()
		b.pass(20 * time.Second)
		after, _ := c.counts()
		drained, live := int(b.stats("d").Delivered-was), after-before
		stop()
		b.pass(time.Second)
		c.group.Wait()
		if drained < 300 || live < 300 || drained+live < 750 {
			t.Errorf("of 800 slots the drain had %d and live requests %d", drained, live)
		}
		if most := b.sinks["service"].atOnce(); most > 4 {
			t.Errorf("%d at once, want 4 at most", most)
		}
	})
}

// Who does not wait is refused, with the time of the next token, and is not
// starved by a drain that takes all.
func TestLivePasses(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(limiter.Unlimited), policies.Budget{Limit: limit(10, 1), Concurrency: 64}))
		b.pass(time.Second)
		c := b.callers()
		c.start(3, 0)
		if sent, refused := c.counts(); sent != 1 || refused != 2 {
			t.Fatalf("%d sent and %d refused of 3 at once with a burst of 1", sent, refused)
		}
		for _, r := range c.refused {
			if wait := time.Until(r.Until); r.By != SinkBudget || r.Waited || wait <= 0 || wait > 100*time.Millisecond {
				t.Errorf("refused by %s for %v, want the budget for at most 100 ms", r.By, wait)
			}
		}
		b.fill(10_000)
		b.pass(time.Second)
		was, _ := c.counts()
		for range 200 { // 20/s
			c.start(1, 0)
			b.pass(50 * time.Millisecond)
		}
		sent, _ := c.counts()
		if n := sent - was; n < 40 || n > 60 {
			t.Errorf("%d of 200 in 10 s passed beside a drain that takes all of 10/s", n)
		}
	})
}

// Those who wait are sent in their order, until their time is over or they leave;
// then the next are.
func TestLiveHolds(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(0), policies.Budget{Limit: limit(10, 1), Concurrency: 64}))
		c := b.callers()
		ctx, leave := context.WithCancel(b.t.Context())
		c.start(5, time.Minute)
		c.group.Go(func() { c.one(ctx, 5, time.Minute) })
		synctest.Wait()
		for i := 6; i < 12; i++ {
			c.group.Go(func() { c.one(b.t.Context(), i, 550*time.Millisecond) })
			synctest.Wait()
		}
		c.start(1, 0)
		if _, refused := c.counts(); refused != 1 {
			t.Error("someone who does not wait overtakes those who do")
		}
		leave()
		b.pass(2 * time.Second)
		c.group.Wait()
		if want := []int{0, 1, 2, 3, 4}; !slices.Equal(c.names, want) {
			t.Errorf("sent %v, want %v: the others' time was over at 550 ms", c.names, want)
		}
		if n := len(c.refused); n != 7 || !c.refused[6].Waited || c.refused[6].By != SinkBudget {
			t.Errorf("%d refused, want those whose time was over and who does not wait", n)
		}
		if len(c.others) != 1 || !errors.Is(c.others[0], context.Canceled) {
			t.Errorf("who left got %v", c.others)
		}
		c.start(1, time.Minute)
		if sent, _ := c.counts(); sent != 6 {
			t.Error("nobody is waited for any more, and one request was not sent at once")
		}
	})
}

// While a breaker is open nothing is sent. Then a live request may be the probe,
// one at a time; who can wait for that waits.
func TestLiveBreaker(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		var down atomic.Bool
		down.Store(true)
		s.answer = func(Delivery) Outcome {
			if down.Load() {
				return Outcome{Status: 503}
			}
			return Outcome{Class: Success, Status: 200}
		}
		policy := set(base(0), policies.Budget{Limit: limit(1000, 100), Concurrency: 64})
		policy.Sinks[0].Breaker = policies.Breaker{FailureRatio: 0.5, MinRequests: 10, Window: 30 * time.Second, OpenFor: 15 * time.Second}
		b.apply(policy)
		b.pass(time.Second)
		c := b.callers()
		c.start(12, 0)
		sent, refused := c.counts()
		if sent != 10 || refused != 2 || c.refused[0].By != Breaker || time.Until(c.refused[0].Until) != 15*time.Second {
			t.Fatalf("%d sent, %d refused, the first %+v; want 10, and 15 s of the breaker", sent, refused, c.refused[0])
		}
		c.start(3, 10*time.Second) // not long enough: they are told at once
		if _, refused := c.counts(); refused != 5 {
			t.Errorf("%d refused, want who cannot wait for the breaker told at once", refused)
		}
		s.slow(time.Second)
		down.Store(false)
		c.start(5, 20*time.Second)
		b.pass(15*time.Second + 500*time.Millisecond)
		if n := s.atOnce(); n != 1 {
			t.Errorf("%d at once, want one probe", n)
		}
		b.pass(5 * time.Second)
		c.group.Wait()
		if sent, refused := c.counts(); sent != 15 || refused != 5 {
			t.Errorf("%d sent and %d refused; want all who waited sent once the probe was answered", sent, refused)
		}
		if said := b.heard(); len(said) != 2 {
			t.Errorf("events %q, want open and closed", said)
		}
	})
}

// A turn that was not used is as if it had never been.
func TestLiveGivesBack(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(0), policies.Budget{Limit: limit(1, 1), Concurrency: 1}))
		b.pass(time.Second)
		for range 3 {
			turn, err := b.drains.Enter(b.t.Context(), "service", 0, 0)
			if err != nil {
				t.Fatalf("Enter: %v", err)
			}
			turn.End()
		}
		if _, err := b.drains.Enter(b.t.Context(), "none", 0, 0); !errors.Is(err, ErrNoSink) {
			t.Errorf("Enter for a sink that is not there: %v", err)
		}
	})
}

// Connects of differing length do not bunch live requests either.
func TestLiveKeepsToTheWire(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(0), policies.Budget{Limit: limit(100, 1), Concurrency: 64}))
		c := b.callers()
		var turns []*Turn
		for range 30 {
			turn, err := b.drains.Enter(b.t.Context(), "service", 0, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			turns = append(turns, turn)
		}
		var mu sync.Mutex
		var times []time.Time
		for _, turn := range turns { // all have their connection at once
			c.group.Go(func() {
				defer turn.End()
				if err := Begin(turn.Context(b.t.Context())); err != nil {
					t.Errorf("Begin: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				times = append(times, time.Now())
			})
		}
		b.pass(2 * time.Second)
		c.group.Wait()
		b.wantInside(times, 100, 1+1)
	})
}
