package drain

import (
	"time"

	"forebay/buffer"
)

// bandwidth is the bytes of bodies that a sink takes: so many a second, and at once 10
// ms of that, or what gathers together. A body that is larger than that leaves when there are as many as there ever
// are, and those after it wait for what it lacked. It is pure, and not safe for
// concurrent use.
type bandwidth struct {
	rate, most float64 // rate 0: no bound
	level      float64 // at last; below zero after a large body
	last       time.Time

	// line is who waits, in the order in which they came: else a large body would wait
	// behind small ones for ever.
	line line
}

// set changes the bytes a second; 0: no bound. What gathers is sent one after the other,
// and each time costs the same: whole batches leave then, as far as a second brings them.
func (b *bandwidth) set(now time.Time, rate float64, batch Batch) {
	b.at(now)
	b.rate, b.most = rate, rate*burstSeconds
	if batch.serial {
		b.most = max(b.most, min(rate, float64(batch.Bytes)))
	}
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

// ask returns when a body may leave: now, or else who asks is in the line, has to ask again
// then, and is told on a channel when it is first; mine is false while others are before it.
func (b *bandwidth) ask(now time.Time, who any, tell chan<- struct{}, size int64) (at time.Time, mine bool) {
	level := b.at(now)
	if b.rate <= 0 || size <= 0 {
		b.line.leave(who)
		return now, true
	}
	if b.line.behind(now, who, 0) {
		b.line.join(who, tell, 0, 1)
		return later(b.line.first(now).until, now.Add(time.Millisecond)), false
	}
	if at = in(now, (min(float64(size), b.most)-level-unresolved)/b.rate); at.After(now) {
		b.line.came(b.line.join(who, tell, 0, 1), at)
	}
	return at, true
}

// take takes a body's bytes, or returns when to ask again.
func (b *bandwidth) take(now time.Time, who any, tell chan<- struct{}, size int64) time.Time {
	at, _ := b.ask(now, who, tell, size)
	if b.rate > 0 && size > 0 && !at.After(now) {
		b.level -= float64(size)
		b.line.leave(who)
	}
	return at
}

// turn asks for a drain: when there are the bytes, unless others are before it.
func (b *bandwidth) turn(now time.Time, c *core, size int64) (at time.Time, behind bool) {
	at, mine := b.ask(now, c, c.freed, size)
	if !mine {
		return time.Time{}, true
	}
	return at, false
}

// came takes note of what a drain found: it keeps its place in the line while it waits for
// tokens or slots, or is about to take the bytes, and has none where it waits for anything
// else.
func (b *bandwidth) came(now time.Time, c *core, v verdict) {
	p := b.line.places[c]
	switch {
	case p == nil || v.unfed:
	case v.take+v.lacks == 0:
		b.line.leave(c)
	case v.take > 0:
		b.line.came(p, now)
	case v.behind:
		b.line.came(p, now.Add(freeing))
	default:
		b.line.came(p, later(now, v.again))
	}
}

// returned puts back what was taken and not sent.
func (b *bandwidth) returned(now time.Time, size int64) {
	if b.rate > 0 && size > 0 {
		b.level = min(b.most, b.at(now)+float64(size))
	}
}

// feed takes the bytes of a drain's messages, n together, or remembers how many it waits for.
func (s *sinkState) feed(now time.Time, c *core, size int64, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	stake := s.shares.drains.of(c)
	mean := float64(size) / float64(n)
	if stake.size == 0 {
		stake.size = mean
	}
	stake.size += (mean - stake.size) / 64
	if stake.needs = 0; s.bytes.take(now, c, c.freed, size).After(now) {
		stake.needs = size
	}
	s.call(now)
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
		if p.sink.feed(now, d.core, bodies(ds[i:i+n]), n) {
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
