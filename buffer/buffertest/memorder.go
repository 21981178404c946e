package buffertest

import (
	"container/heap"
	"slices"

	"forebay/buffer"
)

// MaxParkedKeys is how many keys of a drain may be parked at once.
const MaxParkedKeys = 100_000

// SetMaxParkedKeys gives a test a bound that it can reach.
func (m *Mem) SetMaxParkedKeys(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.maxParked = n
}

// line is the messages of one key that a drain has not finished with. While one
// of them is in flight or scheduled, it holds the line: no other is handed out,
// not even one before it that was replayed. Else the first is next.
type line struct {
	offsets []uint64 // ascending, never empty
	holder  uint64
	held    bool
}

// key is the ordering key of a message; empty: none.
func (d *memDrain) key(offset uint64) string {
	if d.keyless {
		return ""
	}
	return d.stream.messages[offset].Key
}

// setKeyless says whether keys are something to the drain, and lines up what is
// unfinished anew.
func (d *memDrain) setKeyless(keyless bool) {
	if d.keyless == keyless {
		return
	}
	d.keyless, d.parked = keyless, 0
	d.lines = make(map[string]*line)
	for i := d.low; i < len(d.places); i++ {
		if !d.places[i].state.Final() {
			d.enter(uint64(d.start) + uint64(i))
		}
	}
	for i := d.low; i < len(d.places); i++ {
		if !d.places[i].state.Final() {
			d.arrange(uint64(d.start) + uint64(i))
		}
	}
	d.signal()
}

// isNext reports whether no other message of the same key goes first.
func (d *memDrain) isNext(offset uint64) bool {
	l := d.lines[d.key(offset)]
	switch {
	case l == nil: // no key
		return true
	case l.held:
		return l.holder == offset
	}
	return l.offsets[0] == offset && d.stream.live[d.key(offset)] == 0
}

// enter gives an unfinished message its place in its line, and reports whether
// it is the first there.
func (d *memDrain) enter(offset uint64) bool {
	key := d.key(offset)
	if key == "" {
		return true
	}
	l := d.lines[key]
	if l == nil {
		l = &line{}
		d.lines[key] = l
	}
	i, _ := slices.BinarySearch(l.offsets, offset)
	l.offsets = slices.Insert(l.offsets, i, offset)
	return i == 0
}

// exit takes a finished message out of its line, which wakes the drain: the next
// may be taken, or another key opened.
func (d *memDrain) exit(offset uint64) {
	l := d.lines[d.key(offset)]
	if l == nil {
		return
	}
	i, _ := slices.BinarySearch(l.offsets, offset)
	l.offsets = slices.Delete(l.offsets, i, i+1)
	d.arrange(offset)
	if len(l.offsets) == 0 {
		delete(d.lines, d.key(offset))
	}
	d.signal()
}

// arrange settles who holds a line after a message of it changed, and offers
// what may have its first attempt.
func (d *memDrain) arrange(offset uint64) {
	l := d.lines[d.key(offset)]
	if l == nil {
		if d.place(offset).state == buffer.Queued {
			heap.Push(&d.ready, offset)
		}
		return
	}
	if l.held && !d.place(l.holder).holds() {
		l.held = false
		d.parked--
	}
	if l.held || len(l.offsets) == 0 {
		return
	}
	first := l.offsets[0]
	if d.place(first).holds() {
		l.held, l.holder = true, first
		d.parked++
		return
	}
	heap.Push(&d.ready, first)
}

// holds reports whether a message keeps others of its key from being taken.
func (p *place) holds() bool {
	return p.state == buffer.Delivering || p.state == buffer.Scheduled
}

// offsetHeap is a container/heap of offsets, the smallest first.
type offsetHeap []uint64

func (h offsetHeap) Len() int           { return len(h) }
func (h offsetHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h offsetHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *offsetHeap) Push(x any) { *h = append(*h, x.(uint64)) }

// Pop implements heap.Interface.
func (h *offsetHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
