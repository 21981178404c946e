package drain

import (
	"time"

	"forebay/limiter"
	"forebay/policies"
)

const (
	// horizon is how far ahead an estimate looks.
	horizon = 400 * 24 * time.Hour
	// maxAhead bounds the windows that are remembered. A schedule that changes
	// more than ten times a day is estimated less far.
	maxAhead = 4096
	// brink is cut off the end of a window: what is due at the very edge is the
	// next window's.
	brink = time.Microsecond
)

// eta is when the nth message from now leaves, counting from 1, as far as the
// sink's outlook tells: the rates integrated over the windows ahead from what the
// buckets hold now, and as far as others who take from it leave something. It is false where that is beyond the horizon.
func (c *core) eta(now time.Time, n float64, o outlook, crowd crowd) (time.Time, bool) {
	at, _, ok := c.evenly(now, n, o, crowd)
	return at, ok
}

// evenly is eta, and who leaves at the same rate.
func (c *core) evenly(now time.Time, n float64, o outlook, crowd crowd) (time.Time, even, bool) {
	f, ok := c.forecast(now, o, crowd)
	if !ok {
		return time.Time{}, even{}, false
	}
	_, at, ok := f.leaves(now, now.Add(horizon), n)
	return at, f.even, ok
}

// forecast is what an estimate goes through; false: an operator has stopped the sink for good.
func (c *core) forecast(now time.Time, o outlook, crowd crowd) (f forecast, ok bool) {
	c.roll(now)
	if o.lag.stuck(now) {
		return forecast{}, false
	}
	if o = o.opened(now); o.held.holds(now) {
		if o.held.Until.IsZero() {
			return forecast{}, false
		}
		o.pause = later(o.pause, o.held.Until)
	}
	return forecast{
		flow: c.flow(now), outlook: o, hands: c.hands, urgency: c.late.of(now),
		window: c.window, following: c.following, crowd: crowd, whole: c.budget.Limit(),
	}, true
}

// forecast goes through the time ahead.
type forecast struct {
	flow
	outlook   outlook
	crowd     crowd
	whole     limiter.Limit // of the sink, as far as the outlook says nothing else
	hands     hands
	urgency   urgency
	window    policies.Window
	following func(i int) (policies.Window, bool) // the windows after the first
	gone      int                                 // windows that were left
}

// leaves is when the nth message from now leaves; false: not before the end, but so many
// do. It may be asked again, from then on.
func (f *forecast) leaves(now, end time.Time, n float64) (left float64, at time.Time, ok bool) {
	t, steps := now, coarse
	for {
		before, w := f.flow, f.window
		rate, until := f.step(t, end, steps)
		f.turn(rate)
		if changes := f.outlook.changes(t); !changes.IsZero() && !until.Before(changes) {
			f.single = counted
		}
		edge := past(w.Until, until)
		begin, lasts := f.rest(t, until), time.Duration(0)
		next, ok := policies.Window{}, false
		if edge {
			next, ok = f.following(f.gone)
		}
		first := rate
		if ok {
			f.window = next
			first, _ = f.pace(until, end, steps)
		}
		if lasts = until.Sub(begin); ok && first != rate {
			lasts -= brink
		}
		sent, took := f.run(lasts.Seconds(), n)
		switch {
		case sent >= n && steps < fine && w.Sloped(t):
			f.flow, f.window, steps = before, w, 8*steps // the same again, more exactly
			continue
		case sent >= n:
			f.window = w
			return left + sent, begin.Add(time.Duration(took * float64(time.Second))), true
		case !until.Before(end) || edge && !ok:
			return left + sent, time.Time{}, false
		}
		left, n, t = left+sent, n-sent, until
		f.crowd.pass(until.Sub(begin))
		if edge {
			if first != rate {
				f.enter(first)
			}
			f.gone++
		}
	}
}

// step is the rate from t on until another time, at most the end, at which what others
// leave changes too.
func (f *forecast) step(t, end time.Time, steps int) (rate limiter.Rate, until time.Time) {
	rate, until = f.pace(t, end, steps)
	if f.crowd.nobody() {
		return rate, until
	}
	if cut := f.crowd.contend(t, until, rate, f.sinkLimit(t).Rate); cut.Before(until) {
		return f.pace(t, cut, steps)
	}
	return rate, until
}

