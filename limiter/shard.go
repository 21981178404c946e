package limiter

import (
	"math/bits"
	"sync"
)

// shard is a part of a Keyed: a hash table with open addressing, in which a
// fifth of the slots are empty or more.
type shard struct {
	mu      sync.Mutex
	pace    pace   // all is guarded by mu
	slots   []slot // a key is in the first slot that was empty from its home on
	used    int
	most    int // keys
	evicted uint64
	rested  int64 // no sweep for full buckets before
}

// sweepRest is in nanoseconds a key of the shard: a sweep takes a few.
const sweepRest = 1000

// take is false where the key is new and there is no room for it.
func (s *shard) take(at int64, hash uint64) (Decision, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, known := s.find(hash)
	if !known {
		if i = s.add(at, hash); i < 0 {
			return Decision{}, false
		}
	}
	return s.slots[i].take(at, s.pace), true
}

// give does nothing where the key was forgotten since: then its bucket was full.
func (s *shard) give(at int64, hash uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, known := s.find(hash); known {
		s.slots[i].give(at, s.pace)
	}
}

func (s *shard) set(at int64, to pace, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.slots {
		if s.slots[i].hash != 0 {
			s.slots[i].change(at, s.pace, to)
		}
	}
	s.pace, s.most = to, most
}

// find returns the slot of a key, or the one where it would be; -1 while there
// are none.
func (s *shard) find(hash uint64) (i int, known bool) {
	if len(s.slots) == 0 {
		return -1, false
	}
	for i = s.home(hash); s.slots[i].hash != 0; i = s.after(i) {
		if s.slots[i].hash == hash {
			return i, true
		}
	}
	return i, false
}

func (s *shard) home(hash uint64) int {
	high, _ := bits.Mul64(hash, uint64(len(s.slots)))
	return int(high)
}

func (s *shard) after(i int) int {
	if i++; i == len(s.slots) {
		return 0
	}
	return i
}

// add makes a full bucket for a new key and returns its slot; -1 where there
// is no room.
func (s *shard) add(at int64, hash uint64) int {
	if s.used >= s.most {
		if at >= s.rested {
			s.sweep(at)
		}
		if s.used >= s.most {
			return -1
		}
	}
	if s.used >= len(s.slots)/5*4 {
		s.grow()
	}
	i, _ := s.find(hash)
	s.slots[i] = slot{hash: hash, tokens: s.pace.burst, last: at}
	s.used++
	return i
}

// grow doubles the slots, up to what the most keys need.
func (s *shard) grow() {
	old := s.slots
	s.slots = make([]slot, min(max(2*len(old), 20), s.most/4*5+10))
	for _, b := range old {
		if b.hash != 0 {
			i, _ := s.find(b.hash)
			s.slots[i] = b
		}
	}
}

// sweep forgets all full buckets.
func (s *shard) sweep(at int64) {
	s.rested = at + int64(s.used)*sweepRest
	for i := 0; i < len(s.slots); {
		if b := &s.slots[i]; b.hash == 0 || !b.full(at, s.pace) {
			i++
			continue
		}
		s.remove(i) // another may have moved here
		s.evicted++
	}
}

// remove empties a slot and moves up those behind it that are not at home, so
// that none is cut off from its home.
func (s *shard) remove(gap int) {
	s.used--
	for i := s.after(gap); s.slots[i].hash != 0; i = s.after(i) {
		home := s.home(s.slots[i].hash)
		reached := gap < i && gap < home && home <= i || gap > i && (gap < home || home <= i)
		if !reached {
			s.slots[gap] = s.slots[i]
			gap = i
		}
	}
	s.slots[gap] = slot{}
}
