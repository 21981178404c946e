package drain

import (
	"context"
	"sync/atomic"
	"time"

	"forebay/buffer"
)

// start has a worker make an attempt, as the verdict allowed it. There are never more of
// them under way than the sink has slots.
func (d *drain) start(ctx context.Context, p plan, v verdict, ds []buffer.Delivery) {
	ms := make([]Delivery, len(ds))
	d.mu.Lock()
	now := time.Now()
	for i, m := range ds {
		ms[i].Delivery = m
		d.recent.add(now, 1)
		if kept, promised := d.promises.left(now, m.Offset); promised {
			p.meters.left(kept)
		}
	}
	d.mu.Unlock()
	for i := range ms {
		if ms[i].Tries.Attempts > 0 {
			d.scheduled.Add(-1)
		}
	}
	if c := p.sink.collector(); c != nil {
		d.handOver(ctx, p, v, c, ms)
		return
	}
	for i := range ms {
		ms[i].ID = d.buf.ID(ms[i].Ref)
	}
	d.workers.do(func() { d.deliver(ctx, p, v, ms) })
}

// deliver makes one attempt and settles the messages.
func (d *drain) deliver(ctx context.Context, p plan, v verdict, ms []Delivery) {
	defer p.sink.budget.Release() // last: whoever waits for the slot finds the messages counted
	began := time.Now()
	var held atomic.Int64 // it may be another goroutine that writes
	begin := func() error {
		err := d.begin(ctx, p, v, len(ms))
		held.Store(int64(time.Since(began)))
		return err
	}
	outcomes := p.sink.deliver(WithBegin(d.repeats(ctx, p, v, ms), begin), ms)
	a := attempt{began: began, now: time.Now(), wrote: began.Add(time.Duration(held.Load()))}
	settles := false
	if a.outcome, settles = together(outcomes, ctx.Err() != nil); settles {
		d.heard(p, v.term, a)
		settles = d.cancel(ctx, p, a.outcome.CancelKeys)
	} else {
		p.sink.withdraw(v.term)
	}
	for i, m := range ms {
		a.before, a.outcome = m.Tries, outcomes[i]
		if a.outcome.Unsent {
			p.sink.unfeed(a.now, int64(len(m.Body)))
		} else {
			p.meters.attempted(a)
		}
		if !settles || a.outcome.cutOff(ctx.Err() != nil) {
			d.putBack(m)
		} else {
			d.settle(p, m, a)
		}
	}
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
	if a.outcome.Status == 0 {
		ask.rests = a.outcome.Error // a sink of ours that lets another one rest
	}
	if p.sink.heard(a.now, ask) { // a success too: part of a batch may have been refused
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
