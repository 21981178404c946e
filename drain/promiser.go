package drain

import (
	"context"
	"time"

	"forebay/buffer"
)

const (
	// promiseEvery is the least time between two looks at what was promised.
	promiseEvery = time.Second
	// maxRenewed bounds the etas that one look makes for a drain.
	maxRenewed = 1000
)

// promiser gives the messages that are scored their etas as their wait passes, as
// a caller would get them who asked, for all drains.
type promiser struct {
	drains *Drains
	buf    standings
	woken  chan struct{} // one slot; there may be new messages
}

// newPromiser returns nil for a buffer that cannot say where messages stand.
func newPromiser(d *Drains) *promiser {
	buf, ok := d.buf.(standings)
	if !ok {
		return nil
	}
	return &promiser{drains: d, buf: buf, woken: make(chan struct{}, 1)}
}

// wake says that there may be new messages. It does not block.
func (p *promiser) wake() {
	if p != nil {
		signal(p.woken)
	}
}

// run looks until ctx is done, and rests while nothing waits.
func (p *promiser) run(ctx context.Context) error {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.woken:
		case <-again.C:
		}
		next := p.pass(time.Now())
		again.Reset(promiseEvery)
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		if !next.IsZero() {
			again.Reset(time.Until(next))
		}
	}
}

// pass takes up new messages and renews the promises that are due. It returns
// when the next is; zero: none is open.
func (p *promiser) pass(now time.Time) (next time.Time) {
	stats := p.drains.buf.Stats()
	accepted := make(map[string]uint64, len(stats.Streams))
	for _, s := range stats.Streams {
		accepted[s.Stream] = s.Accepted
	}
	for _, dr := range p.drains.list() {
		offsets, at := dr.promisesDue(now, accepted)
		for _, offset := range offsets {
			s, ok := p.buf.Standing(dr.name, offset)
			if due := dr.promise(now, offset, s, ok); !due.IsZero() && (at.IsZero() || due.Before(at)) {
				at = due
			}
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

func (d *drain) promisesDue(now time.Time, accepted map[string]uint64) (offsets []uint64, next time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.promises.takeUp(now, accepted[d.plan.policy.Stream])
	return d.promises.due(now, maxRenewed)
}

// promise renews the promise of a message that stands so with the drain, and
// returns when it is due again; zero: never.
func (d *drain) promise(now time.Time, offset uint64, stands buffer.DrainStatus, waits bool) (again time.Time) {
	crowd := d.sink().crowd(now, d)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.promises.open[offset]
	switch {
	case s == nil:
		return time.Time{} // it left meanwhile
	case waits && stands.State == buffer.Delivering && s.promised():
		s.due = now.Add(promiseEvery) // it is about to leave, or is put back
		return s.due
	case !waits || stands.State != buffer.Queued: // it ended otherwise, or left before it was seen
		d.plan.meters.void(d.promises.give(offset))
		return time.Time{}
	}
	eta, ok := d.core.eta(now, float64(stands.Ahead)+1, d.plan.sink.outlook(now), crowd)
	if !ok {
		d.plan.meters.void(d.promises.give(offset))
		return time.Time{}
	}
	s.promise(promise{made: now, eta: eta, p90: eta.Add(margin(d.promises.off(), eta.Sub(now)))})
	return s.due
}
