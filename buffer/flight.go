package buffer

import (
	"iter"
	"math/bits"
)

// flight is a message in the hands of the drain.
type flight struct {
	acceptedAt int64
	last       *Retry // as it was scheduled before; nil: it was not
	cancelAt   int64  // its key was cancelled then, Unix ms: no other attempt; 0: not
	size       int64  // of the message, in bytes
}

// tried is what is remembered of earlier attempts.
func (f *flight) tried() Retry {
	if f.last == nil {
		return Retry{}
	}
	return *f.last
}

// flights are the messages of a drain that are in flight. Drains take in order, so
// that neighbours lie together: a take of a thousand touches sixteen entries of a map.
type flights struct {
	rows map[uint64]*flightRow // by offset / 64
	near *flightRow            // the last one asked for; nil: none
	at   uint64                // its key
	free *flightRow            // one that is not used
	n    int
	end  uint64 // none is at or behind it
}

type flightRow struct {
	has     uint64 // a bit an offset
	flights [64]flight
}

func (t *flights) row(offset uint64) *flightRow {
	if t.near == nil || t.at != offset/64 {
		t.near, t.at = t.rows[offset/64], offset/64
	}
	return t.near
}

// get returns what is in flight, or nil. It is good until it is removed.
func (t *flights) get(offset uint64) *flight {
	r := t.row(offset)
	if r == nil || r.has&(1<<(offset%64)) == 0 {
		return nil
	}
	return &r.flights[offset%64]
}

// put adds a message, in the place of what was said of it before.
func (t *flights) put(offset uint64, f flight) {
	r := t.row(offset)
	if r == nil {
		if r = t.free; r == nil {
			r = &flightRow{}
		}
		t.free, t.near = nil, r
		if t.rows == nil {
			t.rows = map[uint64]*flightRow{}
		}
		t.rows[offset/64] = r
	}
	if bit := uint64(1) << (offset % 64); r.has&bit == 0 {
		r.has |= bit
		t.added(offset)
	}
	r.flights[offset%64] = f
}

// add puts a message that nothing is known of, unless it is there.
func (t *flights) add(offset uint64) bool {
	r := t.row(offset)
	if r == nil {
		t.put(offset, flight{})
		return true
	}
	bit := uint64(1) << (offset % 64)
	if r.has&bit != 0 {
		return false
	}
	r.has |= bit // its flight is zero, as remove leaves it
	t.added(offset)
	return true
}

func (t *flights) added(offset uint64) {
	t.n++
	t.end = max(t.end, offset+1)
}

// remove forgets a message, if it is there.
func (t *flights) remove(offset uint64) {
	r := t.row(offset)
	bit := uint64(1) << (offset % 64)
	if r == nil || r.has&bit == 0 {
		return
	}
	t.n--
	r.flights[offset%64] = flight{}
	if r.has &^= bit; r.has == 0 {
		delete(t.rows, offset/64)
		t.free, t.near = r, nil
	}
	if t.n == 0 {
		t.end = 0
	}
}

// before is how many are in flight before an offset. Of a message behind all of them,
// as most are that somebody asks about, that is known; else it looks at each row.
func (t *flights) before(offset uint64) (n uint64) {
	if offset >= t.end {
		return uint64(t.n)
	}
	for at, r := range t.rows {
		switch {
		case at < offset/64:
			n += uint64(bits.OnesCount64(r.has))
		case at == offset/64:
			n += uint64(bits.OnesCount64(r.has & (1<<(offset%64) - 1)))
		}
	}
	return n
}

// all goes over what is in flight, in no order. Nothing may be added meanwhile, and
// nothing removed but the last one given.
func (t *flights) all() iter.Seq2[uint64, *flight] {
	return func(yield func(uint64, *flight) bool) {
		for at, r := range t.rows {
			for has := r.has; has != 0; has &= has - 1 {
				i := bits.TrailingZeros64(has)
				if !yield(at*64+uint64(i), &r.flights[i]) {
					return
				}
			}
		}
	}
}
