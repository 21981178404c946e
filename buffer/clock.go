package buffer

import (
	"container/heap"
	"time"
)

// The engine asks nobody for the time to decide when a message is due: callers say
// it. Between two of them Go's monotonic clock counts, whatever becomes of the wall
// clock. A start finds wall times alone; so each block of changes says what the time
// was, and what was waited for then is counted from the first time that a caller says.

// setBack is how far the clock has to be behind what was stored for that to be
// noticed: so much longer may what is scheduled have to wait.
const setBack = time.Minute

// hear takes note of the time. The caller holds mu.
func (e *Engine) hear(now time.Time) {
	if !e.heard {
		e.heard = true
		e.recount(now)
	}
	e.clock = now
}

// recount counts the waits that a start found from now on. Where the clock was set
// back they go by what it showed: some may end early, none an hour late.
func (e *Engine) recount(now time.Time) {
	back := e.clock.Sub(now)
	if back < setBack {
		back = 0
	} else {
		e.log.Warn("the clock was set back: what is scheduled waits no longer for that", "by", back)
	}
	for _, d := range e.drains {
		for _, x := range d.retries {
			x.Due = now.Add(x.Due.Add(-back).Sub(now)) // with now's monotonic clock
		}
		heap.Init(&d.due)
		heap.Init(&d.late)
	}
}

// shown is a retry with its due time as the wall clock will show it, should that have
// been set since. The caller holds mu.
func (e *Engine) shown(r Retry) Retry {
	if !e.clock.IsZero() {
		r.Due = e.clock.Add(r.Due.Sub(e.clock))
	}
	return r
}
