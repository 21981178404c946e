package drain

import "time"

const (
	// askAgain is how long a token is left for live requests after one that does
	// not wait was refused.
	askAgain = 100 * time.Millisecond
	// grace is how long a drain may be late for what is left to it.
	grace = 10 * time.Millisecond
	// freeing is how long a drain waits for a slot before it has to say so again.
	freeing = time.Second
)

// shares has live requests and drains share what there is too little of. While
// both lack tokens or slots, whoever had more leaves to the other as many as it
// is ahead. It is pure, and not safe for concurrent use.
type shares struct {
	ahead int // of the drains, by what live requests took; negative: behind
	lacks map[*core]lack
	waits int       // live requests that wait in turn
	asked time.Time // another live request is expected up to then
}

// lack is what a drain could not take.
type lack struct {
	n     int
	until time.Time
}

// ask takes note of a live request that was refused and does not wait.
func (s *shares) ask(now time.Time) { s.asked = now.Add(askAgain) }

func (s *shares) liveLacks(now time.Time) int {
	if s.waits == 0 && now.Before(s.asked) {
		return 1
	}
	return s.waits
}

func (s *shares) drainsLack(now time.Time) (sum int) {
	for c, l := range s.lacks {
		if !now.Before(l.until) {
			delete(s.lacks, c)
			continue
		}
		sum += l.n
	}
	return sum
}

// liveLeaves is how many tokens and slots a live request leaves to drains.
func (s *shares) liveLeaves(now time.Time) int { return max(0, min(s.ahead, s.drainsLack(now))) }

// drainsLeave is how many a drain leaves to live requests.
func (s *shares) drainsLeave(now time.Time) int { return max(0, min(-s.ahead, s.liveLacks(now))) }

// until is when nothing is left to the drains any more; zero where nothing is.
func (s *shares) until(now time.Time, leave int) (at time.Time) {
	if leave == 0 {
		return at
	}
	for _, l := range s.lacks {
		if l.until.After(at) && now.Before(l.until) {
			at = l.until
		}
	}
	return at
}

func (s *shares) tookLive(now time.Time) {
	s.asked = time.Time{}
	s.ahead++
	if s.drainsLack(now) == 0 {
		s.ahead = 1 // the next drain that lacks something goes first
	}
}

// tookDrain takes note of what a drain took, and of what it still lacks.
func (s *shares) tookDrain(now time.Time, c *core, v verdict) {
	s.ahead -= v.take
	if v.take > 0 && s.liveLacks(now) == 0 {
		s.ahead = -1
	}
	if v.lacks == 0 {
		delete(s.lacks, c)
		return
	}
	until := now.Add(freeing)
	if !v.again.IsZero() {
		until = v.again.Add(grace)
	}
	if s.lacks == nil {
		s.lacks = make(map[*core]lack)
	}
	s.lacks[c] = lack{n: v.lacks, until: until}
}
