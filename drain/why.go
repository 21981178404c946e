package drain

import (
	"fmt"
	"math"
	"time"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

// Why is what a drain's rate is made of.
type Why struct {
	Rate        limiter.Rate // the least of the constraints'
	Binding     Constraint   // what keeps the drain from going faster
	Constraints []Term       // all that hold now
	Next        *Change      // nil: the rate never changes within the horizon
	Head        *Head        // nil: nothing waits, or the buffer cannot say
	Gathering   []Gathering  // messages that were handed over and are not delivered yet
}

// Term is one constraint on a drain.
type Term struct {
	Name   Constraint
	Rate   limiter.Rate // what it leaves; Unlimited where it is no matter of a rate
	Detail string
	Until  time.Time // when it ends or changes; zero: not known
}

// Why says what a drain's rate is made of: what its loop goes by. Nothing binds a
// drain that is in the buffer and not in the policy. It is false for no such drain.
func (d *Drains) Why(now time.Time, drain string) (Why, bool) {
	dr := d.drain(drain)
	if dr == nil {
		return d.whyAbsent(now, drain)
	}
	count := buffer.DrainStats{}
	for _, c := range d.buf.Stats().Drains {
		if c.Drain == drain {
			count = c
		}
	}
	head, gathering := d.head(drain), dr.gathering()
	dr.mu.Lock()
	defer dr.mu.Unlock()
	w := dr.why(now, dr.plan.sink.outlook(now), count)
	w.Head, w.Gathering = head.under(now, w.Binding), gathering
	return w, true
}

// why requires that mu is held.
func (d *drain) why(now time.Time, o outlook, count buffer.DrainStats) Why {
	d.core.roll(now)
	limits := d.core.limits(now, o)
	w := Why{Rate: d.core.beat.rate, Binding: d.core.binding(now, o, count)}
	for _, t := range limits {
		w.Rate = min(w.Rate, t.Rate)
	}
	if t, ok := stall(w.Binding, count); ok {
		limits = append(limits, t)
	}
	w.Constraints = append(d.core.paces(now), limits...)
	w.Next = d.core.nextChange(now, w.Binding, limits)
	return w
}

// nextChange is what changes next: the pace, or what binds in its place. Where that
// ends the drain is back at its pace.
func (c *core) nextChange(now time.Time, binding Constraint, limits []Term) *Change {
	var next *Change
	if at, w, ok := c.change(now); ok {
		next = &Change{At: at, Rate: w.Rate, Because: w.Because}
	}
	for _, t := range limits {
		if t.Name == binding && t.Until.After(now) && (next == nil || t.Until.Before(next.At)) {
			next = c.after(t.Until, limits)
		}
	}
	return next
}

// after is what holds when a limit ends: another that lets nothing through for
// longer, or the pace.
func (c *core) after(end time.Time, limits []Term) *Change {
	for _, t := range limits {
		if t.Rate == 0 && t.Until.After(end) {
			return &Change{At: end, Because: string(t.Name)}
		}
	}
	w := c.at(end)
	return &Change{At: end, Rate: w.Rate, Because: w.Because}
}

// stall is the term of a binding that is no matter of rates.
func stall(binding Constraint, count buffer.DrainStats) (Term, bool) {
	t := Term{Name: binding, Rate: limiter.Unlimited}
	switch binding {
	case Empty:
		t.Detail = fmt.Sprintf("nothing is due; %d scheduled, %d in flight", count.Scheduled, count.InFlight)
	case Ordering:
		t.Detail = fmt.Sprintf("%d pending wait for the first message of their key; %d keys", count.Pending, count.ParkedKeys)
	case Unlimited:
		t.Detail = "nothing binds"
	default:
		return Term{}, false
	}
	return t, true
}

// paces lists what sets the pace, each thing before what it takes the place of. It
// requires that the window is the present one.
func (c *core) paces(now time.Time) []Term {
	terms, w := c.hands.terms(now), c.window
	if len(terms) > 0 {
		w = c.schedule(now)
	}
	if c.beat.name == Deadline {
		terms = append(terms, Term{
			Name: Deadline, Rate: c.beat.rate, Until: c.beat.until,
			Detail: "messages are nearly late: urgent_rate",
		})
	}
	rate, until := w.Step(now, math.MaxInt)
	if w.Floor {
		terms = append(terms, Term{Name: Floor, Rate: rate, Detail: "the schedule's least rate", Until: until})
		rate = w.Said()
	}
	return append(terms, Term{Name: Schedule, Rate: rate, Detail: w.Because, Until: w.Until})
}

// limits lists what else holds now, each with the rate it leaves.
func (c *core) limits(now time.Time, o outlook) []Term {
	var terms []Term
	if o.held.holds(now) {
		terms = append(terms, Term{Name: Paused, Detail: "the sink is paused: " + o.held.Reason, Until: o.held.Until})
	}
	whole := c.budget.Limit().Rate
	if o.varies() {
		whole = o.whole.Limit.Rate
	}
	if o.ramping() {
		terms = append(terms, Term{
			Name: SlowStart, Rate: o.shared, Until: o.ramp.end(),
			Detail: fmt.Sprintf("%.0f %% of the budget", math.Floor(o.ramp.share(now)*100)),
		})
	}
	if whole != limiter.Unlimited {
		terms = append(terms, Term{Name: SinkBudget, Rate: whole, Detail: "the sink's rate"})
	}
	terms = append(terms, o.headers(now)...)
	if o.whole.Bytes > 0 {
		terms = append(terms, Term{Name: SinkBudget, Rate: limiter.Unlimited, Detail: fmt.Sprintf("bytes: %d of bodies a second", o.whole.Bytes)})
	}
	terms = append(terms, Term{
		Name: Concurrency, Rate: limiter.Unlimited,
		Detail: fmt.Sprintf("%d of %d slots in use%s", c.budget.InFlight(), c.budget.Slots(), o.adapted),
	})
	if c.boundNow(o) == LiveTraffic {
		terms = append(terms, Term{Name: LiveTraffic, Rate: keeps(o.whole, c.budget.Limit().Rate), Detail: yieldsTo(o.whole)})
	}
	if t, ok := o.lag.term(now); ok {
		terms = append(terms, t)
	}
	if o.pause.After(now) {
		terms = append(terms, Term{Name: o.asked.name(), Detail: o.asked.String(), Until: o.pause})
	}
	switch o.breaker {
	case BreakerOpen:
		terms = append(terms, Term{Name: Breaker, Detail: "open: nothing is sent" + o.lately(), Until: o.opens})
	case BreakerHalfOpen:
		terms = append(terms, Term{Name: Breaker, Detail: "half open: one probe at a time" + o.lately()})
	}
	return terms
}

// lately says how the sink failed.
func (o outlook) lately() string {
	if o.trouble == "" {
		return ""
	}
	return "; it failed last with " + o.trouble
}

// yieldsTo says what of a budget live requests have.
func yieldsTo(b policies.Budget) string {
	if b.ReserveForLive == 0 {
		return "live requests and drains take turns"
	}
	return fmt.Sprintf("at least: up to %.0f %% of the sink's budget are for live requests while they come", b.ReserveForLive*100)
}

// boundNow is what the last step was held by, and behind others what those are held by now.
func (c *core) boundNow(o outlook) Constraint {
	if c.behind && o.first != "" {
		return o.first
	}
	return c.bound
}

// binding names what keeps the drain from going faster. It requires that the
// window is the present one.
func (c *core) binding(now time.Time, o outlook, count buffer.DrainStats) Constraint {
	gate := c.gate(now, o).name
	budget := c.budget.Limit().Rate
	switch {
	case gate == Paused:
		return Paused
	case count.Pending+count.Scheduled+count.InFlight == 0:
		return Empty
	case gate != "":
		return gate
	case o.breaker == BreakerHalfOpen:
		return Breaker
	case budget == 0:
		return o.funding()
	case count.Blocked || count.Pending > 0 && count.ParkedKeys > 0 && c.bound == Empty:
		return Ordering
	case count.Pending == 0:
		return Empty // what is scheduled is not due, and what is in flight needs no rate
	case c.bound != "" && c.bound != Empty:
		return c.boundNow(o) // what the pick itself was held by
	case c.beat.rate == limiter.Unlimited && budget == limiter.Unlimited:
		return Unlimited
	case budget < c.beat.rate:
		return o.funding()
	default:
		return c.beat.name
	}
}
