package policies

import (
	"math"
	"time"

	"forebay/limiter"
)

// Window is a stretch of time in which one entry holds, or the base.
type Window struct {
	Rate    limiter.Rate // never more; what a ramp leads to
	Because string       // the entry's name, or "base"
	Until   time.Time    // when the answer may change; zero: not within the horizon
	Floor   bool         // Rate is the schedule's floor: the entry, or the base, says less

	said     limiter.Rate  // what the entry, or the base, says; where Floor
	ramp     time.Duration // how long it rises and falls; 0: it has one rate
	began    time.Time     // when it began; zero: too long ago to rise still, or it does not
	from, to limiter.Rate  // what it rises from, and falls to
}

// Said is the rate that the entry, or the base, says, whatever the floor is.
func (w Window) Said() limiter.Rate {
	if w.Floor {
		return w.said
	}
	return w.Rate
}

// Frozen reports whether an entry says 0, where neither a floor nor a deadline counts.
func (w Window) Frozen() bool { return w.Rate == 0 && w.Because != base }

// RateAt returns the rate at a time in the window: less than Rate while it rises or
// falls.
func (w Window) RateAt(t time.Time) limiter.Rate {
	return min(w.rising(t), w.falling(t))
}

func (w Window) rising(t time.Time) limiter.Rate {
	if w.began.IsZero() {
		return w.Rate
	}
	return w.along(w.from, t.Sub(w.began))
}

func (w Window) falling(t time.Time) limiter.Rate {
	if w.ramp == 0 || w.Until.IsZero() {
		return w.Rate
	}
	return w.along(w.to, w.Until.Sub(t))
}

// along is the rate so far from an end of the window that has another one.
func (w Window) along(end limiter.Rate, distance time.Duration) limiter.Rate {
	if distance >= w.ramp || end >= w.Rate {
		return w.Rate
	}
	return end + (w.Rate-end)*limiter.Rate(max(0, distance).Seconds()/w.ramp.Seconds())
}

// Straight returns the stretch around t in which the rate is one straight line. Its
// beginning is zero where that does not matter: the line is level. Its end is zero
// where Until is.
func (w Window) Straight(t time.Time) (from, to time.Time) {
	if w.ramp == 0 {
		return time.Time{}, w.Until
	}
	risen, falls := w.bends()
	switch {
	case !risen.IsZero() && t.Before(risen):
		return w.began, risen
	case !falls.IsZero() && !t.Before(falls):
		return falls, w.Until
	case !falls.IsZero():
		return time.Time{}, falls
	default:
		return time.Time{}, w.Until
	}
}

// Sloped reports whether the rate changes at a time in the window.
func (w Window) Sloped(t time.Time) bool {
	from, _ := w.Straight(t)
	return !from.IsZero()
}

// bends is when the window has risen, and when it begins to fall; zero: it does not.
// Where it is too short for both they are one.
func (w Window) bends() (risen, falls time.Time) {
	if !w.began.IsZero() && w.from < w.Rate {
		risen = w.began.Add(w.ramp)
	}
	if !w.Until.IsZero() && w.to < w.Rate {
		falls = w.Until.Add(-w.ramp)
	}
	switch {
	case risen.IsZero() && !falls.IsZero() && falls.Before(w.began):
		falls = w.began
	case !risen.IsZero() && falls.IsZero() && !w.Until.IsZero() && risen.After(w.Until):
		risen = w.Until
	case !risen.IsZero() && !falls.IsZero() && falls.Before(risen):
		meet := w.meet()
		return meet, meet
	}
	return risen, falls
}

// meet is when a window that rises until it falls does so: where the lines cross, or
// at the end that the other line does not reach.
func (w Window) meet() time.Time {
	lasts := w.Until.Sub(w.began).Seconds()
	up, down := float64(w.Rate-w.from)/w.ramp.Seconds(), float64(w.Rate-w.to)/w.ramp.Seconds()
	after := (float64(w.to-w.from) + down*lasts) / (up + down)
	return w.began.Add(time.Duration(min(max(after, 0), lasts) * float64(time.Second)))
}

// maxSteps bounds the steps of one straight line.
const maxSteps = 256

// Step returns a rate that may be kept from t, a time in the window, until another
// one: the mean of what it stands for. So nothing but the steps of a ramp is lost,
// which are at most so many as given, or 256, and mostly so short that not half a message
// lies between them and the line. Where the rate is level that is until it is not;
// zero is the horizon.
func (w Window) Step(t time.Time, most int) (rate limiter.Rate, until time.Time) {
	from, to := w.Straight(t)
	if from.IsZero() {
		return w.Rate, to
	}
	lasts := to.Sub(from)
	change := math.Abs(float64(w.RateAt(to) - w.RateAt(from)))
	n := int64(min(max(1, math.Ceil(math.Sqrt(change*lasts.Seconds()))), float64(min(most, maxSteps))))
	for k := int64(t.Sub(from))*n/int64(lasts) + 1; ; k++ { // rounding may leave the first at t
		if until = from.Add(time.Duration(int64(lasts) / n * k)); k >= n {
			until = to
		}
		if until.After(t) {
			return w.Mean(t, until), until
		}
	}
}

// Mean is the mean rate between two times that lie in one straight stretch.
func (w Window) Mean(from, to time.Time) limiter.Rate {
	if w.ramp == 0 {
		return w.Rate
	}
	return (w.RateAt(from) + w.RateAt(to)) / 2
}

// under is the mean of a straight line from a to b, as far as it is below a bound.
func under(a, b, bound float64) float64 {
	low, high := min(a, b), max(a, b)
	switch {
	case high <= bound:
		return (a + b) / 2
	case low >= bound:
		return bound
	}
	below := (bound - low) / (high - low) // the share of the time
	return below*(low+bound)/2 + (1-below)*bound
}