// sinkLimit is that of the sink at a time.
func (f *forecast) sinkLimit(t time.Time) limiter.Limit {
	if f.outlook.varies() {
		return f.outlook.limit(t)
	}
	return f.whole
}

// pace is the rate without the sink's from t on until another time, at most the end.
func (f *forecast) pace(t, end time.Time, steps int) (rate limiter.Rate, until time.Time) {
	_, until = f.window.Step(t, steps)
	if steps == coarse && f.crosses(t, until) {
		_, until = f.window.Step(t, 8*coarse)
	}
	until = sooner(end, until)
	until = sooner(until, f.outlook.changes(t))
	if f.urgency.rate == 0 || f.hands.pace(t) != Schedule {
		return f.window.Mean(t, until), until
	}
	if from := f.urgency.from; t.Before(from) {
		until = sooner(until, from)
	}
	return f.urgency.over(beat{rate: f.window.Mean(t, until)}, t, f.window).rate, until
}

// A ramp is gone through in so many steps at first, and where a message leaves in as
// many as the pacer takes.
const (
	coarse = 4
	fine   = 256
)

// crosses reports whether the rate of the sink, or of what is urgent, lies between those
// at the ends of a step: its mean then says less of how many are sent.
func (f *forecast) crosses(t, until time.Time) bool {
	if !f.window.Sloped(t) {
		return false
	}
	a, b := f.window.RateAt(t), f.window.RateAt(until)
	between := func(r limiter.Rate) bool { return min(a, b) < r && r < max(a, b) }
	return between(f.funded.limit.Rate) || between(f.urgency.rate)
}

// rest lets the time pass in which the sink takes nothing, gives the budget what
// slow start, sink and others leave of it, and returns when sending begins.
func (f *forecast) rest(t, until time.Time) time.Time {
	o := &f.outlook
	if alone := f.crowd.nobody(); !alone || o.varies() {
		f.funded.limit = f.sinkLimit(t)
		if !alone {
			f.funded.limit.Rate = f.crowd.remainder
		}
		f.funded.add(0)
	}
	if !o.pause.After(t) {
		return t
	}
	closed := earlier(o.pause, until)
	f.wait(closed.Sub(t).Seconds())
	return closed
}

// opened is the outlook if the probe of a breaker that is not closed succeeds: a
// pause, and then the slow start.
func (o outlook) opened(now time.Time) outlook {
	if o.breaker == BreakerClosed {
		return o
	}
	o.pause = later(o.pause, later(o.opens, now))
	o.breaker = BreakerClosed
	if o.after > 0 {
		o.ramp = ramp{from: o.pause, lasts: o.after}
	}
	return o
}

// flow is the state that an estimate starts from.
func (c *core) flow(now time.Time) flow {
	return flow{
		paced:  level{c.pacer.Level(now), c.pacer.Limit()},
		funded: level{c.budget.Level(now), c.budget.Limit()},
		single: counted,
		batch:  c.batch,
	}
}

// following returns the ith window after the present one.
func (c *core) following(i int) (policies.Window, bool) {
	return following(c.at, c.window, &c.ahead, i)
}

// following returns the ith window after one, and remembers those it went by.
func following(at func(time.Time) policies.Window, after policies.Window, ahead *[]policies.Window, i int) (policies.Window, bool) {
	for len(*ahead) <= i {
		last := after
		if n := len(*ahead); n > 0 {
			last = (*ahead)[n-1]
		}
		if last.Until.IsZero() || len(*ahead) >= maxAhead {
			return policies.Window{}, false
		}
		*ahead = append(*ahead, at(last.Until))
	}
	return (*ahead)[i], true
}

// opens is the first time from t on, which is not before the present window, at
// which the schedule lets anything through; zero where none is in sight.
func (c *core) opens(t time.Time) time.Time {
	w := c.window
	for i := 0; ; i++ {
		if w.Rate > 0 && (w.Until.IsZero() || t.Before(w.Until)) {
			return t
		}
		next, ok := c.following(i)
		if !ok {
			return time.Time{}
		}
		t, w = later(t, w.Until), next
	}
}

// change is the next window with another rate, and when it begins.
func (c *core) change(now time.Time) (from time.Time, w policies.Window, ok bool) {
	c.roll(now)
	from = c.window.Until
	for i := 0; ; i++ {
		next, ok := c.following(i)
		if !ok {
			return time.Time{}, policies.Window{}, false
		}
		if next.Rate != c.window.Rate {
			return from, next, true
		}
		from = next.Until
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
