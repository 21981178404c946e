package drain

import (
	"cmp"
	"slices"
	"time"
)

// line is who waits for one thing, in the order in which they are to have it. The first
// alone looks when it may be there; those behind sleep until they are called, so that
// it costs nothing how many they are. Who is first and does not come loses its place:
// nobody waits for somebody who does not come. It is pure, and not safe for
// concurrent use.
type line struct {
	order  []*place
	places map[any]*place
	joined uint64
	called *place // the first, once it knows that it is
	wants  int    // what all lack together
}

// place is somebody's in a line.
type place struct {
	who   any
	tell  chan<- struct{}
	key   float64 // the least is first
	nth   uint64  // of those who are alike in that
	n     int     // what it lacks
	until time.Time
	name  Constraint // what the first is held by
}

func (p *place) compare(q *place) int {
	return cmp.Or(cmp.Compare(p.key, q.key), cmp.Compare(p.nth, q.nth))
}

// first is who is to have the thing first; nil: nobody waits.
func (l *line) first(now time.Time) *place {
	for len(l.order) > 0 {
		p := l.order[0]
		if p.until.IsZero() || now.Before(p.until) {
			return p
		}
		l.leave(p.who)
	}
	return nil
}

// join gives somebody a place, behind those whose key is the same, or notes what it
// lacks now. It stays where it is while its key does.
func (l *line) join(who any, tell chan<- struct{}, key float64, n int) *place {
	p := l.places[who]
	if p != nil && p.key == key {
		l.wants += n - p.n
		p.n, p.until = n, time.Time{}
		return p
	}
	if l.leave(who); l.places == nil {
		l.places = make(map[any]*place)
	}
	l.joined++
	p = &place{who: who, tell: tell, key: key, nth: l.joined, n: n}
	at, _ := slices.BinarySearchFunc(l.order, p, (*place).compare)
	l.order = slices.Insert(l.order, at, p)
	l.places[who], l.wants = p, l.wants+n
	return p
}

// leave takes somebody out, and reports whether it was there.
func (l *line) leave(who any) bool {
	p := l.places[who]
	if p == nil {
		return false
	}
	at, _ := slices.BinarySearchFunc(l.order, p, (*place).compare)
	l.order = slices.Delete(l.order, at, at+1)
	l.wants -= p.n
	delete(l.places, who)
	return true
}

// behind reports whether others come before somebody who has, or would have, this key.
func (l *line) behind(now time.Time, who any, key float64) bool {
	p := l.first(now)
	return p != nil && p.who != who && p.key <= key
}

// came takes note that somebody looked, and looks again at some time: if it is first, it
// keeps its place until a moment after that.
func (l *line) came(p *place, again time.Time) {
	if l.order[0] == p {
		l.called, p.until = p, again.Add(grace)
	}
}

// call tells who has become the first, and returns when to call again because it did not
// come; zero: nobody waits behind it.
func (l *line) call(now time.Time) time.Time {
	p := l.first(now)
	if p != nil && p != l.called {
		if p.until.IsZero() {
			p.until = now.Add(grace)
		}
		signal(p.tell)
	}
	if l.called = p; len(l.order) < 2 {
		return time.Time{}
	}
	return p.until
}

// call tells who is first at tokens and slots, and at bytes. It requires that mu is held.
func (s *sinkState) call(now time.Time) {
	at := sooner(s.shares.line.call(now), s.bytes.line.call(now))
	switch {
	case at.IsZero() && s.turns != nil:
		s.turns.Stop()
	case at.IsZero():
	case s.turns == nil:
		s.turns = time.AfterFunc(at.Sub(now), s.callAgain)
	default:
		s.turns.Reset(at.Sub(now))
	}
}

// callAgain is what a timer runs.
func (s *sinkState) callAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.call(time.Now())
}

// quit has the next come where a drain was first: it does not take from the budget any
// more, or not for a while.
func (s *sinkState) quit(now time.Time, c *core, forGood bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares.line.leave(c)
	s.bytes.line.leave(c)
	if forGood {
		delete(s.shares.drains.stakes, c)
	}
	s.call(now)
}
