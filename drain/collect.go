package drain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sort"
	"time"

	"forebay/buffer"
)

// Collector is a sink that gathers messages, in files say, and delivers many of them at
// once, long after they were handed to it. A drain to it hands over one batch after the
// other, in order of arrival, and what fails goes back to its place in that order.
type Collector interface {
	Sink
	// Together is how many of the first messages, at least one, may gather in one
	// place: the others are handed over later.
	Together(msgs []Delivery) int
	// Collect gets a batch of a drain ready to be written to where its messages gather:
	// compresses it, say. It tells nobody of it, and may be called while the batch
	// before is written. The name of the drain is its own in the whole world: another
	// buffer's drain has another. What it returns writes the batch, and is called once
	// or never, when the batch before is written. It blocks until this one is, and calls
	// [Begin] before that. It calls settled exactly once, from whatever goroutine, also
	// before it returns: with success once the messages are delivered, or with what came
	// between. It ends what it has begun soon after ctx is done. msgs are not to be used
	// after it has returned, nor after settled was called.
	Collect(drain string, msgs []Delivery) (write func(ctx context.Context, settled func(Outcome)))
	// Finish delivers what a drain has gathered, without waiting for more. It returns
	// at once; settled is called for all of it.
	Finish(drain string)
	// Place says where messages gather, for as long as the policy is as it is.
	Place() string
	// Finished returns what a drain has delivered and may not have been told of, before
	// a crash say, of messages accepted since a time: there, and in other places where
	// messages have gathered since it was asked before. What is not finished there it
	// clears away. It blocks until all that is known, or fails, and is asked once, before
	// the first Collect of the drain.
	Finished(ctx context.Context, drain string, since time.Time, others []string) ([]Range, error)
}

// Gathering is one place in which messages of a drain gather.
type Gathering struct {
	Drain    string // its name in the whole world
	Place    string
	Messages int
	Bytes    int64 // as they lie there
	Since    time.Time
	Ending   bool // it is complete, and being delivered
}

// Gatherer is a Collector that can tell what it has.
type Gatherer interface{ Gathering() []Gathering }

// Range is messages of a stream in a row, with both ends.
type Range struct{ First, Last uint64 }

const (
	// askFirst and askLast bound the waits between two tries of Finished.
	askFirst, askLast = time.Second, 30 * time.Second
)

// known is what a collector has delivered before the start. It is the loop's alone.
type known struct {
	asked  bool      // there was a collector
	ranges []Range   // by First
	again  time.Time // when to ask again; zero: it has answered
	wait   time.Duration
	place  string // where messages gather now, as it is noted
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
	if c == nil {
		return time.Time{}
	}
	if k.asked && k.again.IsZero() {
		if c.Place() != k.place {
			d.notePlaces(ctx, c.Place(), d.places())
		}
		return time.Time{}
	}
	if !k.asked {
		k.asked, k.wait = true, askFirst
	}
	if now.Before(k.again) {
		return k.again
	}
	ranges, err := c.Finished(ctx, d.worldwide(), d.oldest(now), d.places())
	if err != nil {
		k.again, k.wait = time.Now().Add(k.wait), min(2*k.wait, askLast)
		d.log.Warn("what the sink has finished is not known; nothing is sent before", "drain", d.name, "sink", p.sink.name, "err", err)
		return k.again
	}
	sort.Slice(ranges, func(i, j int) bool { return ranges[i].First < ranges[j].First })
	k.ranges, k.again = ranges, time.Time{}
	d.notePlaces(ctx, c.Place(), nil)
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
		if m.Tries != (buffer.Tries{}) {
			tries := m.Tries
			list[i].tries = &tries
		}
	}
	return list
}

// heardGathered takes note of what a collector says of the sink: once for each batch, and
// not again for one that was written and is given up with its file, unless it asks for rest.
func (d *drain) heardGathered(ctx context.Context, p plan, v verdict, a attempt) {
	if a.outcome.cutOff(ctx.Err() != nil) {
		p.sink.withdraw(v.term)
	} else {
		d.heard(p, v.term, a)
	}
}

// settleGathered settles a batch of which a collector has spoken. What failed keeps its
// place: the sink rests for as long as it asks.
func (d *drain) settleGathered(p plan, list []gathered, a attempt) {
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

// worldwide is the drain's name, with what tells its buffer from others.
func (d *drain) worldwide() string {
	sum := sha256.Sum256([]byte(d.buf.ID(buffer.Ref{Stream: d.present().policy.Stream})))
	return d.name + "-" + hex.EncodeToString(sum[:4])
}

// oldest is when the oldest message that is not finished was accepted.
func (d *drain) oldest(now time.Time) time.Time {
	for _, s := range d.buf.Stats().Drains {
		if s.Drain == d.name && !s.Oldest.IsZero() {
			return s.Oldest
		}
	}
	return now
}

// finish has a collector deliver what it has, since nothing more comes for now.
func (d *drain) finish() { d.present().finish(d.worldwide()) }

func (p plan) finish(drain string) {
	if c := p.sink.collector(); c != nil {
		c.Finish(drain)
	}
}

// collector is the sink, if it is one.
func (s *sinkState) collector() Collector {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, _ := s.sink.(Collector)
	return c
}

// gathering is what a sink that is a collector has, of all drains.
func (s *sinkState) gathering() []Gathering {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.sink.(Gatherer); ok {
		return g.Gathering()
	}
	return nil
}

// gathering is what a collector has of the drain, the oldest first.
func (d *drain) gathering() (list []Gathering) {
	name := d.worldwide()
	for _, g := range d.present().sink.gathering() {
		if g.Drain == name {
			list = append(list, g)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Since.Before(list[j].Since) })
	return list
}
