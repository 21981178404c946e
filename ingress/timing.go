package ingress

import (
	"strconv"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

const (
	deliverAfterField = "Forebay-Deliver-After"
	deadlineField     = "Forebay-Deadline"
)

// times are those that a caller gives a message; zero: none.
type times struct{ after, deadline time.Time }

// times reads what the route lets callers say. What is beyond the policy is cut to it:
// a deadline to the first at which the message ends in any case, a first attempt so that
// a tenth of the time until then is left.
func (x *exchange) times(set *policies.Set, route *policies.Route) (t times, err error) {
	if !route.Timing {
		return times{}, nil
	}
	if t.after, err = x.time(deliverAfterField); err != nil {
		return times{}, err
	}
	if t.deadline, err = x.time(deadlineField); err != nil {
		return times{}, err
	}
	if !t.deadline.IsZero() && !t.deadline.After(x.start) {
		return times{}, problemBadRequest(deadlineField + " is in the past")
	}
	if !t.deadline.IsZero() && !t.after.Before(t.deadline) {
		return times{}, problemBadRequest(deliverAfterField + " is not before " + deadlineField)
	}
	return t.within(x.start, patience(set, route.Stream)), nil
}

// within cuts times to what messages may wait; 0 is without end.
func (t times) within(now time.Time, longest time.Duration) times {
	if longest > 0 && !t.deadline.IsZero() {
		t.deadline = sooner(t.deadline, now.Add(longest))
	}
	if !t.after.After(now) {
		t.after = time.Time{}
	}
	if longest > 0 && !t.after.IsZero() {
		t.after = sooner(t.after, now.Add(longest-longest/10))
	}
	if !t.deadline.IsZero() && !t.after.Before(t.deadline) {
		t.after = t.deadline.Add(-t.deadline.Sub(now) / 10)
	}
	return t
}

func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// patience is how long a message of a stream may wait with every drain; 0: for good.
func patience(set *policies.Set, stream string) (longest time.Duration) {
	if s := set.Stream(stream); s != nil {
		longest = s.Retention
	}
	for i := range set.Drains {
		d := &set.Drains[i]
		if delay := d.Deadline.MaxDelay; d.Stream == stream && delay > 0 && (longest == 0 || delay < longest) {
			longest = delay
		}
	}
	return longest
}

// maxSeconds bounds a time that is given in seconds: what any policy may say, and more.
const maxSeconds = 10 * 366 * 24 * 60 * 60

// time reads a field that holds seconds from now, or a time.
func (x *exchange) time(name string) (time.Time, error) {
	values := x.field(name)
	if len(values) == 0 {
		return time.Time{}, nil
	}
	if len(values) > 1 {
		return time.Time{}, problemBadRequest(name + " is given more than once")
	}
	if seconds, err := strconv.ParseUint(values[0], 10, 32); err == nil {
		return x.start.Add(time.Duration(min(seconds, maxSeconds)) * time.Second), nil
	}
	at, err := time.Parse(time.RFC3339, values[0])
	if err != nil {
		return time.Time{}, problemBadRequest(name + " is neither whole seconds from now nor a time such as 2027-11-11T06:00:00Z")
	}
	return at, nil
}

// put gives a message its times, in whole milliseconds as they are stored: not before
// what was asked for.
func (t times) put(m *buffer.Message) {
	m.DeliverAfter, m.Deadline = wholeMillis(t.after), wholeMillis(t.deadline)
}

func wholeMillis(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMilli(t.Add(time.Millisecond - 1).UnixMilli())
}
