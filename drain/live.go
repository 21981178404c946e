package drain

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"forebay/limiter"
)

// ErrNoSink means that no sink of the policy has the name.
var ErrNoSink = errors.New("no such sink")

// Refusal says why a live request may not be sent now. It is an error.
type Refusal struct {
	By     Constraint // Paused, Breaker, SinkBudget, RateHeader, SlowStart or Concurrency
	Until  time.Time  // when that may be over; zero: not known
	Waited bool       // it waited for that in vain
}

// Error implements error.
func (r *Refusal) Error() string { return "the sink takes no live request now: " + string(r.By) }

// Turn is the leave to send one live request: a token and a slot of the sink's
// budget are taken for it. End has to be called once, whatever became of it.
type Turn struct {
	drains *Drains
	sink   *sinkState
	size   int64 // of the body; below 0: not known
	term   uint64
	began  time.Time
	sent   atomic.Bool  // Context was called
	wrote  atomic.Int64 // how long after began it was written
	judged atomic.Bool  // the breaker knows
}

// Enter takes a token and a slot of a sink's budget for one live request. It is
// refused, with a [*Refusal], where the budget has none, an operator paused the
// sink or its breaker lets nothing through. The budget's bytes count a body of size
// bytes; below 0: it is not known, and not counted. With a wait it stays for what may
// come within that time, behind those who came before; ctx ends the wait with its
// error. [ErrNoSink]: no such sink.
func (d *Drains) Enter(ctx context.Context, sink string, size int64, wait time.Duration) (*Turn, error) {
	s := d.sink(sink)
	if s == nil {
		return nil, fmt.Errorf("sink %s: %w", sink, ErrNoSink)
	}
	var t *Turn
	var err error
	if wait <= 0 {
		t, err = s.pass(time.Now(), size)
	} else {
		t, err = s.hold(ctx, size, time.Now().Add(wait))
	}
	if err != nil {
		return nil, err
	}
	t.drains = d
	return t, nil
}

// pass enters at once or not at all.
func (s *sinkState) pass(now time.Time, size int64) (*Turn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, closed := s.enter(now, nil, size)
	if t == nil {
		s.shares.ask(now)
		return nil, closed.refusal()
	}
	return t, nil
}

// closed is what keeps a live request out.
type closed struct {
	by    Constraint
	until time.Time        // zero: not known
	short limiter.Shortage // what to wait for where it may come before that
}

func (c closed) refusal() *Refusal { return &Refusal{By: c.by, Until: c.until} }

// enter takes what one live request needs, or says what is in the way. w is whose
// turn it is to ask; nil: someone who does not wait. It requires that mu is held.
func (s *sinkState) enter(now time.Time, w *waiter, size int64) (*Turn, closed) {
	s.climb(now)
	o := s.look(now)
	switch {
	case o.held.holds(now):
		return nil, closed{by: Paused, until: o.held.Until}
	case o.breaker == BreakerOpen:
		return nil, closed{by: Breaker, until: o.opens}
	case o.breaker == BreakerHalfOpen && o.probing:
		return nil, closed{by: Breaker, short: limiter.OfSlots} // the probe's slot comes free when it ends
	case len(s.queue) > 0 && s.queue[0] != w:
		return nil, closed{by: o.funding(), until: s.after(now, len(s.queue)+1)}
	}
	if at, _ := s.bytes.ask(now, s, nil, size); at.After(now) {
		return nil, closed{by: SinkBudget, until: at}
	}
	c := s.take(w.accountable(now), o)
	if c.by != "" && !w.accountable(now).Equal(now) {
		c = s.take(now, o) // what has come since
	}
	if c.by != "" {
		c.until = sooner(c.until, o.changes(now)) // there may be more to take from before what was waited for
		return nil, c
	}
	s.bytes.take(now, s, nil, size)
	s.came.add(now, 1)
	s.carried.add(now, uint64(max(0, size)))
	s.call(now)
	return &Turn{sink: s, size: size, began: now, term: s.breaker.began(1)}, closed{}
}

