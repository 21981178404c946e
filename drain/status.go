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
	// Halted means that an operator has paused the drain or its sink.
	Halted State = "paused"
	// Blocked means that messages wait and the permitted rate is 0, or as many
	// ordering keys wait for a failed message as may.
	Blocked State = "blocked"
	// Idle means that the drain has nothing left to deliver.
	Idle State = "idle"
)

// Status is where a drain stands, beside what the buffer counts.
type Status struct {
	Drain, Stream, Sink string
	State               State
	Permitted           limiter.Rate // the least of what Why lists
	Actual              float64      // attempts a second, over the last five seconds
	Binding             Constraint
	Waiting             uint64    // pending and scheduled messages
	EmptyAt             time.Time // when the last waiting message leaves; zero: nothing waits, or no rate in sight
	Next                *Change   // nil: the rate never changes within the horizon
	Pause, Override     *Hold     // nil: none
	Deadline            time.Time // of the oldest unfinished message; zero: nothing waits, or no deadline
	Miss                time.Time // the deadline of the first message that will not leave in time; zero: none is in sight
}

// Change is when and how a drain's pace changes next, or what keeps it from that
// pace ends.
type Change struct {
	At      time.Time
	Rate    limiter.Rate
	Because string // the entry's name, "base", or a constraint that lets nothing through
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
// schedule and sink integrated over them; where it is not to be tried before
// due, the first time after it that has a rate. Nine in ten leave before p90. Where no
// rate is in sight the times are zero and note says so. It does not touch the
// disk, and is cheap enough to be called for every message.
func (d *Drains) ETA(drain string, now, due time.Time, ahead uint64) (eta, p90 time.Time, note string) {
	dr := d.drain(drain)
	if dr == nil {
		return time.Time{}, time.Time{}, "no such drain"
	}
	eta, p90, note = dr.eta(now, due, ahead)
	if note != "" {
		return time.Time{}, time.Time{}, note
	}
	return eta, p90, ""
}

// eta also says why there is none.
func (d *drain) eta(now, due time.Time, ahead uint64) (eta, p90 time.Time, note string) {
	n := float64(ahead)
	if s := d.estimate.Load(); due.IsZero() && s.covers(now, n) {
		return s.leaves(now, n)
	}
	crowd := d.sink().crowd(now, d)
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.plan.sink.outlook(now)
	eta, even, ok := d.core.evenly(now, n+1, o, crowd)
	if ok && eta.Before(due) { // its turn comes before it may be tried again
		eta = d.core.opens(due)
		ok = !eta.IsZero()
	}
	off := d.promises.off()
	if !ok {
		note = d.noRate(now, o)
	}
	if due.IsZero() {
		d.estimate.Store(&estimate{made: now, ahead: n, at: eta, even: even, share: off, note: note})
	}
	if !ok {
		return time.Time{}, time.Time{}, note
	}
	return eta, eta.Add(margin(off, eta.Sub(now))), ""
}

// noRate says why no rate is in sight. It requires that mu is held.
func (d *drain) noRate(now time.Time, o outlook) string {
	switch {
	case d.core.hands.pace(now) == Paused:
		return "the drain is paused"
	case o.held.holds(now):
		return "the sink is paused"
	case o.lag.stuck(now):
		return "consumers behind the sink lag"
	default:
		return "no rate in sight"
	}
}

// disturbed says that something came in between that no estimate can know. It
// requires that mu is held.
func (d *drain) disturbed() {
	d.plan.meters.void(d.promises.void())
	d.estimate.Store(nil)
}

// present is the plan of now.
func (d *drain) present() plan {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan
}

func (d *drain) sink() *sinkState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan.sink
}

func (d *drain) expiry() expiry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan.expiry
}

func (d *drain) status(now time.Time, count buffer.DrainStats) Status {
	backlog := d.backlog()
	crowd := crowd{}
	if count.Pending+count.Scheduled > 0 {
		crowd = d.sink().crowd(now, d)
	}
	again := crowd.clone() // each estimate goes through it
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.plan.sink.outlook(now)
	why := d.why(now, o, count)
	s := Status{
		Drain:     d.name,
		Stream:    d.plan.policy.Stream,
		Sink:      d.plan.policy.Sink,
		State:     Running,
		Permitted: why.Rate,
		Actual:    d.recent.rate(now),
		Binding:   why.Binding,
		Waiting:   count.Pending + count.Scheduled,
		Next:      why.Next,
	}
	switch {
	case d.core.hands.pace(now) == Paused || o.held.holds(now):
		s.State = Halted
	case s.Waiting+count.InFlight == 0:
		s.State = Idle
	case s.Permitted == 0 || count.Blocked:
		s.State = Blocked
	}
	if s.Waiting > 0 {
		s.EmptyAt = d.emptyAt(now, float64(s.Waiting), count.LastDue, o, crowd)
	}
	if delay := d.plan.policy.Deadline.MaxDelay; delay > 0 && !count.Oldest.IsZero() {
		s.Deadline = count.Oldest.Add(delay)
		if s.EmptyAt.IsZero() || s.EmptyAt.After(s.Deadline) {
			s.Miss = d.missAt(now, backlog, o, again)
		}
	}
	for _, h := range d.core.hands.list(now) {
		if h.Kind == Paused {
			s.Pause = &h
		} else {
			s.Override = &h
		}
	}
	return s
}

// emptyAt is when the last waiting message leaves: not before it is due. It is
// zero where no rate is in sight, and requires that mu is held.
func (d *drain) emptyAt(now time.Time, waiting float64, lastDue time.Time, o outlook, crowd crowd) time.Time {
	at, ok := d.core.eta(now, waiting, o, crowd)
	if !ok || !lastDue.After(at) {
		return at
	}
	return d.core.opens(lastDue)
}

// recent counts things by second.
type recent struct {
	second int64 // of the newest count, since 1970
	counts [6]uint64
}

func (r *recent) add(now time.Time, n uint64) {
	r.advance(now)
	r.counts[r.second%int64(len(r.counts))] += n
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
