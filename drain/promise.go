package drain

import (
	"math"
	"slices"
	"time"
)

const (
	// sampledOf says how many messages are held to their eta: one in so many.
	sampledOf = 100
	// maxPromises bounds those of a drain that wait. Past it no others are taken up:
	// of a backlog that deep, those that were leave first.
	maxPromises = 10_000
	// scored is how many of the last errors the margin is made of, and fewScored
	// how many it takes at least.
	scored    = 1000
	fewScored = 30
	// firstMargin is the share of the wait that an eta may be off by at first.
	firstMargin = 0.15
)

// promise is an eta that was given.
type promise struct{ made, eta, p90 time.Time }

// sample is a message that is held to its eta: to the last one before the final
// tenth of its wait. When that begins is known when the message leaves, so the
// newest two are kept, of which one was made before.
type sample struct {
	from         time.Time // when it was seen first: soon after it was accepted
	last, before promise
	due          time.Time // when to promise again
}

// promised reports whether there is anything to hold it to.
func (s *sample) promised() bool { return !s.last.made.IsZero() }

// promise takes note of another eta. The next is due shortly before the final
// tenth begins, if this one is right, and late enough that the final tenth never
// holds two.
func (s *sample) promise(p promise) {
	s.before, s.last = s.last, p
	s.due = later(
		s.from.Add(p.eta.Sub(s.from)*17/20),
		p.made.Add(max(promiseEvery, p.made.Sub(s.from)/8)),
	)
}

// binding is the promise that counts for a message that leaves now.
func (s *sample) binding(now time.Time) promise {
	tenth := now.Sub(s.from) / 10
	if s.last.made.After(now.Add(-tenth)) && !s.before.made.IsZero() {
		return s.before
	}
	return s.last
}

// promises hold a drain to the etas it gives, and learn from how it went by how
// much nine in ten are off. It is pure, and not safe for concurrent use.
type promises struct {
	open   map[uint64]*sample // by offset
	began  bool
	next   uint64    // the offsets before were taken up, or never will be
	errors []float64 // of the last ones, in the order of a ring
	place  int       // in the ring
	share  float64   // the margin
}

// sampled reports whether a message is among those that are held to their eta:
// one in sampledOf, spread evenly whatever the size of a batch.
func sampled(offset uint64) bool {
	const golden = 0x9e3779b97f4a7c15
	return offset*golden < math.MaxUint64/sampledOf
}

// takeUp takes up the samples among the messages accepted since the last look.
// What was there before the first was accepted at a time that is not known.
func (p *promises) takeUp(now time.Time, accepted uint64) {
	if p.open == nil {
		p.open = make(map[uint64]*sample)
	}
	if !p.began {
		p.began, p.next = true, accepted
	}
	for ; p.next < accepted && len(p.open) < maxPromises; p.next++ {
		if sampled(p.next) {
			p.open[p.next] = &sample{from: now, due: now}
		}
	}
	p.next = max(p.next, accepted)
}

// due returns at most limit offsets that are to be promised again, and when the
// first of the others is; zero: none.
func (p *promises) due(now time.Time, limit int) (offsets []uint64, next time.Time) {
	for offset, s := range p.open {
		switch {
		case !s.due.After(now) && len(offsets) < limit:
			offsets = append(offsets, offset)
		case next.IsZero() || s.due.Before(next):
			next = s.due
		}
	}
	return offsets, next
}

// left takes note that a message left. It reports whether there was a promise
// that counts, and whether that was kept.
func (p *promises) left(now time.Time, offset uint64) (kept, promised bool) {
	if !sampled(offset) {
		return false, false
	}
	s := p.open[offset]
	delete(p.open, offset)
	if s == nil || !s.promised() {
		return false, false
	}
	x := s.binding(now)
	wait := max(x.eta.Sub(x.made), time.Second)
	p.score(now.Sub(x.eta).Seconds() / wait.Seconds())
	return !now.After(x.p90), true
}

// give gives up a sample, and returns how many promises that voids.
func (p *promises) give(offset uint64) (void int) {
	if s := p.open[offset]; s != nil && s.promised() {
		void = 1
	}
	delete(p.open, offset)
	return void
}

// void gives all up, because something came in between that no eta can know, and
// returns how many promises that voids.
func (p *promises) void() (n int) {
	for offset := range p.open {
		n += p.give(offset)
	}
	return n
}

func (p *promises) score(off float64) {
	if len(p.errors) < scored {
		p.errors = append(p.errors, off)
	} else {
		p.errors[p.place] = off
		p.place = (p.place + 1) % scored
	}
	if len(p.errors) < fewScored {
		return
	}
	sorted := slices.Sorted(slices.Values(p.errors))
	p.share = max(0, sorted[len(sorted)*9/10])
}

// off is the share of a wait that its eta may be off by: nine in ten leave before.
func (p *promises) off() float64 {
	if len(p.errors) < fewScored {
		return firstMargin
	}
	return p.share
}

func margin(share float64, wait time.Duration) time.Duration {
	return max(time.Second, time.Duration(share*float64(wait)))
}
