package drain

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// handing is the batches that go to a collector. The zero value has none.
type handing struct {
	under  atomic.Int64   // how many have been taken and are not written
	all    sync.WaitGroup // of them
	failed atomic.Uint64  // batches that were not written, ever
	seen   uint64         // the loop's alone; failed, before what was taken last
	last   chan struct{}  // the loop's alone; closed once the last one was written, or was not; nil: none ever was
}

// maxUnder bounds them: while one is written the next is got ready, which takes about as
// long.
const maxUnder = 2

// full reports whether no more batches are to be taken now: there are enough, or what was
// taken before a failure has to go back before anything else is taken.
func (h *handing) full() bool {
	under := h.under.Load()
	failed := h.failed.Load()
	if under >= maxUnder || under > 0 && failed != h.seen {
		return true
	}
	h.seen = failed
	return false
}

// turn has a batch wait for the one before it, and reports whether all went well with
// those since it was taken: else it is not the next any more.
func (h *handing) turn(before <-chan struct{}, failed uint64) bool {
	if before != nil {
		<-before
	}
	return h.failed.Load() == failed
}

// handOver starts to hand a batch to a collector. What may not gather together goes back
// before anything else is taken.
func (d *drain) handOver(ctx context.Context, p plan, v verdict, c Collector, ms []Delivery) {
	n := c.Together(ms)
	if n < len(ms) {
		d.handBack(p, v, ms[n:])
		ms = ms[:n]
	}
	h := &d.handing
	before, done, failed := h.last, make(chan struct{}), h.seen
	h.last = done
	h.under.Add(1)
	h.all.Go(func() {
		write := c.Collect(d.worldwide(), ms)
		if !h.turn(before, failed) {
			write = func(_ context.Context, settled func(Outcome)) {
				settled(Outcome{Unsent: true, Error: "what comes before it is not written"})
			}
		}
		d.collect(ctx, p, v, ms, write)
		if now := d.present().sink; now != p.sink || now.collector() != c {
			c.Finish(d.worldwide()) // the policy has another one by now
		}
		close(done)
		p.sink.budget.Release()
		h.under.Add(-1)
		signal(d.freed)
	})
}

// collect writes a batch. A breaker hears of it then, and need not wait for the file's end.
func (d *drain) collect(ctx context.Context, p plan, v verdict, ms []Delivery, write func(context.Context, func(Outcome))) {
	began, list := time.Now(), gatheredOf(ms)
	var failed, settled, written atomic.Bool
	d.gathered.Add(1)
	write(WithBegin(ctx, func() error { return d.begin(ctx, p, v, len(list)) }), func(o Outcome) {
		defer d.gathered.Done()
		settled.Store(true)
		failed.Store(o.Class != Success)
		a := attempt{began: began, wrote: began, now: time.Now(), outcome: o}
		if !written.Load() || o.RetryAfter > 0 {
			d.heardGathered(ctx, p, v, a)
		}
		d.settleGathered(p, list, a)
	})
	switch {
	case failed.Load():
		d.handing.failed.Add(1)
	case !settled.Load():
		written.Store(true)
		p.sink.ended(time.Now(), v.term, Outcome{Class: Success})
	}
}

// handBack returns what does not go with a batch.
func (d *drain) handBack(p plan, v verdict, ms []Delivery) {
	for _, m := range ms {
		p.sink.unfeed(time.Now(), int64(len(m.Body)))
		d.putBack(m)
	}
	d.giveBack(p, v, len(ms), 0)
}