// take requires that mu is held.
func (s *sinkState) take(now time.Time, o outlook) closed {
	inFlight := s.budget.InFlight()
	leave := s.shares.liveLeaves(now, inFlight)
	if s.budget.Slots()-inFlight <= leave.slots {
		c := closed{by: Concurrency, short: limiter.OfSlots}
		if leave.slots > 0 {
			c.until = leave.until
		}
		return c
	}
	if level := s.budget.Level(now); level < 1+leave.of(now, level) {
		return closed{by: o.funding(), until: s.funded(now, leave), short: limiter.OfTokens}
	}
	switch s.budget.Take(now, 1) {
	case limiter.OfSlots:
		return closed{by: Concurrency, short: limiter.OfSlots}
	case limiter.OfTokens:
		return closed{by: o.funding(), until: s.funded(now, leave), short: limiter.OfTokens}
	}
	s.shares.tookLive(now, s.budget.Level(now))
	return closed{}
}

// funded is when the budget has a token beside what is left to drains or, where it
// never has, when those have had the time to take theirs; zero: never.
func (s *sinkState) funded(now time.Time, l leave) time.Time {
	at, ok := s.budget.When(now, 1+l.tokens)
	switch {
	case ok && l.part != nil:
		return sooner(later(at, l.part.own(now)), l.until)
	case ok:
		return at
	default:
		return l.until
	}
}

// land takes note that a live request has ended. It comes before the slot is released,
// like withdraw.
func (s *sinkState) land(now time.Time, unsent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares.flying--
	if unsent && s.shares.part != nil {
		s.shares.part.returned(now)
	}
}

// after is about when the nth of those who wait has its token; zero: not known.
func (s *sinkState) after(now time.Time, n int) time.Time {
	at, ok := s.budget.When(now, 1)
	rate := s.budget.Limit().Rate
	if !ok || rate == limiter.Unlimited {
		return at
	}
	return at.Add(time.Duration(float64(n-1) / float64(rate) * float64(time.Second)))
}

// Context returns the context to send the request with: a sink that calls
// [Begin] writes it no sooner than the sink's rate allows. From now on the
// request counts as sent, unless Unsent is called.
func (t *Turn) Context(ctx context.Context) context.Context {
	t.sent.Store(true)
	t.sink.live.Add(1)
	return WithBegin(ctx, func() error {
		err := awaitWrite(ctx, t.sink.mayWriteLive, func() {})
		t.wrote.Store(int64(time.Since(t.began)))
		return err
	})
}

// Sink returns what the request is to be sent to: what the policy that was the
// present one when it was asked describes.
func (t *Turn) Sink() Sink {
	t.sink.mu.Lock()
	defer t.sink.mu.Unlock()
	return t.sink.sink
}

// Ended tells the breaker what the request found, and the budget what rate its answer
// asked for. An outcome that is Unsent, or
// no call before End, says nothing of the sink.
func (t *Turn) Ended(o Outcome) {
	if o.Unsent {
		t.sent.Store(false)
		return
	}
	if !t.judged.CompareAndSwap(false, true) {
		return
	}
	now := time.Now()
	t.sink.advised(now, o.Advice, 0)
	t.sink.timed(now, t.began.Add(time.Duration(t.wrote.Load())), o)
	if state, changed := t.sink.ended(now, t.term, o); changed {
		t.drains.event("breaker-"+state.String(), t.sink.name, o.Error)
	}
}

// End frees the slot, and gives the token back where nothing was sent.
func (t *Turn) End() {
	if t.judged.CompareAndSwap(false, true) {
		t.sink.withdraw(t.term)
	}
	now, sent := time.Now(), t.sent.Load()
	t.sink.land(now, !sent)
	if sent {
		t.sink.budget.Release()
		return
	}
	t.sink.unfeed(now, t.size)
	t.sink.budget.Return(now, 1)
}

// mayWriteLive is mayWrite for a live request, which keeps to the sink's wire alone.
func (s *sinkState) mayWriteLive(now time.Time) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.wire.When(now, 1)
	if !ok || s.held.holds(now) {
		return time.Time{}, errNotNow
	}
	if !at.After(now) {
		s.wire.Take(now, 1)
	}
	return at, nil
}
