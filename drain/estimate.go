package drain

import "time"

// estimateFor is how long an estimate is good for other messages than its own.
const estimateFor = 10 * time.Millisecond

// even says of a message in a forecast that so many before it and behind it
// leave at one rate. Nobody does where each is counted on its own.
type even struct{ rate, before, behind float64 }

// estimate is an estimate with the messages that it is good for too: those that
// leave evenly with its own, or, where no rate is in sight, all behind it. Whoever
// accepts thousands of messages a second asks for each of them.
type estimate struct {
	made  time.Time
	ahead float64 // of its message
	at    time.Time
	even  even
	share float64 // of the wait that it may be off by
	note  string  // why there is no estimate
}

// covers reports whether it is good for a message with so many ahead.
func (s *estimate) covers(now time.Time, ahead float64) bool {
	if s == nil || now.Sub(s.made).Abs() > estimateFor {
		return false
	}
	off := ahead - s.ahead
	return s.note != "" && off >= 0 || -s.even.before <= off && off <= s.even.behind && s.even.rate > 0
}

// leaves is when a message that it covers does, and when nine in ten have.
func (s *estimate) leaves(now time.Time, ahead float64) (eta, p90 time.Time, note string) {
	if s.note != "" {
		return time.Time{}, time.Time{}, s.note
	}
	off := time.Duration((ahead - s.ahead) / s.even.rate * float64(time.Second))
	eta = later(now, s.at.Add(off))
	return eta, eta.Add(margin(s.share, eta.Sub(now))), ""
}
