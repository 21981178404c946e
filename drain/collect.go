package drain

import (
	"context"
	"sort"
	"sync/atomic"
	"time"

	"forebay/buffer"
)

// Collector is a sink that gathers messages, in files say, and delivers many of them at
// once, long after they were handed to it. A drain to it hands over one batch after the
// other, in order of arrival, and what fails goes back to its place in that order.
type Collector interface {
	Sink
	// Collect writes a batch of a drain to where its messages gather. It blocks until
	// they are written, calls [Begin] before that, and may be called again once it has
	// returned. It calls settled exactly once, from whatever goroutine, also before it
	// returns: with success once they are delivered, or with what came between. It
	// ends what it has begun soon after ctx is done. msgs are not to be used after it
	// has returned, nor after settled was called.
	Collect(ctx context.Context, drain string, msgs []Delivery, settled func(Outcome))
	// Finish delivers what a drain has gathered, without waiting for more. It returns
	// at once; settled is called for all of it.
	Finish(drain string)
	// Finished returns what a drain has delivered and may not have been told of: before
	// a crash, say. It blocks until it is known, or fails.
	Finished(ctx context.Context, drain string) ([]Range, error)
}

// Range is messages of a stream in a row, with both ends.
type Range struct{ First, Last uint64 }

const (
	// askFirst and askLast bound the waits between two tries of Finished.
	askFirst, askLast = time.Second, 30 * time.Second
)

// known is what a collector has delivered before the start. It is the loop's alone.
type known struct {
	sink   Collector // that was asked
	ranges []Range   // by First
	again  time.Time // when to ask again; zero: it has answered
	wait   time.Duration
}

// has reports whether a message is among what was delivered.
func (k *known) has(offset uint64) bool {
	i := sort.Search(len(k.ranges), func(i int) bool { return k.ranges[i].First > offset })
	return i > 0 && offset <= k.ranges[i-1].Last
}

// recall asks a collector once what it has delivered, and returns when to ask again
// where it could not say; zero: it is known.
func (d *drain) recall(ctx context.Context, now time.Time) time.Time {
	p := d.present()
	c := p.sink.collector()
	k := &d.known
	if c == nil || k.sink == c && k.again.IsZero() {
		return time.Time{}
	}
	if k.sink != c {
		*k = known{sink: c, ranges: k.ranges, wait: askFirst}
	}
	if now.Before(k.again) {
		return k.again
	}
	ranges, err := c.Finished(ctx, d.name)
	if err != nil {
		k.again, k.wait = time.Now().Add(k.wait), min(2*k.wait, askLast)
		d.log.Warn("what the sink has finished is not known; nothing is sent before", "drain", d.name, "sink", p.sink.name, "err", err)
		return k.again
	}
	sort.Slice(ranges, func(i, j int) bool { return ranges[i].First < ranges[j].First })
	k.ranges, k.again = ranges, time.Time{}
	return time.Time{}
}

// settleKnown settles the messages that were delivered before, and returns the others.
func (d *drain) settleKnown(p plan, ds []buffer.Delivery) []buffer.Delivery {
	if len(d.known.ranges) == 0 {
		return ds
	}
	kept := ds[:0]
	for _, m := range ds {
		if !d.known.has(m.Offset) {
			kept = append(kept, m)
			continue
		}
		a := attempt{before: m.Tries, began: m.AcceptedAt, now: time.Now(), outcome: Outcome{Class: Success}}
		p.meters.delivered(a.now.Sub(m.AcceptedAt))
		d.buf.Ack(d.name, m.Offset, a.result())
	}
	return kept
}

// gathered is what is remembered of a message that a collector has.
type gathered struct {
	offset     uint64
	size       int64
	acceptedAt time.Time
	tries      *buffer.Tries // nil: none
}

func gatheredOf(ms []Delivery) []gathered {
	list := make([]gathered, len(ms))
	for i, m := range ms {
		list[i] = gathered{offset: m.Offset, size: int64(len(m.Body)), acceptedAt: m.AcceptedAt}
		if tries := m.Tries; tries != (buffer.Tries{}) {
			list[i].tries = &tries
		}
	}
	return list
}

// collect hands a batch to a collector. The slot is free, and the next batch may come,
// once it is written.
func (d *drain) collect(ctx context.Context, p plan, v verdict, c Collector, ms []Delivery) {
	began, list := time.Now(), gatheredOf(ms)
	var settled atomic.Bool
	d.inFlight.Add(1)
	c.Collect(WithBegin(ctx, func() error { return d.begin(ctx, p, v, len(list)) }), d.name, ms, func(o Outcome) {
		defer d.inFlight.Done()
		settled.Store(true)
		d.settleGathered(ctx, p, v, list, attempt{began: began, wrote: began, now: time.Now(), outcome: o})
	})
	if !settled.Load() { // it is written: a breaker need not wait for the file's end
		p.sink.ended(time.Now(), v.term, Outcome{Class: Success})
	}
	p.sink.budget.Release()
	d.collecting.Store(false)
	signal(d.freed)
}

// settleGathered settles a batch of which a collector has spoken. What failed keeps its
// place: the sink rests for as long as it asks.
func (d *drain) settleGathered(ctx context.Context, p plan, v verdict, list []gathered, a attempt) {
	cut := a.outcome.cutOff(ctx.Err() != nil)
	if cut {
		p.sink.withdraw(v.term)
	} else {
		d.heard(p, v.term, a)
	}
	for _, g := range list {
		a.before = buffer.Tries{}
		if g.tries != nil {
			a.before = *g.tries
		}
		if a.outcome.Unsent {
			p.sink.unfeed(a.now, g.size)
		} else {
			p.meters.attempted(a)
		}
		if a.outcome.Class == Success {
			p.meters.delivered(a.now.Sub(g.acceptedAt))
			d.buf.Ack(d.name, g.offset, a.result())
			continue
		}
		d.buf.Return(d.name, g.offset)
		if a.before.Attempts > 0 {
			d.scheduled.Add(1)
		}
	}
}

// handOver starts to hand a batch to a collector.
func (d *drain) handOver(ctx context.Context, p plan, v verdict, c Collector, ms []Delivery) {
	d.collecting.Store(true)
	d.collects.Go(func() { d.collect(ctx, p, v, c, ms) })
}

// finish has a collector deliver what it has, since nothing more comes for now.
func (d *drain) finish() {
	if c := d.present().sink.collector(); c != nil {
		c.Finish(d.name)
	}
}

// collector is the sink, if it is one.
func (s *sinkState) collector() Collector {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, _ := s.sink.(Collector)
	return c
}
