package drain

import (
	"context"
	"sync/atomic"
	"time"

	"forebay/buffer"
)

// start makes an attempt, as the verdict allowed it, in a goroutine of its own. There are never more of them than the sink has slots.
func (d *drain) start(ctx context.Context, p plan, v verdict, m buffer.Delivery) {
	d.mu.Lock()
	now := time.Now()
	d.recent.add(now, 1)
	if kept, promised := d.promises.left(now, m.Offset); promised {
		p.meters.left(kept)
	}
	d.mu.Unlock()
	if m.Tries.Attempts > 0 {
		d.scheduled.Add(-1)
	}
	d.inFlight.Go(func() { d.deliver(ctx, p, v, Delivery{m, d.buf.ID(m.Ref)}) })
}

// deliver makes one attempt and settles the message.
func (d *drain) deliver(ctx context.Context, p plan, v verdict, m Delivery) {
	defer p.sink.budget.Release() // last: whoever waits for the slot finds the message counted
	a := attempt{before: m.Tries, began: time.Now()}
	var held atomic.Int64 // it may be another goroutine that writes
	a.outcome = p.sink.deliver(WithBegin(ctx, func() error {
		err := d.begin(ctx, p, v)
		held.Store(int64(time.Since(a.began)))
		return err
	}), m)
	a.now, a.wrote = time.Now(), a.began.Add(time.Duration(held.Load()))
	if a.outcome.Unsent {
		p.sink.unfeed(a.now, int64(len(m.Body)))
	} else {
		p.meters.attempted(a)
	}
	if a.outcome.Unsent || a.outcome.Class != Success && ctx.Err() != nil {
		// It was cut off, by the stop say, which says nothing of sink or message.
		p.sink.withdraw(v.term)
		d.putBack(m)
		return
	}
	d.heard(p, v.term, a)
	if !d.cancel(ctx, p, a.outcome.CancelKeys) {
		d.putBack(m)
		return
	}
	d.settle(p, m, a)
}

// putBack counts a message after the buffer has it, as settle does: a recount in
// between counts it twice, and not too few.
func (d *drain) putBack(m Delivery) {
	d.buf.Return(d.name, m.Offset)
	if m.Tries.Attempts > 0 {
		d.scheduled.Add(1)
	}
}

// heard takes note of what an attempt says of the sink. It comes before the slot
// is released, so that whoever waits for the slot sees it.
func (d *drain) heard(p plan, term uint64, a attempt) {
	ask := asked{wanted: a.outcome.RetryAfter, honoured: a.pause(p.policy.Retry)}
	if a.outcome.Class != Success && p.sink.heard(a.now, ask) {
		d.log.Info("sink asked for a pause", "sink", p.sink.name, "status", a.outcome.Status, "asked", ask.wanted, "pause", ask.honoured)
	}
	for _, asks := range p.sink.advised(a.now, a.outcome.Advice, p.policy.Retry.HonourRetryAfter) {
		d.log.Info("sink asked for a rate", "sink", p.sink.name, "field", asks.Field, "rate", asks.Rate.String(), "lasts", asks.Lasts)
	}
	p.sink.timed(a.now, a.wrote, a.outcome)
	if state, changed := p.sink.ended(a.now, term, a.outcome); changed {
		d.event("breaker-"+state.String(), p.sink.name, a.outcome.Error)
	}
}

func (d *drain) settle(p plan, m Delivery, a attempt) {
	tries := a.tries()
	if a.outcome.Class == Success {
		p.meters.delivered(a.now.Sub(m.AcceptedAt))
		d.buf.Ack(d.name, m.Offset, a.result())
		return
	}
	d.log.Debug("attempt failed", "drain", d.name, "sink", p.sink.name, "id", m.ID,
		"attempt", tries.Attempts, "class", a.outcome.Class.String(), "error", a.outcome.Error)
	why, buried := a.buried(p.policy.Retry)
	late := false
	if !buried {
		why, late = d.late(p, m, a)
		buried = late && why != ""
	}
	if buried {
		d.buf.Bury(d.name, m.Offset, why, a.result())
		return
	}
	due := a.due(p.policy.Retry, d.random)
	if late { // it expires as soon as it waits
		due = later(due, a.now.Add(expireSoon))
	}
	d.buf.Release(d.name, m.Offset, buffer.Retry{Due: due, Tries: tries, Status: a.outcome.Status, Error: a.outcome.Error})
	d.scheduled.Add(1)
}

// late reports whether a message has waited too long for another attempt, and what it is
// dead of then; empty: it expires.
func (d *drain) late(p plan, m Delivery, a attempt) (why buffer.Reason, late bool) {
	why, ends := own(p.policy.Deadline)
	if late = ends && past(m.Deadline, a.now); !late {
		why, late = p.expiry.why(), p.expiry.past(a.now, m.AcceptedAt)
	}
	return why, late && d.expirer != nil && d.expirer.trusts()
}
