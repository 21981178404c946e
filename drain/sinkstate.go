package drain

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// sinkState is what belongs to a sink's name and outlives a change of policy:
// the budget, and what keeps drains from using it.
type sinkState struct {
	name   string
	budget *limiter.Budget // of the share that ramp leaves
	wire   *limiter.Bucket // of the same rate, for what drains write

	mu       sync.Mutex
	policy   policies.Sink // guarded by mu
	sink     Sink          // guarded by mu
	pause    time.Time     // guarded by mu; nothing is sent before
	asked    asked         // guarded by mu; what pause comes of
	kept     Rest          // guarded by mu; the last pause that the sink asked for
	breaker  breaker       // guarded by mu
	ramp     ramp          // guarded by mu
	adaptive adaptive      // guarded by mu
	share    float64       // guarded by mu; what the budget is set to
	refused  bool          // guarded by mu; it asked to cancel, and may not
	asks     ceilings      // guarded by mu; the rates that it asked for
	counts   adviceCounts  // guarded by mu
	trouble  string        // guarded by mu; how an attempt that counts as a failure of the sink failed last
	ignored  ignored       // guarded by mu; what it asked for last that made no sense
	held     SinkHold      // guarded by mu; zero: an operator holds nothing back
	lag      lag           // guarded by mu; of the consumers behind it
	readsLag bool          // guarded by mu; a reading is under way
	queue    []*waiter     // guarded by mu; live requests that wait, the first one's turn it is
	shares   shares        // guarded by mu
	bytes    bandwidth     // guarded by mu; of bodies
	turns    *time.Timer   // guarded by mu; for those who wait behind others; nil: nobody ever did
	looks    uint64        // guarded by mu; of drains that have something to send

	keeps   func(Rest)      // told of kept; nil: nobody is
	lags    chan<- struct{} // told when the lag is to be read; nil: nobody reads it
	came    recent          // guarded by mu; live requests that had their turn
	carried recent          // guarded by mu; the bytes of their bodies

	live  atomic.Int64 // live requests sent
	users users
}

func newSinkState(now time.Time, p policies.Sink, sink Sink) *sinkState {
	s := &sinkState{
		name:   p.Name,
		budget: limiter.NewBudget(now, p.Budget.Limit, p.Budget.Concurrency),
		wire:   limiter.NewFullBucket(now, slack(p.Budget.Limit)),
		policy: p,
		sink:   sink,
		share:  1,
	}
	s.breaker.set(p.Breaker)
	s.adaptive.set(now, p.Budget)
	s.lag.set(p.Kafka)
	s.fund(now)
	return s
}

// fits reports whether the present sink does for a policy: all but what is kept
// here is as it was.
func (s *sinkState) fits(p policies.Sink) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.policy
	was.Budget.Mode, was.Budget.MinConcurrency = p.Budget.Mode, p.Budget.MinConcurrency
	was.Budget.Limit, was.Breaker, was.SlowStart, was.MayCancel = p.Budget.Limit, p.Breaker, p.SlowStart, p.MayCancel
	was.Budget.Bytes, was.Budget.ReserveForLive = p.Budget.Bytes, p.Budget.ReserveForLive
	return reflect.DeepEqual(was, p)
}

// update replaces the policy and, where there is a new one, the sink. The
// budget's tokens and slots go on, and so do breaker and slow start.
func (s *sinkState) update(now time.Time, p policies.Sink, sink Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = p
	if sink != nil {
		closeIdle(s.sink)
		s.sink = sink
	}
	s.breaker.set(p.Breaker)
	s.adaptive.set(now, p.Budget)
	s.lag.set(p.Kafka)
	if s.ramp.lasts = p.SlowStart; p.SlowStart == 0 {
		s.ramp = ramp{}
	}
	s.share = s.ramp.share(now)
	s.fund(now)
	s.nudge()
}

