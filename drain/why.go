package drain

import (
	"fmt"
	"math"
	"time"

	"forebay/buffer"
	"forebay/limiter"
)

// Why is what a drain's rate is made of.
type Why struct {
	Rate        limiter.Rate // the least of the constraints'
	Binding     Constraint   // what keeps the drain from going faster
	Constraints []Term       // all that hold now
	Next        *Change      // nil: the rate never changes within the horizon
	Head        *Head        // nil: nothing waits, or the buffer cannot say
}

// Term is one constraint on a drain.
type Term struct {
	Name   Constraint
	Rate   limiter.Rate // what it leaves; Unlimited where it is no matter of a rate
	Detail string
	Until  time.Time // when it ends or changes; zero: not known
}

// Why says what a drain's rate is made of: what its loop goes by. It is false for
// a drain that is not in the policy.
func (d *Drains) Why(now time.Time, drain string) (Why, bool) {
	dr := d.drain(drain)
	if dr == nil {
		return Why{}, false
	}
	count := buffer.DrainStats{}
	for _, c := range d.buf.Stats().Drains {
		if c.Drain == drain {
			count = c
		}
	}
	head := d.head(drain)
	dr.mu.Lock()
	defer dr.mu.Unlock()
	w := dr.why(now, dr.plan.sink.outlook(now), count)
	w.Head = head.under(now, w.Binding)
	return w, true
}

// why requires that mu is held.
func (d *drain) why(now time.Time, o outlook, count buffer.DrainStats) Why {
	d.core.roll(now)
	terms := d.core.terms(now, o)
	w := Why{Rate: limiter.Unlimited, Binding: d.core.binding(now, o, count)}
	for _, t := range terms {
		w.Rate = min(w.Rate, t.Rate)
	}
	if t, ok := stall(w.Binding, count); ok {
		terms = append(terms, t)
	}
	w.Constraints = terms
	if at, next, ok := d.core.change(now); ok {
		w.Next = &Change{At: at, Rate: next.Rate, Because: next.Because}
	}
	return w
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

// terms lists what holds now, each with the rate it leaves. It requires that the
// window is the present one.
func (c *core) terms(now time.Time, o outlook) []Term {
	w := c.window
	terms := []Term{{Name: c.hands.pace(now), Rate: w.Rate, Detail: w.Because, Until: w.Until}}
	switch terms[0].Name {
	case Paused:
		terms[0].Detail = c.hands.pause.Reason
	case Override:
		terms[0].Detail = c.hands.rate.Reason
	}
	limit := c.budget.Limit().Rate
	whole := limit
	if o.ramping() {
		whole = o.whole.Limit.Rate
		terms = append(terms, Term{
			Name: SlowStart, Rate: limit, Until: o.ramp.end(),
			Detail: fmt.Sprintf("%.0f %% of the budget", math.Floor(o.ramp.share(now)*100)),
		})
	}
	if whole != limiter.Unlimited {
		terms = append(terms, Term{Name: SinkBudget, Rate: whole, Detail: "the sink's rate"})
	}
	terms = append(terms, Term{
		Name: Concurrency, Rate: limiter.Unlimited,
		Detail: fmt.Sprintf("%d of %d slots in use", c.budget.InFlight(), c.budget.Slots()),
	})
	if o.pause.After(now) {
		terms = append(terms, Term{Name: RetryAfter, Detail: o.asked.String(), Until: o.pause})
	}
	switch o.breaker {
	case BreakerOpen:
		terms = append(terms, Term{Name: Breaker, Detail: "open: nothing is sent", Until: o.opens})
	case BreakerHalfOpen:
		terms = append(terms, Term{Name: Breaker, Detail: "half open: one probe at a time"})
	}
	return terms
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
		return SinkBudget
	case count.Blocked || count.Pending > 0 && count.ParkedKeys > 0 && c.bound == Empty:
		return Ordering
	case count.Pending == 0:
		return Empty // what is scheduled is not due, and what is in flight needs no rate
	case c.bound != "" && c.bound != Empty:
		return c.bound // what the pick itself was held by
	case c.window.Rate == limiter.Unlimited && budget == limiter.Unlimited:
		return Unlimited
	case budget < c.window.Rate:
		return o.funding()
	default:
		return c.hands.pace(now)
	}
}
