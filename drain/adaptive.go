package drain

import (
	"fmt"
	"math"
	"slices"
	"time"

	"forebay/policies"
)

const (
	// tolerance is how many times the floor a sink's latency may be before it gets less.
	tolerance = 1.3
	// gentlest is the part of the limit that is left at least by one look.
	gentlest = 0.5
	// probeEvery and probeFloors are how far apart floors are measured, whichever is
	// longer: in time, and in floors.
	probeEvery  = 30 * time.Second
	probeFloors = 100
	// fewest and most are the answers that a look waits for.
	fewest, most = 8, 64
	// fewestProbing are those that the floor is measured by.
	fewestProbing = 5
)

// adaptive finds how many attempts a sink takes at once: as many as keep its latency
// near the floor, which is what it is at a quarter of them. The floor is measured
// apart, now and then: under a load that never ends the least latency is that of a
// queue. It is pure, and not safe for concurrent use.
//
// What began before the last change says nothing of it and is not looked at. So a look
// sees a whole round trip at the present limit.
type adaptive struct {
	policy policies.Budget // zero: the limit is fixed
	limit  float64
	rising bool // it doubles, until latency first rises
	adapted

	since  time.Time // of the last change
	due    time.Time // when the floor is measured next
	tried  float64   // the limit when it was measured
	took   []time.Duration
	failed int
	full   bool // all slots were in use since
}

// adapted is what there is to tell of it.
type adapted struct {
	most    int           // slots that there may be; 0: the limit is fixed
	probing bool          // the floor is being measured
	floor   time.Duration // 0: not measured yet
	latency time.Duration // of the last look; 0: none yet
}

// set changes the bounds. What was found stays, within them.
func (a *adaptive) set(now time.Time, b policies.Budget) {
	switch {
	case b.Mode != policies.ConcurrencyAdaptive:
		*a = adaptive{}
	case a.most == 0:
		*a = adaptive{policy: b, limit: float64(b.MinConcurrency), rising: true, since: now, adapted: adapted{most: b.Concurrency, probing: true}}
	default:
		a.policy, a.most = b, b.Concurrency
		a.limit = a.within(a.limit)
	}
}

func (a *adaptive) within(limit float64) float64 {
	return min(max(limit, float64(a.policy.MinConcurrency)), float64(a.policy.Concurrency))
}

// slots is how many of so many may be used.
func (a *adaptive) slots(of int) int {
	if a.most == 0 {
		return of
	}
	limit := a.limit
	if a.probing {
		limit = a.within(limit / 4)
	}
	return max(1, min(of, int(limit)))
}

// ended takes note of an attempt, and of how many were in flight with it, and reports
// whether the slots change.
func (a *adaptive) ended(now, began time.Time, took time.Duration, failed bool, inFlight int) bool {
	if a.most == 0 || began.Before(a.since) {
		return false
	}
	slots := a.slots(math.MaxInt)
	a.full = a.full || inFlight >= slots
	if failed {
		a.failed++
	} else {
		a.took = append(a.took, took)
	}
	enough := min(max(slots, fewest), most)
	if a.probing {
		enough = fewestProbing
	}
	if len(a.took)+a.failed < enough {
		return false
	}
	a.look(now)
	changed := a.slots(math.MaxInt) != slots
	if changed || a.probing {
		a.since = now
	}
	a.took, a.failed, a.full = a.took[:0], 0, false
	return changed
}

// look changes the limit by what has ended since the last one.
func (a *adaptive) look(now time.Time) {
	if failing := a.failed*10 > len(a.took)+a.failed; failing {
		a.limit, a.rising = a.within(a.limit*gentlest), false
		return // and a probe goes on
	}
	slices.Sort(a.took)
	median := max(1, a.took[len(a.took)/2])
	if a.probing {
		a.floor, a.probing, a.tried = median, false, a.limit
		a.due = now.Add(max(probeEvery, probeFloors*median))
		return
	}
	a.latency = median
	room := tolerance * float64(a.floor) / float64(median)
	switch {
	case room < 1:
		a.limit, a.rising = a.limit*max(room, gentlest), false
	case a.full && a.rising:
		a.limit *= 2
	case a.full:
		a.limit += max(1, a.limit/32)
	}
	a.limit = a.within(a.limit)
	// Where much less has not helped the floor may be another one.
	a.probing = !now.Before(a.due) || a.limit <= a.tried/4
}

// String explains the limit to an operator; empty where it is fixed.
func (a adapted) String() string {
	switch {
	case a.most == 0:
		return ""
	case a.floor == 0:
		return fmt.Sprintf("; adaptive, up to %d: the sink's latency is not known yet", a.most)
	case a.probing:
		return fmt.Sprintf("; adaptive, up to %d: few for a moment, to measure the sink's latency without load", a.most)
	case a.latency == 0:
		return fmt.Sprintf("; adaptive, up to %d: the sink's latency is %s without load", a.most, brief(a.floor))
	default:
		return fmt.Sprintf("; adaptive, up to %d: the sink's latency is %s, %s without load", a.most, brief(a.latency), brief(a.floor))
	}
}

// brief leaves out digits that nobody reads.
func brief(d time.Duration) time.Duration {
	return d.Round(max(1, time.Duration(math.Pow10(int(math.Log10(float64(max(1, d))))-1))))
}

// timed takes note of how long the sink took for an answer. What never came to it, or
// was refused, says nothing of that. It comes before the slot is released.
func (s *sinkState) timed(now, began time.Time, o Outcome) {
	if o.Status == 0 && o.Class != Timeout && o.Class != Success {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.adaptive.ended(now, began, now.Sub(began), o.sinkFailed(), s.budget.InFlight()) {
		s.fund(now)
		s.nudge()
	}
}
