package drain

import (
	"math"
	"time"

	"forebay/buffer"
	"forebay/limiter"
)

// State says what a drain is about.
type State string

// The states.
const (
	// Running means that the drain delivers what is due.
	Running State = "running"
	// Blocked means that messages wait and the permitted rate is 0.
	Blocked State = "blocked"
	// Idle means that the drain has nothing left to deliver.
	Idle State = "idle"
)

// Status is where a drain stands, beside what the buffer counts.
type Status struct {
	Drain, Stream, Sink string
	State               State
	Permitted           limiter.Rate // the least of schedule and budget; 0 while the sink is paused
	Actual              float64      // attempts a second, over the last five seconds
	Binding             Constraint
	Waiting             uint64    // pending and scheduled messages
	EmptyAt             time.Time // when the last waiting message leaves; zero: nothing waits, or no rate in sight
	Next                *Change   // nil: the rate never changes within the horizon
}

// Change is when and how a drain's scheduled rate changes next.
type Change struct {
	At      time.Time
	Rate    limiter.Rate
	Because string // the entry's name, or "base"
}

// Status returns where every drain stands, in the order of the policy.
func (d *Drains) Status(now time.Time) []Status {
	counts := make(map[string]buffer.DrainStats)
	for _, c := range d.buf.Stats().Drains {
		counts[c.Drain] = c
	}
	list := d.list()
	statuses := make([]Status, 0, len(list))
	for _, dr := range list {
		statuses = append(statuses, dr.status(now, counts[dr.name]))
	}
	return statuses
}

// ETA estimates when a message of a drain leaves that has so many others ahead
// of it, counting neither itself nor what is being delivered: the rates of
// schedule and sink integrated over them. Nine in ten leave before p90. Where no
// rate is in sight the times are zero and note says so. It does not touch the
// disk, and is cheap enough to be called for every message.
func (d *Drains) ETA(drain string, now time.Time, ahead uint64) (eta, p90 time.Time, note string) {
	dr := d.drain(drain)
	if dr == nil {
		return time.Time{}, time.Time{}, "no such drain"
	}
	eta, ok := dr.eta(now, ahead)
	if !ok {
		return time.Time{}, time.Time{}, "no rate in sight"
	}
	return eta, eta.Add(margin(eta.Sub(now))), ""
}

// margin is what an estimate may be off by: 15 % of the wait, at least 1 s.
func margin(wait time.Duration) time.Duration {
	return max(time.Second, wait*15/100)
}

func (d *drain) eta(now time.Time, ahead uint64) (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.eta(now, float64(ahead)+1, d.plan.sink.pausedUntil())
}

func (d *drain) sink() *sinkState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan.sink
}

func (d *drain) status(now time.Time, count buffer.DrainStats) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	paused := d.plan.sink.pausedUntil()
	d.core.roll(now)
	s := Status{
		Drain:  d.name,
		Stream: d.plan.policy.Stream,
		Sink:   d.plan.policy.Sink,
		State:  Running,
		Actual: d.recent.rate(now),
	}
	s.Permitted, s.Binding = d.permitted(now, paused, count)
	s.Waiting = count.Pending + count.Scheduled
	switch {
	case s.Waiting+count.InFlight == 0:
		s.State, s.Binding = Idle, Empty
	case s.Permitted == 0:
		s.State = Blocked
	}
	if s.Waiting > 0 {
		s.EmptyAt, _ = d.core.eta(now, float64(s.Waiting), paused)
	}
	if at, w, ok := d.core.change(now); ok {
		s.Next = &Change{At: at, Rate: w.Rate, Because: w.Because}
	}
	return s
}

// permitted is the rate that holds now, and what binds it. It requires that mu
// is held.
func (d *drain) permitted(now, paused time.Time, count buffer.DrainStats) (limiter.Rate, Constraint) {
	budget := d.core.budget
	scheduled, funded := d.core.window.Rate, budget.Limit().Rate
	rate := min(scheduled, funded)
	switch {
	case scheduled == 0:
		return 0, Schedule
	case paused.After(now):
		return 0, RetryAfter
	case funded == 0:
		return 0, SinkBudget
	case count.Pending == 0:
		return rate, Empty // what is scheduled is not due, and what is in flight needs no rate
	case budget.InFlight() >= budget.Slots():
		return rate, Concurrency
	case rate == limiter.Unlimited:
		return rate, Unlimited
	case funded < scheduled:
		return rate, SinkBudget
	default:
		return rate, Schedule
	}
}

// recent counts attempts by second.
type recent struct {
	second int64 // of the newest count, since 1970
	counts [6]uint64
}

func (r *recent) add(now time.Time) {
	r.advance(now)
	r.counts[r.second%int64(len(r.counts))]++
}

// rate is the mean over the last full seconds: all counts but the newest.
func (r *recent) rate(now time.Time) float64 {
	r.advance(now)
	var sum uint64
	for i, n := range r.counts {
		if int64(i) != r.second%int64(len(r.counts)) {
			sum += n
		}
	}
	return float64(sum) / float64(len(r.counts)-1)
}

// advance forgets the seconds that have left the window.
func (r *recent) advance(now time.Time) {
	second := now.Unix()
	if second-r.second >= int64(len(r.counts)) {
		*r = recent{second: second}
		return
	}
	for r.second < second {
		r.second++
		r.counts[r.second%int64(len(r.counts))] = 0
	}
}

// value is a rate as metrics have it: +Inf is unlimited.
func value(rate limiter.Rate) float64 {
	if rate == limiter.Unlimited {
		return math.Inf(1)
	}
	return float64(rate)
}
