package drain

import (
	"time"

	"forebay/buffer"
)

// glance is how many messages of a backlog are asked whether they will be late.
const glance = 64

// backlog is nil where the buffer cannot say, or nothing of the drain can be late.
func (d *drain) backlog() []buffer.Waiting {
	stands, ok := d.buf.(standings)
	if !ok || d.policy().Deadline.MaxDelay <= 0 {
		return nil
	}
	return stands.Backlog(d.name, glance)
}

// missAt is when the first message that will not leave in time is late, as the rates
// ahead and all that holds the drain say; zero: each one leaves in time. The backlog is
// known by some of its messages: between two of them the time is interpolated. It requires
// that mu is held.
func (d *drain) missAt(now time.Time, backlog []buffer.Waiting, o outlook, crowd crowd) time.Time {
	delay := d.plan.policy.Deadline.MaxDelay
	if delay <= 0 || len(backlog) == 0 {
		return time.Time{}
	}
	f, ok := d.core.forecast(now, o, crowd)
	if !ok {
		return backlog[0].AcceptedAt.Add(delay)
	}
	end, t, left := now.Add(horizon), now, 0.0
	before := backlog[0] // what leaves before a message is urgent as this one is
	var spare time.Duration
	for i, w := range backlog {
		late := w.AcceptedAt.Add(delay)
		if n := float64(w.Ahead) + 1 - left; n >= 1 {
			f.urgency = d.core.late.of(before.AcceptedAt)
			if _, t, ok = f.leaves(t, end, n); !ok {
				t = end
			}
			left += n
		}
		if t.After(late) && (i == 0 || !ok) {
			return late
		}
		if t.After(late) {
			// Between the two it changes about evenly.
			part := float64(spare) / float64(spare+t.Sub(late))
			from := before.AcceptedAt.Add(delay)
			return from.Add(time.Duration(float64(late.Sub(from)) * part))
		}
		before, spare = w, late.Sub(t)
	}
	return time.Time{}
}
