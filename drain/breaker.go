package drain

import (
	"time"

	"forebay/policies"
)

// BreakerState says what a sink's breaker lets through.
type BreakerState uint8

// The states of a breaker. They are a closed set: each is a label value of
// forebay_sink_breaker_state.
const (
	BreakerClosed   BreakerState = iota // everything
	BreakerOpen                         // nothing
	BreakerHalfOpen                     // one probe at a time
)

// BreakerStates lists every BreakerState.
func BreakerStates() []BreakerState {
	return []BreakerState{BreakerClosed, BreakerOpen, BreakerHalfOpen}
}

// String returns the label value.
func (s BreakerState) String() string {
	switch s {
	case BreakerOpen:
		return "open"
	case BreakerHalfOpen:
		return "half_open"
	default:
		return "closed"
	}
}

// breaker keeps a sink that fails from being sent more. It is pure, and not safe
// for concurrent use.
//
// Each opening begins a term. What an attempt found counts in the term that it
// began in alone, so that what was under way when the breaker opened neither
// closes it nor holds it open.
type breaker struct {
	policy  policies.Breaker // zero: it never opens
	term    uint64
	until   time.Time // nothing is sent before; zero while closed
	probing bool      // a probe is under way
	tallies [tallies]tally
	newest  int64 // number of the newest tally, since 1970
}

// tallies is how many parts the window slides by.
const tallies = 10

type tally struct{ attempts, failures int }

// set changes when it opens. It stays open if it is, unless it never opens any more.
func (b *breaker) set(p policies.Breaker) {
	if p == b.policy {
		return
	}
	if p.Window != b.policy.Window {
		b.tallies = [tallies]tally{}
	}
	b.policy = p
	if p == (policies.Breaker{}) {
		*b = breaker{term: b.term + 1}
	}
}

func (b *breaker) state(now time.Time) BreakerState {
	switch {
	case b.until.IsZero():
		return BreakerClosed
	case now.Before(b.until):
		return BreakerOpen
	default:
		return BreakerHalfOpen
	}
}

// began takes note of attempts that start, no more than state allows, and
// returns the term to give to ended or withdraw.
func (b *breaker) began(attempts int) uint64 {
	if attempts > 0 && !b.until.IsZero() {
		b.probing = true
	}
	return b.term
}

// withdraw takes note of an attempt that found nothing out: it did not start, or
// was cut off.
func (b *breaker) withdraw(term uint64) {
	if term == b.term {
		b.probing = false
	}
}

// ended takes note of what an attempt found, and reports whether that opened or
// closed the breaker.
func (b *breaker) ended(now time.Time, term uint64, failed bool) bool {
	if term != b.term || b.policy == (policies.Breaker{}) {
		return false
	}
	if !b.until.IsZero() {
		b.probing = false
		b.until = time.Time{}
		if failed {
			b.open(now)
		}
		return true
	}
	t := b.tally(now)
	t.attempts++
	if !failed {
		return false
	}
	t.failures++
	if !b.trips() {
		return false
	}
	b.open(now)
	return true
}

func (b *breaker) open(now time.Time) {
	b.term++
	b.until = now.Add(b.policy.OpenFor)
	b.tallies = [tallies]tally{}
}

func (b *breaker) trips() bool {
	var sum tally
	for _, t := range b.tallies {
		sum.attempts += t.attempts
		sum.failures += t.failures
	}
	return sum.attempts >= b.policy.MinRequests && float64(sum.failures) >= b.policy.FailureRatio*float64(sum.attempts)
}

// tally returns the newest one, after those that left the window are forgotten.
func (b *breaker) tally(now time.Time) *tally {
	n := now.UnixNano() / max(1, int64(b.policy.Window)/tallies)
	if n-b.newest >= tallies || n <= b.newest-tallies { // or the clock was set back, and none would leave
		b.tallies = [tallies]tally{}
		b.newest = n
	}
	for ; b.newest < n; b.newest++ {
		b.tallies[(b.newest+1)%tallies] = tally{}
	}
	return &b.tallies[b.newest%tallies]
}

// ramp is a slow start: a share of a sink's budget that grows from firstShare to
// all of it. It grows in steps, each below the straight line, so that whoever
// waits for it knows when to look again. The zero value is no slow start.
type ramp struct {
	from  time.Time
	lasts time.Duration
}

const (
	firstShare = 0.05
	rampSteps  = 64
)

// step returns which step now lies in; rampSteps after the end.
func (r ramp) step(now time.Time) int {
	if r.from.IsZero() {
		return rampSteps
	}
	return int(min(max(now.Sub(r.from), 0)/r.each(), rampSteps))
}

func (r ramp) each() time.Duration { return max(1, r.lasts/rampSteps) }

// share is the part of the budget that may be used; 1 after the end.
func (r ramp) share(now time.Time) float64 {
	step := r.step(now)
	if step == rampSteps {
		return 1 // exactly
	}
	return firstShare + (1-firstShare)*float64(step)/rampSteps
}

// next is when the share grows next; false after the end.
func (r ramp) next(now time.Time) (time.Time, bool) {
	step := r.step(now)
	return r.from.Add(r.each() * time.Duration(step+1)), step < rampSteps
}

func (r ramp) end() time.Time { return r.from.Add(r.each() * rampSteps) }
