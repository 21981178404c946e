package drain

import (
	"slices"
	"time"

	"forebay/buffer"
)

// bandwidth is the bytes of bodies that a sink takes: so many a second, and at once 10
// ms of that. A body that is larger than that leaves when there are as many as there ever
// are, and those after it wait for what it lacked. It is pure, and not safe for
// concurrent use.
type bandwidth struct {
	rate, most float64 // rate 0: no bound
	level      float64 // at last; below zero after a large body
	last       time.Time

	// queue is who waits, the first one's turn it is: else a large body would wait behind
	// small ones for ever.
	queue []claim
}

// claim is that of who waits for bytes.
type claim struct {
	who       any
	at, until time.Time // when they may be there, and the turn is lost
}

// set changes the bytes a second; 0: no bound.
func (b *bandwidth) set(now time.Time, rate float64) {
	b.at(now)
	b.rate, b.most = rate, rate*burstSeconds
	b.level = min(b.level, b.most)
}

// burstSeconds is how many seconds of the rate may leave at once.
const burstSeconds = 0.01

func (b *bandwidth) at(now time.Time) float64 {
	if now.After(b.last) {
		if !b.last.IsZero() {
			b.level = min(b.most, b.level+b.rate*now.Sub(b.last).Seconds())
		}
		b.last = now
	}
	return b.level
}

// ask returns when a body may leave: now, or else who asks is in the queue, and has to ask
// again then.
func (b *bandwidth) ask(now time.Time, who any, size int64) time.Time {
	level := b.at(now)
	if b.rate <= 0 || size <= 0 {
		return now
	}
	b.queue = slices.DeleteFunc(b.queue, func(c claim) bool { return !now.Before(c.until) })
	if len(b.queue) > 0 && b.queue[0].who != who {
		return b.wait(who, later(b.queue[0].at, now.Add(time.Millisecond)))
	}
	at := in(now, (min(float64(size), b.most)-level-unresolved)/b.rate)
	if at.After(now) {
		b.wait(who, at)
	}
	return at
}

func (b *bandwidth) wait(who any, at time.Time) time.Time {
	i := slices.IndexFunc(b.queue, func(c claim) bool { return c.who == who })
	if i < 0 {
		i, b.queue = len(b.queue), append(b.queue, claim{})
	}
	b.queue[i] = claim{who, at, at.Add(grace)}
	return at
}

// take takes a body's bytes, or returns when to ask again.
func (b *bandwidth) take(now time.Time, who any, size int64) time.Time {
	at := b.ask(now, who, size)
	if b.rate > 0 && size > 0 && !at.After(now) {
		b.level -= float64(size)
		b.queue = slices.DeleteFunc(b.queue, func(c claim) bool { return c.who == who })
	}
	return at
}

// returned puts back what was taken and not sent.
func (b *bandwidth) returned(now time.Time, size int64) {
	if b.rate > 0 && size > 0 {
		b.level = min(b.most, b.at(now)+float64(size))
	}
}

// feed takes the bytes of a drain's message, or remembers how many it waits for.
func (s *sinkState) feed(now time.Time, c *core, size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	stake := s.shares.drains.of(c)
	if stake.needs = 0; s.bytes.take(now, c, size).After(now) {
		stake.needs = size
	}
	return stake.needs == 0
}

// unfeed puts back the bytes of a body that was not sent.
func (s *sinkState) unfeed(now time.Time, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes.returned(now, size)
}

// fit puts back the messages that the sink has not the bytes for yet. The next batch
// waits for all of its own, as far as they can be there at once. A batch that gathers is
// one body: cut down to what there is, it would wait to be full again and again.
func (d *drain) fit(p plan, ds []buffer.Delivery, s *supply) []buffer.Delivery {
	now := time.Now()
	for i, n := 0, 1; i < len(ds); i += n {
		if p.batch.Wait > 0 {
			n = p.batch.first(ds[i:])
		}
		if p.sink.feed(now, d.core, bodies(ds[i:i+n])) {
			continue
		}
		s.want, s.empty = max(1, i), false
		if p.batch.size() > 1 {
			s.want = max(p.batch.burst(), min(2*i, s.batch.most())) // bodies differ
		}
		if p.batch.size() > 1 && p.batch.Wait == 0 {
			p.sink.hungry(d.core, bodies(ds[i:])/int64(len(ds)-i)*int64(p.batch.size()))
		}
		for _, m := range ds[i:] {
			d.buf.Return(d.name, m.Offset)
		}
		return ds[:i]
	}
	return ds
}

// hungry says that a drain waits for so many bytes.
func (s *sinkState) hungry(c *core, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares.drains.of(c).needs = bytes
}

func bodies(ds []buffer.Delivery) (bytes int64) {
	for _, m := range ds {
		bytes += int64(len(m.Body))
	}
	return bytes
}
