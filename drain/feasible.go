package drain

import (
	"math"
	"sync"
	"time"

	"forebay/policies"
)

const (
	// recountEvery is the least time between two counts while nothing more fits.
	recountEvery = 50 * time.Millisecond
	// recountAfter is the longest that a count is good for.
	recountAfter = 10 * time.Second
	// rounded is the share of what fits that whole tokens may lose at the edges of windows.
	rounded = 1.0 / 5000
)

// Feasible reports whether n more messages of a stream would leave before they are
// late, with every drain that does not deliver what is: as schedule, sink's rate, who else
// takes from it and backlog say, whatever operators and the sink do at the moment. If not, it would be so
// from again on; zero: that is not in sight. What was found feasible counts as accepted.
// It is called for every message, takes some tens of nanoseconds for most, and nothing
// where no drain of the stream has a deadline. It does not touch the disk.
func (d *Drains) Feasible(stream string, now time.Time, n int) (again time.Time, ok bool) {
	ok = true
	for _, dr := range (*d.doors.Load())[stream] {
		at, fits := dr.feasible(now, n)
		if !fits {
			again, ok = later(again, at), false
			if at.IsZero() {
				return time.Time{}, false
			}
		}
	}
	return again, ok
}

// openDoors lists the drains that Feasible asks. It requires that mu is held.
func (d *Drains) openDoors() {
	doors := make(map[string][]*drain)
	for _, name := range d.order {
		dr := d.drains[name]
		if p := dr.policy(); p.Deadline.MaxDelay > 0 && p.Deadline.OnExpire != policies.EndDeliver {
			doors[p.Stream] = append(doors[p.Stream], dr)
		}
	}
	d.doors.Store(&doors)
}

// door is what a drain knows of how many more messages would leave in time.
type door struct {
	mu      sync.Mutex
	counted time.Time // guarded by mu; when room was; zero: it is to be
	good    time.Time // guarded by mu; until when that is good
	waiting float64   // guarded by mu; messages, when it was counted
	room    float64   // guarded by mu; less what was let in since
	again   time.Time // guarded by mu; when what was refused would be feasible
	refused float64   // guarded by mu; how many messages that was; 0: none since it was counted
}

// forget has the next one counted.
func (x *door) forget() {
	x.mu.Lock()
	x.counted = time.Time{}
	x.mu.Unlock()
}

func (d *drain) feasible(now time.Time, n int) (again time.Time, ok bool) {
	x, want := &d.door, float64(n)
	x.mu.Lock()
	defer x.mu.Unlock()
	known := !x.counted.IsZero() && !now.Before(x.counted)
	switch {
	case known && now.Before(x.good) && want <= x.room:
		x.room -= want
		return time.Time{}, true
	case known && x.refused > 0 && want >= x.refused && now.Sub(x.counted) < recountEvery:
		if want > x.refused {
			x.refused, x.again = want, d.feasibleAt(now, x.waiting+want)
		}
		return x.again, false
	}
	x.waiting = d.waiting()
	fits, delay := d.fits(now)
	x.counted, x.room, x.refused = now, fits-x.waiting, 0
	if x.good = now.Add(recountAfter); !math.IsInf(fits, 1) {
		// Even if nothing left meanwhile there would be room for most of what is let in.
		spare := max(0, x.room) / max(1, fits)
		x.good = now.Add(min(recountAfter, time.Duration(float64(delay)*spare/8)))
	}
	if want <= x.room {
		x.room -= want
		return time.Time{}, true
	}
	x.refused, x.again = want, d.feasibleAt(now, x.waiting+want)
	return x.again, false
}

func (d *drain) policy() policies.Drain {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan.policy
}

// waiting counts the messages that leave before one that comes now.
func (d *drain) waiting() float64 {
	for _, c := range d.buf.Stats().Drains {
		if c.Drain == d.name {
			return float64(c.Pending + c.Scheduled)
		}
	}
	return 0
}

// inTime is the age by which a message has to leave, so as not to be late by an attempt
// that has yet to begin.
func inTime(maxDelay time.Duration) time.Duration { return maxDelay - min(time.Second, maxDelay/100) }

// fits is how many messages leave before one that comes now is late.
func (d *drain) fits(now time.Time) (n float64, delay time.Duration) {
	crowd := d.sink().crowd(now, d)
	d.mu.Lock()
	defer d.mu.Unlock()
	delay = inTime(d.plan.policy.Deadline.MaxDelay)
	n, _, _ = d.undisturbed(now, crowd).leaves(now, now.Add(delay), math.Inf(1))
	return math.Floor(n * (1 - rounded)), delay
}

// feasibleAt is when the nth message from now would not be late if it came then.
func (d *drain) feasibleAt(now time.Time, n float64) time.Time {
	crowd := d.sink().crowd(now, d)
	d.mu.Lock()
	defer d.mu.Unlock()
	_, at, ok := d.undisturbed(now, crowd).leaves(now, now.Add(horizon), n)
	if !ok {
		return time.Time{}
	}
	return later(at.Add(-inTime(d.plan.policy.Deadline.MaxDelay)), now)
}

// undisturbed is a forecast by schedule, sink's rate and who else takes from it alone. It requires that mu is
// held.
func (d *drain) undisturbed(now time.Time, crowd crowd) *forecast {
	c := d.core
	f := &forecast{flow: c.flow(now), urgency: c.late.of(now), window: c.schedule(now), crowd: crowd, whole: d.plan.sink.limit()}
	if f.urgency.rate > 0 { // it takes effect a moment late, with no token in hand
		f.urgency.from = f.urgency.from.Add(expireEvery + time.Duration(float64(time.Second)/float64(f.urgency.rate)))
	}
	f.funded.limit = f.whole
	f.funded.add(0)
	var ahead []policies.Window
	first := f.window
	f.following = func(i int) (policies.Window, bool) { return following(c.schedule, first, &ahead, i) }
	return f
}
