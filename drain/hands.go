package drain

import (
	"errors"
	"fmt"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// maxReason bounds the bytes of a Hold's reason.
const maxReason = 1024

// Hold is an operator's hand on a drain. It ends by itself at Until.
type Hold struct {
	Drain  string       `json:"drain"`
	Kind   Constraint   `json:"kind"`  // Paused or Override
	Rate   limiter.Rate `json:"rate"`  // of an Override, in the place of the schedule's
	Since  time.Time    `json:"since"` // when it was laid on
	Until  time.Time    `json:"until"` // zero for a pause that lasts until Resume
	Reason string       `json:"reason"`
}

// check says why a hold can never take hold.
func (h Hold) check() error {
	switch {
	case h.Kind != Paused && h.Kind != Override:
		return fmt.Errorf("unknown kind %q", h.Kind)
	case len(h.Reason) > maxReason:
		return fmt.Errorf("the reason is over %d bytes", maxReason)
	case h.Kind == Paused:
		return nil
	case h.Until.IsZero():
		return errors.New("a rate needs a time to end")
	case !(h.Rate >= 0): // NaN too
		return fmt.Errorf("a rate of %v cannot be kept to", float64(h.Rate))
	default:
		return nil
	}
}

// past reports whether the hold has ended by itself.
func (h Hold) past(now time.Time) bool { return !h.Until.IsZero() && !now.Before(h.Until) }

// hands are the holds on one drain. The zero value is none.
type hands struct{ pause, rate Hold }

// with returns the hands after another hold of the same kind took the place of
// the one before.
func (h hands) with(hold Hold) hands {
	if hold.Kind == Paused {
		h.pause = hold
	} else {
		h.rate = hold
	}
	return h
}

// without returns the hands after the hold of a kind was lifted.
func (h hands) without(kind Constraint) hands {
	if kind == Paused {
		h.pause = Hold{}
	} else {
		h.rate = Hold{}
	}
	return h
}

// list returns the holds that hold at now.
func (h hands) list(now time.Time) []Hold {
	var list []Hold
	for _, hold := range []Hold{h.pause, h.rate} {
		if hold.Kind != "" && !hold.past(now) {
			list = append(list, hold)
		}
	}
	return list
}

// ended returns those that have ended by themselves.
func (h hands) ended(now time.Time) []Hold {
	if h == (hands{}) {
		return nil
	}
	var list []Hold
	for _, hold := range []Hold{h.pause, h.rate} {
		if hold.Kind != "" && hold.past(now) {
			list = append(list, hold)
		}
	}
	return list
}

// ends is when the first of them ends by itself; zero: none does.
func (h hands) ends() time.Time {
	if h.rate.Until.IsZero() || !h.pause.Until.IsZero() && h.pause.Until.Before(h.rate.Until) {
		return h.pause.Until
	}
	return h.rate.Until
}

// pace names what sets a drain's pace at a time: Paused, Override or Schedule.
func (h hands) pace(t time.Time) Constraint {
	switch {
	case h.pause.Kind != "" && !h.pause.past(t):
		return Paused
	case h.rate.Kind != "" && !h.rate.past(t):
		return Override
	default:
		return Schedule
	}
}

// over lays the hands on a schedule: a pause is a window at rate 0, an override
// one at its own rate, so that whoever asks for windows sees them end.
func (h hands) over(schedule func(time.Time) policies.Window) func(time.Time) policies.Window {
	if h == (hands{}) {
		return schedule
	}
	return func(t time.Time) policies.Window {
		switch h.pace(t) {
		case Paused:
			return policies.Window{Because: string(Paused), Until: h.pause.Until}
		case Override:
			return policies.Window{Rate: h.rate.Rate, Because: string(Override), Until: h.rate.Until}
		default:
			return schedule(t)
		}
	}
}
