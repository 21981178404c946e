package drain

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

const (
	// expireEvery is the least time between two looks at what has expired.
	expireEvery = time.Second
	// expireSoon is how long a message that expired in flight waits at least
	// before another attempt: until the next look has ended it.
	expireSoon = 5 * time.Second
)

// expirer ends what has waited too long, for all drains.
type expirer struct {
	drains  *Drains
	buf     buffer.Expirer
	own     buffer.OwnDeadlines // nil: messages have none
	started time.Time
	changed chan struct{} // one slot; a policy was applied

	mu    sync.Mutex
	watch stepwatch // guarded by mu
}

// newExpirer returns nil for a buffer in which nothing can expire.
func newExpirer(d *Drains) *expirer {
	buf, ok := d.buf.(buffer.Expirer)
	if !ok {
		return nil
	}
	own, _ := d.buf.(buffer.OwnDeadlines)
	return &expirer{drains: d, buf: buf, own: own, started: time.Now(), changed: make(chan struct{}, 1)}
}

// trusts reports whether the wall clock may end messages now.
func (e *expirer) trusts() bool {
	now := time.Now()
	return e.trustsAt(now.Round(0), now.Sub(e.started)) // by the wall clock and by the monotonic one
}

// trustsAt is trusts where both clocks are given.
func (e *expirer) trustsAt(wall time.Time, elapsed time.Duration) bool {
	e.mu.Lock()
	step := e.watch.look(wall, elapsed)
	trusted := e.watch.trusts(elapsed)
	e.mu.Unlock()
	if step > 0 {
		e.drains.event("clock-jump", "clock",
			fmt.Sprintf("the clock went forward by %s at once; nothing expires for %s", step.Round(time.Second), doubt))
	}
	return trusted
}

// run looks until ctx is done. It returns an error when the buffer has failed.
func (e *expirer) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.changed:
		case <-timer.C:
		}
		now := time.Now()
		due, err := e.pass(now, e.trusts())
		if err != nil {
			return err
		}
		timer.Reset(max(earlier(due, now.Add(maxSleep)).Sub(now), expireEvery))
	}
}

// pass ends what is due in all drains, if the clock is trusted, and tells those in
// which messages are nearly late. It returns when the next message is due, which is the
// far future if none ever will be.
func (e *expirer) pass(now time.Time, trusted bool) (time.Time, error) {
	counts := make(map[string]buffer.DrainStats)
	for _, c := range e.drains.buf.Stats().Drains {
		counts[c.Drain] = c
	}
	next := now.Add(horizon)
	for _, dr := range e.drains.list() {
		x := dr.expiry()
		c, ok := counts[dr.name]
		if !ok {
			continue
		}
		next = earlier(next, dr.urge(now, c.Oldest))
		if !trusted {
			continue
		}
		due, err := e.expireOwn(now, dr)
		if err != nil {
			return time.Time{}, err
		}
		if next = earlier(next, due); x.after <= 0 {
			continue
		}
		oldest := c.Oldest
		if !oldest.IsZero() && x.past(now, oldest) {
			left, err := e.expire(now, dr.name, x)
			if err != nil {
				return time.Time{}, err
			}
			oldest = left
			if c.InFlight > 0 {
				next = now // what is in flight may be late, and comes back
			}
		}
		next = earlier(next, x.next(now, oldest))
	}
	return next, nil
}

// expireOwn ends what is late by its own deadline, and returns when the next is, or when
// one that is accepted meanwhile may be.
func (e *expirer) expireOwn(now time.Time, dr *drain) (next time.Time, err error) {
	none := now.Add(horizon)
	why, ends := own(dr.deadline())
	if e.own == nil || !ends {
		return none, nil
	}
	n, next, err := e.own.ExpireOwn(dr.name, now, why)
	switch {
	case errors.Is(err, buffer.ErrNoDrain):
		return none, nil // a policy is being applied
	case err != nil:
		return none, err // the buffer says what it was asked for
	case n > 0:
		e.drains.log.Info("messages were late by their own deadline", "drain", dr.name, "messages", n, "dead", why != "")
	}
	if dr.mayBeTimed() { // others may have come when it is time to look
		none = now.Add(expireSoon)
	}
	if next.IsZero() {
		return none, nil
	}
	return earlier(next, none), nil
}

func (d *drain) deadline() policies.Deadline {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan.policy.Deadline
}

func (d *drain) mayBeTimed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan.timed
}

// overdue reports whether a message is late by its own deadline, and about to be ended.
func (d *drain) overdue(now time.Time, m buffer.Delivery) bool {
	if !past(m.Deadline, now) || d.expirer == nil || d.expirer.own == nil {
		return false
	}
	_, ends := own(d.policy().Deadline)
	return ends && d.expirer.trusts()
}

// urge tells the drain when its oldest message was accepted, and returns when to do so
// again. That one may not be able to leave: then the loop finds out which is the first
// that can, and is told again after a while.
func (d *drain) urge(now, oldest time.Time) (again time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.core.late.rate == 0 {
		return now.Add(horizon)
	}
	u := d.core.late.of(oldest)
	if d.core.setUrgency(now, u) {
		signal(d.changed)
	}
	if u.from.IsZero() {
		return d.core.late.of(now).from
	}
	return later(u.from, now)
}

// calm puts back what is not nearly late, which leaves at the schedule's pace, and
// tells the core when the first of that is.
func (d *drain) calm(now time.Time, ds []buffer.Delivery) []buffer.Delivery {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept, young := ds[:0], urgency{}
	for _, m := range ds {
		u := d.core.late.of(m.AcceptedAt)
		if past(u.from, now) {
			kept = append(kept, m)
			continue
		}
		if young.from.IsZero() || u.from.Before(young.from) {
			young = u
		}
		d.buf.Return(d.name, m.Offset)
	}
	if len(kept) < len(ds) {
		d.core.setUrgency(now, young)
	}
	return kept
}

func (e *expirer) expire(now time.Time, drain string, x expiry) (oldest time.Time, err error) {
	// accepted_at has milliseconds: what is exactly as old as may be is included.
	n, oldest, err := e.buf.Expire(drain, now, now.Add(time.Millisecond-x.after), x.why())
	switch {
	case errors.Is(err, buffer.ErrNoDrain):
		return time.Time{}, nil // a policy is being applied
	case err != nil:
		return time.Time{}, err // the buffer says what it was asked for
	case n > 0:
		e.drains.log.Info("messages waited too long", "drain", drain, "messages", n, "after", x.after, "reason", string(x.limit), "dead", x.dead)
	}
	return oldest, nil
}
