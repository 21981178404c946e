package drain

import (
	"math"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// beat is the rate that a drain goes at now: its window's, a step of the window's ramp,
// or that of urgency.
type beat struct {
	rate  limiter.Rate
	name  Constraint // what sets it
	until time.Time  // when it may be another; zero: not in sight
	plain step       // without urgency
}

// step is a stretch of a window: of a ramp the mean is kept to, so that all of it has
// to be gone through.
type step struct {
	rate        limiter.Rate
	from, until time.Time
}

// over reports whether the step is. A clock that was set back ends it too.
func (s step) over(now time.Time) bool { return past(s.until, now) || s.from.Sub(now) > time.Second }

func stepOf(w policies.Window, now time.Time) step {
	rate, until := w.Step(now, math.MaxInt)
	return step{rate, now.Round(0), until}
}

// beatOf requires that the window is the present one, and the step one of its.
func (c *core) beatOf(s step, now time.Time) beat {
	b := beat{s.rate, c.hands.pace(now), s.until, s}
	if b.name != Schedule {
		return b
	}
	if c.window.Floor {
		b.name = Floor
	}
	return c.urgency.over(b, now, c.window)
}

// urgency is what messages that are nearly late leave at, at least. The zero value is
// none.
type urgency struct {
	rate limiter.Rate
	from time.Time // when the first message that may leave is nearly late; zero: none waits
}

// over lays urgency on what a schedule says. A freeze stops it.
func (u urgency) over(b beat, now time.Time, w policies.Window) beat {
	switch {
	case u.from.IsZero() || u.rate <= b.rate || w.Frozen():
	case now.Before(u.from):
		b.until = sooner(b.until, u.from)
	default:
		b.rate, b.name = u.rate, Deadline
	}
	return b
}

// setUrgency says when the first message that may leave is nearly late, and reports
// whether one is now.
func (c *core) setUrgency(now time.Time, u urgency) bool {
	c.roll(now)
	c.urgency = u
	c.follow(now, now, c.beat.plain)
	return c.beat.name == Deadline
}

// follow takes up the rate of a step, as of a time that is now or was just before. What is
// urgent has a bucket of its own, which begins empty: the schedule's goes on beside it,
// so that neither gains by the other.
func (c *core) follow(now, at time.Time, s step) (was beat) {
	was, c.beat = c.beat, c.beatOf(s, now)
	if s.rate != was.plain.rate {
		c.pacer.Set(at, c.pace(s.rate))
		c.wire.Set(at, slack(c.pace(s.rate)))
	}
	if c.beat.name != was.name {
		c.bound, c.due = "", time.Time{}
	}
	if c.beat.name == Deadline && (was.name != Deadline || c.beat.rate != was.rate) {
		c.hurry(at)
	}
	return was
}

// hurry begins the buckets of what is urgent.
func (c *core) hurry(at time.Time) {
	c.rush = limiter.NewEmptyBucket(at, c.pace(c.beat.rate))
	c.rushWire = limiter.NewFullBucket(at, slack(c.pace(c.beat.rate)))
}

// paced is the bucket of the present rate.
func (c *core) paced() *limiter.Bucket {
	if c.beat.name == Deadline {
		return c.rush
	}
	return c.pacer
}

// past reports whether a time has come; zero never does.
func past(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// sooner returns the earlier of two times, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// justNow is when something was due, or now if that was not just before. It is
// counted back from now to keep now's monotonic clock.
func justNow(due, now time.Time) time.Time {
	late := now.Sub(due)
	if due.IsZero() || late < 0 || late > maxLate {
		return now
	}
	return now.Add(-late)
}
