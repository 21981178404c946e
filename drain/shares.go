package drain

import "time"

const (
	// askAgain is how long a token is left for live requests after one that does
	// not wait was refused.
	askAgain = 100 * time.Millisecond
	// grace is how long a drain may be late for what is left to it.
	grace = 10 * time.Millisecond
	// freeing is how long a drain that others wait behind waits for a slot before it says
	// so again.
	freeing = time.Second
)

// shares has live requests and drains share what there is too little of. While
// both lack tokens or slots, whoever had more leaves to the other as many as it
// is ahead; with a reserve each leaves the other's part. It is pure, and not safe for
// concurrent use.
type shares struct {
	part   *reserve // nil: none
	flying int      // live requests that have a slot
	drains weights  // among each other
	line   line     // drains that lack tokens or slots

	ahead int       // of the drains, by what live requests took; negative: behind
	waits int       // live requests that wait in turn
	asked time.Time // another live request is expected up to then
}

// ask takes note of a live request that was refused and does not wait.
func (s *shares) ask(now time.Time) {
	s.asked = now.Add(askAgain)
	if s.part != nil && s.part.rate > 0 { // a token of a low rate takes longer
		s.asked = later(s.asked, s.part.own(now).Add(grace))
	}
}

func (s *shares) liveLacks(now time.Time) int {
	if s.waits == 0 && now.Before(s.asked) {
		return 1
	}
	return s.waits
}

func (s *shares) drainsLack(now time.Time) int {
	s.line.first(now)
	return s.line.wants
}

// liveLeaves is what a live request leaves to drains while so many attempts are in
// flight.
func (s *shares) liveLeaves(now time.Time, inFlight int) leave {
	lacks := s.drainsLack(now)
	if s.part != nil && lacks > 0 {
		return leave{slots: max(0, s.part.others-(inFlight-s.flying)), part: s.part, live: true, until: s.until(now)}
	}
	n := max(0, min(s.ahead, lacks))
	if n == 0 {
		return leave{}
	}
	return leave{slots: n, tokens: n, live: true, until: s.until(now)}
}

// drainsLeave is what a drain leaves to live requests.
func (s *shares) drainsLeave(now time.Time) leave {
	switch {
	case s.part == nil:
		n := max(0, min(-s.ahead, s.liveLacks(now)))
		return leave{slots: n, tokens: n}
	case s.waits == 0 && !now.Before(s.asked):
		return leave{}
	}
	l := leave{slots: max(0, s.part.slots-s.flying), part: s.part}
	if s.waits == 0 {
		l.until = s.asked
	}
	return l
}

// holds is what keeps the drain that comes first from taking; empty: none waits.
func (s *shares) holds(now time.Time) Constraint {
	if p := s.line.first(now); p != nil {
		return p.name
	}
	return ""
}

// until is when the drain that comes first has taken what is left to it, or does not come.
func (s *shares) until(now time.Time) time.Time {
	if p := s.line.first(now); p != nil && !p.until.IsZero() {
		return p.until
	}
	return now.Add(grace)
}

// tookLive takes note of what a live request took, with so many tokens left.
func (s *shares) tookLive(now time.Time, left float64) {
	s.flying++
	s.asked = time.Time{}
	if s.part != nil {
		s.part.took(now, true, left)
		s.ask(now) // others may come
	}
	s.ahead++
	if s.drainsLack(now) == 0 {
		s.ahead = 1 // the next drain that lacks something goes first
	}
}

// tookDrain takes note of what a drain took, with so many tokens left, and of what it
// still lacks. It reports whether it lacked something before and does not any more.
func (s *shares) tookDrain(now time.Time, c *core, v *verdict, left float64) (content bool) {
	s.ahead -= v.take
	if v.take > 0 {
		s.drains.took(c, v.take, s.line.first(now))
	}
	if s.part != nil && v.take > 0 {
		s.part.took(now, false, left)
	}
	if v.take > 0 && s.liveLacks(now) == 0 {
		s.ahead = -1
	}
	if v.lacks == 0 {
		return s.line.leave(c)
	}
	p := s.line.join(c, c.freed, s.drains.had(c), v.lacks)
	p.name = v.binding
	switch {
	case v.behind: // it is called
	case v.take > 0:
		s.line.came(p, later(now, v.again))
	case v.again.IsZero() && len(s.line.order) > 1:
		v.again = now.Add(freeing) // it says now and then that it is there
		s.line.came(p, v.again)
	case v.again.IsZero():
		s.line.came(p, now.Add(freeing))
	default:
		s.line.came(p, v.again)
	}
	return false
}
