package drain

import (
	"context"
	"time"

	"forebay/buffer"
)

// start makes an attempt in a goroutine of its own. There are never more of
// them than the sink has slots.
func (d *drain) start(ctx context.Context, p plan, m buffer.Delivery) {
	d.mu.Lock()
	d.recent.add(time.Now())
	d.mu.Unlock()
	if m.Tries.Attempts > 0 {
		d.scheduled.Add(-1)
	}
	d.inFlight.Go(func() { d.deliver(ctx, p, m) })
}

// deliver makes one attempt and settles the message.
func (d *drain) deliver(ctx context.Context, p plan, m buffer.Delivery) {
	a := attempt{before: m.Tries, began: time.Now()}
	a.outcome = p.sink.deliver(ctx, m)
	a.now = time.Now()
	p.sink.budget.Release()
	p.meters.attempted(a)
	if a.outcome.Class != Success && ctx.Err() != nil {
		// It was cut off by the stop, which says nothing of sink or message.
		d.buf.Return(d.name, m.Offset)
		return
	}
	d.settle(p, m, a)
}

func (d *drain) settle(p plan, m buffer.Delivery, a attempt) {
	tries := a.tries()
	result := buffer.Result{At: a.now, Attempts: tries.Attempts, Status: a.outcome.Status, Error: a.outcome.Error}
	if a.outcome.Class == Success {
		p.meters.delivered(a.now.Sub(m.AcceptedAt))
		d.buf.Ack(d.name, m.Offset, result)
		return
	}
	retry := p.policy.Retry
	if p.sink.heard(a.now, a.pause(retry)) {
		d.log.Info("sink asked for a pause", "sink", p.sink.name, "status", a.outcome.Status, "pause", a.pause(retry))
	}
	d.log.Debug("attempt failed", "drain", d.name, "sink", p.sink.name, "id", m.ID,
		"attempt", tries.Attempts, "class", a.outcome.Class.String(), "error", a.outcome.Error)
	if why, buried := a.buried(retry); buried {
		d.buf.Bury(d.name, m.Offset, why, result)
		return
	}
	d.scheduled.Add(1)
	d.buf.Release(d.name, m.Offset, buffer.Retry{
		Due:    a.due(retry, d.random),
		Tries:  tries,
		Status: a.outcome.Status,
		Error:  a.outcome.Error,
	})
}