// fund gives the budget its share. It requires that mu is held.
func (s *sinkState) fund(now time.Time) {
	limit, slots := portion(s.policy.Budget, s.share)
	limit, slots = s.asks.under(now, limit), s.adaptive.slots(slots)
	s.budget.Set(now, limit, slots)
	s.bytes.set(now, float64(s.policy.Budget.Bytes)*s.share, batchOf(s.sink))
	s.shares.part = s.shares.part.reserved(now, s.policy.Budget.ReserveForLive, limit, slots)
	stood := s.wire.Limit().Rate == 0
	if s.wire.Set(now, slack(limit)); stood {
		s.wire.Hold(now, slack(limit).Burst)
	}
}

// limit is what the policy says of the rate, whatever is left of it now.
func (s *sinkState) limit() limiter.Limit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policy.Budget.Limit
}

// portion is a share of a budget: of its rate and burst or, where the rate is
// unlimited, of its slots.
func portion(b policies.Budget, share float64) (limiter.Limit, int) {
	if b.Limit.Rate == limiter.Unlimited {
		return b.Limit, max(1, int(float64(b.Concurrency)*share))
	}
	b.Limit.Rate *= limiter.Rate(share)
	b.Limit.Burst = max(1, int(float64(b.Limit.Burst)*share))
	return b.Limit, b.Concurrency
}

// outlook is what a sink has to say besides the tokens and slots of its budget.
// The zero value says nothing.
type outlook struct {
	pause   time.Time       // nothing is sent before
	asked   asked           // what the pause comes of
	held    SinkHold        // an operator's pause; it may have ended
	lag     lag             // of the consumers behind the sink
	fed     time.Time       // when there are the bytes that the drain's next message waits for
	unfed   bool            // it waits for them behind others
	behind  bool            // other drains wait for tokens or slots before it
	first   Constraint      // what the first of those is held by
	leave   leave           // what is for others
	breaker BreakerState    //
	opens   time.Time       // when an open breaker lets a probe through
	probing bool            // the probe of a half-open one is under way
	ramp    ramp            // the slow start, if there is one
	shared  limiter.Rate    // the rate that the ramp leaves
	room    int             // the slots that it leaves
	adapted adapted         // what keeps them fewer
	after   time.Duration   // how long it will last if the breaker closes
	whole   policies.Budget // what the ramp leads to
	asks    ceilings        // the rates that the sink asked for
	ignored ignored         // it may be long ago
	trouble string          // how it failed last
}

// ramping reports whether there is less to take from than there will be.
func (o outlook) ramping() bool { return !o.ramp.from.IsZero() }

// limit is the rate of the budget at a time, as far as is known.
func (o outlook) limit(t time.Time) limiter.Limit {
	l, _ := portion(o.whole, o.ramp.share(t))
	return o.asks.under(t, l)
}

// varies reports whether that is not what the policy says.
func (o outlook) varies() bool { return o.ramping() || o.asks != (ceilings{}) }

// changes is when the budget changes by itself; zero: it does not.
func (o outlook) changes(t time.Time) time.Time {
	at := o.asks.ends(t)
	if grows, ramping := o.ramp.next(t); ramping {
		at = sooner(at, grows)
	}
	return at
}

// binds names what holds those who wait for tokens or slots.
func (o outlook) binds() Constraint {
	if o.first != "" {
		return o.first
	}
	return o.funding()
}

// funding names what sets the budget's rate.
func (o outlook) funding() Constraint {
	if o.asks.least() < o.shared {
		return RateHeader
	}
	if o.ramping() && o.whole.Limit.Rate != limiter.Unlimited && o.whole.Limit.Rate > 0 {
		return SlowStart
	}
	return SinkBudget
}

// look requires that mu is held.
func (s *sinkState) look(now time.Time) outlook {
	shared, room := portion(s.policy.Budget, s.share)
	return outlook{
		shared:  shared.Rate,
		room:    room,
		adapted: s.adaptive.adapted,
		asks:    s.asks,
		ignored: s.ignored,
		trouble: s.trouble,
		pause:   s.pause,
		asked:   s.asked,
		held:    s.held,
		lag:     s.lag,
		leave:   s.shares.drainsLeave(now),
		first:   s.shares.holds(now),
		breaker: s.breaker.state(now),
		opens:   s.breaker.until,
		probing: s.breaker.probing,
		ramp:    s.ramp,
		after:   s.policy.SlowStart,
		whole:   s.policy.Budget,
	}
}

