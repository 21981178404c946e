package drain

import (
	"math"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// reserve is live traffic's part of a sink's budget: tokens that come at its share of
// the rate, up to its share of the burst, and its share of the slots. The tokens lie in
// the budget's bucket, so that both sides together are inside its limit whatever they
// take from each other. It is pure, and not safe for concurrent use.
type reserve struct {
	slots, others int     // live traffic's, and the drains'
	rate, most    float64 // of its tokens; 0 while the budget's rate is unlimited

	level float64   // at last
	last  time.Time // the latest time any method was given
}

// reserved sets the parts of a budget that are what a share of it is, or returns nil where
// there is none, or so little is left by the slow start that it cannot be parted.
func (r *reserve) reserved(now time.Time, share float64, limit limiter.Limit, slots int) *reserve {
	limited := limit.Rate != limiter.Unlimited
	if share <= 0 || slots < 2 || limited && limit.Burst < 2 {
		return nil
	}
	if r == nil {
		r = &reserve{last: now}
	}
	r.at(now)
	r.slots = part(share, slots)
	r.others = slots - r.slots
	r.rate, r.most = 0, 0
	if limited {
		r.rate, r.most = share*float64(limit.Rate), float64(part(share, limit.Burst))
	}
	r.level = min(r.level, r.most)
	return r
}

// part is a share of n that leaves something to either side.
func part(share float64, n int) int {
	return min(max(1, int(math.Round(share*float64(n)))), n-1)
}

// at is how many tokens are live traffic's.
func (r *reserve) at(now time.Time) float64 {
	if now.After(r.last) {
		r.level = min(r.most, r.level+r.rate*now.Sub(r.last).Seconds())
		r.last = now
	}
	return r.level
}

// took takes note of what left the budget, of which there is so much now: a live
// request takes of its own first, and whoever takes of the other's lessens it.
func (r *reserve) took(now time.Time, live bool, left float64) {
	level := r.at(now)
	if live && level >= 1-unresolved {
		level--
	}
	r.level = max(0, min(level, left))
}

// returned puts a token back.
func (r *reserve) returned(now time.Time) { r.level = min(r.most, r.at(now)+1) }

// unresolved is the part of a token that a clock cannot tell.
const unresolved = 1e-6

// own is when live traffic has a token of its own.
func (r *reserve) own(now time.Time) time.Time { return in(now, (1-r.at(now))/r.rate) }

// beside is when a budget that has so many tokens has n more than live traffic's.
func (r *reserve) beside(now time.Time, limit limiter.Limit, tokens, n float64) time.Time {
	level := r.at(now)
	missing := (n + level - tokens) / (float64(limit.Rate) - r.rate)
	if full := (r.most - level) / r.rate; missing > full {
		missing = (n + r.most - tokens) / float64(limit.Rate)
	}
	return in(now, missing)
}

// in is some seconds after now, rounded up.
func in(now time.Time, seconds float64) time.Time {
	if !(seconds > 0) {
		return now
	}
	return now.Add(time.Duration(math.Ceil(min(seconds, maxSleep.Seconds()) * float64(time.Second))))
}

// leave is what one side leaves to the other. The zero value is nothing.
type leave struct {
	slots, tokens int
	part          *reserve  // decides on the tokens; nil: tokens does
	live          bool      // who leaves
	until         time.Time // when that is over; zero: not known
}

func (l leave) nothing() bool { return l.slots == 0 && l.tokens == 0 && l.part == nil }

// of is how many tokens are left to others, of so many.
func (l leave) of(at time.Time, tokens float64) float64 {
	switch {
	case l.part == nil:
		return float64(l.tokens)
	case l.live:
		return max(0, tokens-l.part.at(at)-unresolved)
	default:
		return max(0, l.part.at(at)-unresolved)
	}
}

// keeps is the part of a rate that is the drains' while live requests come.
func keeps(b policies.Budget, rate limiter.Rate) limiter.Rate {
	if b.ReserveForLive == 0 || rate == limiter.Unlimited {
		return limiter.Unlimited
	}
	return rate * limiter.Rate(1-b.ReserveForLive)
}

// yields reports whether what is short would be there without live requests.
func (c *core) yields(at time.Time, short limiter.Shortage, leave leave) bool {
	if short == limiter.OfSlots {
		return c.budget.Slots() > c.budget.InFlight()
	}
	return leave.part != nil || c.budget.Level(at) >= 1
}

// funded is when the budget has n tokens beside what is left to others; false: never.
func (c *core) funded(now time.Time, n int, left leave) (time.Time, bool) {
	limit := c.budget.Limit()
	if left.part != nil && limit.Rate > 0 {
		n = max(1, min(n, limit.Burst-int(left.part.most)))
		return left.part.beside(now, limit, c.budget.Level(now), float64(n)), true
	}
	at, ok := c.budget.When(now, min(n+left.tokens, limit.Burst))
	if left.tokens > 0 && !at.After(now) { // all there may be is there, and for others
		at = now.Add(max(coalesce, time.Duration(float64(time.Second)/float64(limit.Rate))))
	}
	return at, ok
}
