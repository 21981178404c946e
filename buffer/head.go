package buffer

import (
	"slices"
	"time"
)

// Standing returns where a message of a drain's stream stands with the drain. It
// does not touch the disk, and is cheap. ok is false for what the drain has
// finished, or never had.
func (e *Engine) Standing(name string, offset uint64) (s DrainStatus, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.drains[name]
	if d == nil || offset >= d.stream.next || d.finished(offset) {
		return DrainStatus{}, false
	}
	s.Drain = name
	s.ofWaiting(d, offset)
	return s, true
}

// Head returns the oldest unfinished message of a drain; false where there is
// none. It does not touch the disk.
func (e *Engine) Head(name string) (ref Ref, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.drains[name]
	if d == nil || d.low >= d.stream.next {
		return Ref{}, false
	}
	return Ref{Stream: d.stream.Name, Offset: d.low}, true
}

// Backlog returns at most n unfinished messages of a drain, the oldest first, spread
// evenly over those between it and the newest. Their times are exact to their blocks. It
// does not touch the disk.
func (e *Engine) Backlog(name string, n int) []Waiting {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.drains[name]
	if d == nil {
		return nil
	}
	var list []Waiting
	for _, offset := range Spread(d.low, d.stream.next, n) {
		if !d.finished(offset) {
			list = append(list, Waiting{d.ahead(offset), time.UnixMilli(d.stream.timeNear(offset))})
		}
	}
	return list
}

// Spread is at most n numbers from first to before end, evenly, both ends among them.
func Spread(first, end uint64, n int) []uint64 {
	if first >= end {
		return nil
	}
	gaps := min(end-first-1, uint64(n-1))
	list := []uint64{first}
	for i := uint64(1); i <= gaps; i++ {
		list = append(list, first+uint64(float64(end-first-1)*float64(i)/float64(gaps)))
	}
	return list
}

// Behind returns the message of the same ordering key that one waits for; false where
// it waits for none, or its turn is so far off that it has not been looked at. It looks
// through all open keys, and is for who asks about one message.
func (e *Engine) Behind(name string, offset uint64) (first uint64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.drains[name]
	if d == nil || d.finished(offset) {
		return 0, false
	}
	for _, k := range d.keys {
		if _, ok := slices.BinarySearch(k.followers, offset); ok {
			return k.holder, true
		}
	}
	return 0, false
}
