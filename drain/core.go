package drain

import (
	"math"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

const (
	// maxLate is how far before now a token may be accounted. The same 5 ms are
	// what a receiver's log may exceed the envelope by.
	maxLate = 5 * time.Millisecond
	// coalesce is how long a fast drain lets tokens gather before it looks
	// again. It is a fifth of the default burst, so that a timer that is late by
	// as much again still costs no rate.
	coalesce = 2 * time.Millisecond
	// recheck is how long a window is believed without looking it up again, in
	// case someone set the wall clock.
	recheck = time.Minute
)

// core decides what may leave now. It is pure: the time is an argument, and it
// starts nothing and waits for nothing. It is not safe for concurrent use, but
// the budget may be shared with others who use it at the same time.
type core struct {
	schedule func(time.Time) policies.Window
	hands    hands                           // laid on the schedule
	at       func(time.Time) policies.Window // what comes of both
	budget   *limiter.Budget
	weight   int             // among the drains of the budget
	batch    Batch           // of the sink
	freed    chan<- struct{} // told when it is first of those who wait for the budget
	pacer    *limiter.Bucket // of the schedule's rate
	wire     *limiter.Bucket // of the same rate, for what is written
	late     lateness
	urgency  urgency
	rush     *limiter.Bucket // as pacer, for what is urgent; nil: nothing ever was
	rushWire *limiter.Bucket // as wire

	window  policies.Window   // the present one
	beat    beat              // the present rate
	ahead   []policies.Window // those that follow, as far as anyone asked
	checked time.Time         // when window was looked up

	// gathers is since when messages that may leave wait for others to leave with;
	// zero: none do.
	gathers time.Time

	// due is when the tokens come, or came, that the last step waited for: the
	// next point of the grid. Zero where it waited for something else.
	due time.Time

	// bound is what the last step that had something to send was held by; empty
	// after a change that makes it worthless.
	bound  Constraint
	behind bool // as verdict.behind
}

// verdict is what a step found.
type verdict struct {
	take    int              // messages that may leave now; the tokens for them are taken
	batches int              // in so many attempts at most; the slots for them are taken
	binding Constraint       // why not more
	short   limiter.Shortage // what the budget lacked, and may get before again
	lacks   int              // messages that the budget alone keeps from leaving
	again   time.Time        // when to look again; zero: not before something else happens
	until   time.Time        // the end of the window in which the attempts may start; zero: none
	term    uint64           // the breaker's, in which the attempts begin
	urgent  bool             // they are what is nearly late alone,
	plain   int              // but for so many that the schedule lets through
	yields  bool             // what it lacks is live requests'
	ripe    bool             // messages that gather have waited: they leave however few they are
	shut    bool             // nothing leaves until something changes: what a collector has is to be finished
	behind  bool             // of other drains that wait for the budget; it is called
	unfed   bool             // it waits for bytes alone
}

// newCore returns a core whose pacer is empty, whatever the window: what was
// sent before a restart is unknown.
func newCore(now time.Time, schedule func(time.Time) policies.Window, budget *limiter.Budget) *core {
	c := &core{schedule: schedule, at: schedule, budget: budget, window: schedule(now), checked: now}
	c.beat = c.beatOf(stepOf(c.window, now), now)
	c.pacer = limiter.NewEmptyBucket(now, c.pace(c.beat.rate))
	c.wire = limiter.NewFullBucket(now, slack(c.pace(c.beat.rate)))
	return c
}

// pace is a drain's own limit at a rate: the burst is 10 ms of it, or one batch.
func pace(rate limiter.Rate, batch Batch) limiter.Limit {
	if rate == limiter.Unlimited {
		return limiter.Limit{Rate: rate, Burst: 1}
	}
	return limiter.Limit{Rate: rate, Burst: max(batch.burst(), int(rate/100))}
}

func (c *core) pace(rate limiter.Rate) limiter.Limit { return pace(rate, c.batch) }

// setSchedule replaces the schedule. The pacer goes on: a changed rate clamps it.
func (c *core) setSchedule(now time.Time, schedule func(time.Time) policies.Window) {
	c.roll(now)
	c.schedule = schedule
	c.compose(now)
}

// setHands replaces the operators' hands, as setSchedule does the schedule.
func (c *core) setHands(now time.Time, h hands) {
	c.roll(now)
	c.hands = h
	c.compose(now)
}

func (c *core) compose(now time.Time) {
	c.at, c.ahead, c.bound = c.hands.over(c.schedule), nil, ""
	c.window, c.checked = c.at(now), now
	if was := c.follow(now, now, stepOf(c.window, now)); c.beat.plain.rate != was.plain.rate {
		c.rewire(now, c.beat.plain.rate)
		c.due = time.Time{}
	}
}

// setBudget changes which budget is taken from.
func (c *core) setBudget(b *limiter.Budget) {
	c.budget, c.due, c.bound = b, time.Time{}, ""
}

// setBatch changes what leaves together.
func (c *core) setBatch(now time.Time, b Batch) {
	if b == c.batch {
		return
	}
	c.roll(now)
	c.batch, c.gathers = b, time.Time{}
	c.pacer.Set(now, c.pace(c.beat.plain.rate))
	c.rewire(now, c.beat.plain.rate)
	c.rush, c.rushWire = nil, nil
	if c.beat.name == Deadline {
		c.hurry(now)
	}
}

// roll moves to the window that now lies in, and to the step of its ramp. At an edge
// the drain holds exactly one token, or none at rate 0, however long it waited; a step
// changes the rate alone.
func (c *core) roll(now time.Time) {
	edge, stale, over := past(c.window.Until, now), now.Sub(c.checked) >= recheck, c.beat.plain.over(now)
	if !edge && !stale && !over && !past(c.beat.until, now) {
		return
	}
	before, at := c.window, justNow(c.beat.until, now)
	if edge {
		at = justNow(c.window.Until, now)
	}
	if edge || stale {
		c.window, c.checked = c.at(now), now
	}
	entered := c.window.Rate != before.Rate || c.window.Because != before.Because
	moved := entered || !c.window.Until.Equal(before.Until)
	if moved {
		c.ahead = nil
	}
	next := c.beat.plain
	if over || moved {
		next = stepOf(c.window, now)
	}
	if was := c.follow(now, at, next); entered {
		c.enter(at, was)
	}
}

// enter begins another window.
func (c *core) enter(edge time.Time, was beat) {
	c.bound, c.gathers = "", time.Time{}
	if c.beat.plain.rate != was.plain.rate {
		c.pacer.Hold(edge, 1)
		c.rewire(edge, c.beat.plain.rate)
		c.due = edge
	}
}

// step says how many of want messages may leave now, and takes the tokens and
// slots for them.
func (c *core) step(now time.Time, want int, o outlook) verdict {
	if want <= 0 {
		c.roll(now)
		c.due, c.gathers, c.bound, c.behind = time.Time{}, time.Time{}, Empty, false
		return verdict{binding: Empty}
	}
	v := c.pick(now, want, o)
	c.bound, c.behind = v.binding, v.behind
	return v
}

// gate is what lets nothing through at all, if anything does.
type gate struct {
	name  Constraint
	until time.Time        // zero: not known
	short limiter.Shortage // what to wait for where until is not known
	unfed bool             // of bytes
}

// gate requires that the window is the present one.
func (c *core) gate(now time.Time, o outlook) gate {
	switch {
	case c.beat.rate == 0:
		return gate{name: c.beat.name, until: c.beat.until}
	case o.held.holds(now):
		return gate{name: Paused, until: o.held.Until}
	case o.breaker == BreakerOpen:
		return gate{name: Breaker, until: o.opens}
	case o.pause.After(now):
		return gate{name: o.asked.name(), until: o.pause}
	case o.lag.holds(now):
		return gate{name: KafkaLag} // a reading ends it
	case o.breaker == BreakerHalfOpen && o.probing:
		return gate{name: Breaker, short: limiter.OfSlots} // the probe's slot comes free when it ends
	case o.fed.After(now):
		return gate{name: SinkBudget, until: o.fed, unfed: true}
	case o.unfed:
		return gate{name: SinkBudget, unfed: true}
	default:
		return gate{}
	}
}

func (c *core) pick(now time.Time, want int, o outlook) verdict {
	c.roll(now)
	if g := c.gate(now, o); g.name != "" {
		c.due = time.Time{}
		return verdict{binding: g.name, again: g.until, short: g.short, unfed: g.unfed}
	}
	if o.breaker == BreakerHalfOpen {
		want = 1
	}
	if o.behind {
		if n := tokens(c.paced(), c.accountable(now), want); n > 0 {
			c.due = time.Time{}
			return verdict{binding: o.binds(), lacks: n, behind: true, again: c.beat.until}
		}
	}
	var v verdict
	gathered, gathers, ripe := c.gather(now, want, o)
	if !gathers {
		// First what was due when the timer should have fired, so that a bucket that
		// is full by now loses nothing; then what has come since.
		v = c.take(c.accountable(now), want, o.leave)
		if v.take < want && v.short != limiter.OfSlots {
			more := c.take(now, want-v.take, o.leave)
			v.take, v.batches, v.plain = v.take+more.take, v.batches+more.batches, v.plain+more.plain
			v.short, v.yields = more.short, more.yields
		}
	}
	v.until, v.ripe = c.window.Until, ripe
	if v.short != limiter.NoShortage {
		v.lacks = tokens(c.paced(), now, want-v.take)
	}
	v.urgent = c.beat.name == Deadline
	if v.short == limiter.OfSlots {
		c.due = time.Time{}
		v.binding = Concurrency
		if o.ramping() && o.whole.Concurrency > o.room && c.budget.Slots() == o.room {
			v.binding = SlowStart
		}
		if v.yields {
			v.binding = LiveTraffic
		}
		if !o.leave.nothing() {
			v.again = now.Add(askAgain) // they may not come for the slots that are left to them
		}
	} else {
		c.look(now, want, o, &v)
	}
	if o.breaker == BreakerHalfOpen {
		v.binding = Breaker
	}
	if gathers {
		v.again = c.gathering(now, v.again, gathered)
	}
	v.again = sooner(v.again, o.changes(now)) // there may be more to take from before what was waited for
	return v
}

// accountable is the time at which tokens are taken: the grid's, as far as it
// lies at most maxLate before now.
func (c *core) accountable(now time.Time) time.Time {
	if c.due.IsZero() || now.Before(c.due) {
		return now
	}
	if oldest := now.Add(-maxLate); c.due.Before(oldest) {
		return oldest
	}
	return c.due
}

// take takes what pacer and budget both have, at most want, and leaves some of the
// budget to others. Where batches gather, what is less than one stays after the first.
func (c *core) take(at time.Time, want int, leave leave) verdict {
	var v verdict
	want = tokens(c.paced(), at, want)
	for v.take < want && v.short == limiter.NoShortage {
		if v.short = c.spare(at, leave); v.short != limiter.NoShortage {
			v.yields = c.yields(at, v.short, leave)
			break
		}
		n := min(want-v.take, c.batch.size())
		if n > 1 {
			n = max(1, c.fundedNow(at, n, leave))
		}
		if v.take > 0 && (n < c.batch.burst() || c.batch.serial) {
			break
		}
		if v.short = c.budget.Take(at, n); v.short == limiter.NoShortage {
			v.take += n
			v.batches++
		}
	}
	v.plain = tokens(c.pacer, at, v.take)
	c.pacer.Take(at, v.plain)
	if c.beat.name == Deadline {
		c.rush.Take(at, v.take)
	}
	return v
}

// spare says what the budget lacks beside what is left to others.
func (c *core) spare(at time.Time, leave leave) limiter.Shortage {
	if leave.nothing() {
		return limiter.NoShortage
	}
	level := c.budget.Level(at)
	switch {
	case c.budget.Slots()-c.budget.InFlight() <= leave.slots:
		return limiter.OfSlots
	case level < 1+leave.of(at, level):
		return limiter.OfTokens
	default:
		return limiter.NoShortage
	}
}

// tokens is how many a bucket has, at most limit.
func tokens(b *limiter.Bucket, at time.Time, limit int) int {
	return int(math.Floor(min(max(b.Level(at), 0), float64(limit))))
}

// look finds when tokens are there again, and which bucket they wait for.
func (c *core) look(now time.Time, want int, o outlook, v *verdict) {
	limit := c.budget.Limit()
	n := gather(min(c.beat.rate, limit.Rate), want)
	if !c.gathers.IsZero() {
		n = max(n, min(c.batch.burst(), want))
	}
	if limit.Rate != limiter.Unlimited {
		n = min(n, limit.Burst)
	}
	var left leave
	if v.short == limiter.OfTokens && limit.Rate != limiter.Unlimited {
		left = o.leave
	}
	paced, _ := c.paced().When(now, n) // always known: the rate is not 0 here, and n within the burst
	funded, ok := c.funded(now, n, left)
	if !ok {
		c.due = time.Time{}
		v.binding, v.short = o.funding(), limiter.OfTokens
		return
	}
	v.binding = c.beat.name
	switch {
	case funded.After(paced) && v.yields:
		v.binding = LiveTraffic
	case funded.After(paced):
		v.binding = o.funding()
	case c.beat.rate == limiter.Unlimited && limit.Rate == limiter.Unlimited:
		v.binding = Unlimited
	}
	if funded.After(now) {
		v.short = limiter.OfTokens
	}
	c.due = later(paced, funded)
	v.again = sooner(sooner(c.due, c.beat.until), left.until)
}

// gather is how many tokens a drain waits for at a rate: what comes in coalesce,
// at least one and at most limit.
func gather(rate limiter.Rate, limit int) int {
	n := float64(rate) * coalesce.Seconds()
	return int(max(1, min(n, float64(limit))))
}

// giveBack returns the tokens for n of a verdict's messages that did not leave, and the
// slots for so many of its attempts, which is not the grid's doing. The budget is the
// one they were taken from.
func (c *core) giveBack(now time.Time, budget *limiter.Budget, v verdict, n, batches int) {
	c.due = time.Time{}
	c.pacer.Return(now, max(0, n-(v.take-v.plain)))
	if v.urgent && c.rush != nil {
		c.rush.Return(now, n)
	}
	budget.Refund(now, n)
	for range batches {
		budget.Release()
	}
}

// open reports whether attempts that the verdict allowed may still start.
func (v verdict) open(now time.Time) bool {
	return v.until.IsZero() || now.Before(v.until)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