// outlook is how the sink looks to those who do not want to send.
func (s *sinkState) outlook(now time.Time) outlook {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.climb(now)
	return s.look(now)
}

// climb moves the slow start on, and ends what the sink asked for. It requires that mu is held.
func (s *sinkState) climb(now time.Time) {
	share := s.ramp.share(now)
	if share == 1 {
		s.ramp = ramp{}
	}
	if ended := s.asks.tidy(now); ended || share != s.share {
		s.share = share
		s.fund(now)
	}
}

// step asks a core what may start. The breaker hears of it in the same breath,
// so that two drains cannot both have the one probe.
func (s *sinkState) step(now time.Time, c *core, want int) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.climb(now)
	if want > 0 && s.lag.asked(now) && s.lags != nil {
		signal(s.lags)
	}
	o := s.look(now)
	if want > 0 {
		s.looks++
		o.fed, o.unfed = s.bytes.turn(now, c, s.shares.drains.of(c).needs)
		o.behind = s.shares.line.behind(now, c, s.shares.drains.had(c))
	}
	v := c.step(now, want, o)
	v.term = s.breaker.began(v.take)
	if s.shares.tookDrain(now, c, &v, s.budget.Level(now)) {
		s.nudge()
	}
	s.bytes.came(now, c, v)
	s.call(now)
	return v
}

// withdraw takes note of an attempt that found nothing out. It comes before the
// slot is released, which tells whoever waits for the probe to end.
func (s *sinkState) withdraw(term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breaker.withdraw(term)
}

// ended takes note of what an attempt found, and reports whether that opened or
// closed the breaker, and the state. It comes before the slot is released, like
// withdraw.
func (s *sinkState) ended(now time.Time, term uint64, o Outcome) (BreakerState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.sinkFailed() {
		s.trouble = o.Error
	}
	changed := s.breaker.ended(now, term, o.sinkFailed())
	state := s.breaker.state(now)
	if changed {
		s.ramp = ramp{}
	}
	if changed && state == BreakerClosed && s.policy.SlowStart > 0 {
		s.ramp = ramp{from: now, lasts: s.policy.SlowStart}
	}
	if changed {
		s.nudge()
	}
	s.climb(now)
	return state, changed
}

// close closes the sink's idle connections, for good if nothing is in flight.
func (s *sinkState) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	closeIdle(s.sink)
}

// batch is what the sink takes in one attempt.
func (s *sinkState) batch() Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return batchOf(s.sink)
}

// deliver makes one attempt, and returns an outcome for each message.
func (s *sinkState) deliver(ctx context.Context, ms []Delivery) []Outcome {
	s.mu.Lock()
	sink := s.sink
	s.mu.Unlock()
	outcomes := sink.Deliver(ctx, ms)
	if len(outcomes) == len(ms) {
		return outcomes
	}
	outcomes = make([]Outcome, len(ms))
	for i := range outcomes {
		outcomes[i].Error = "the sink gave no outcome"
	}
	return outcomes
}

// heard takes note of a pause that the sink asked for, and reports whether it
// is a new one. The latest end holds.
func (s *sinkState) heard(now time.Time, ask asked) bool {
	if ask.honoured <= 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.add(RetryAfter, ask.result())
	return s.rest(now, ask)
}

// mayCancel reports whether answers may cancel messages, and whether this is the
// first one that may not.
func (s *sinkState) mayCancel() (may, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first = !s.policy.MayCancel && !s.refused
	s.refused = !s.policy.MayCancel
	return s.policy.MayCancel, first
}

// honour tells the sink how long one of its parts may rest because it asked to.
func (s *sinkState) honour(longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.sink.(interface{ LimitRest(time.Duration) }); ok && longest > 0 {
		l.LimitRest(longest)
	}
}

// closeIdle closes the connections that a sink that is not used any more keeps
// open. What is in flight ends by itself.
func closeIdle(s Sink) {
	if c, ok := s.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
