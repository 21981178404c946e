package buffer

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Times of messages' own. When a first attempt may start is stored with the message
// alone: a pick that comes by it too early makes it wait like one that was tried, and
// a start comes by it again. It holds its key meanwhile.

const (
	// maxScheduled bounds the messages of a drain that wait for a time before those
	// behind them do, too: about 200 bytes each.
	maxScheduled = 100_000
	// maxEarly bounds how many of them one take comes by.
	maxEarly = 1000
)

// timesOf are those of a message; zero where it was left out.
func (d *decoded) timesOf(offset uint64) (after, deadline time.Time) {
	i, ok := d.find(offset)
	if !ok {
		return after, deadline
	}
	var m Message
	_, head, _ := d.record(i)
	if d.readHead(&m, i, head) != nil {
		return after, deadline // a take says that it is damaged
	}
	return m.DeliverAfter, m.Deadline
}

// deliverAfter is when a first attempt may start. It is zero for no block at all.
func (d *decoded) deliverAfter(offset uint64) time.Time {
	if d == nil {
		return time.Time{}
	}
	after, _ := d.timesOf(offset)
	return after
}

// crowded reports whether the message at head would have to wait for its time and as
// many do as may.
func (d *drain) crowded(p *picks, dec *decoded) bool {
	return len(d.retries) >= maxScheduled && dec.deliverAfter(d.head).After(p.now)
}

// timed is the block of a message, if that is timed: in memory, or to be read.
func (have blockKeys) timed(s *stream, offset uint64) (dec *decoded, need *blockRef) {
	ref := s.block(offset)
	if ref == nil || !ref.timed() {
		return nil, nil
	}
	if dec = ref.dec(); dec == nil {
		dec = have[ref]
	}
	if dec == nil {
		return nil, ref
	}
	return dec, nil
}

// ExpireOwn implements [OwnDeadlines].
func (e *Engine) ExpireOwn(name string, now time.Time, why Reason) (n int, next time.Time, err error) {
	d, firsts, err := e.timedBlocks(name, now)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("expire for %s: %w", name, err)
	}
	for _, first := range firsts {
		step, err := e.expireBlock(d, first, now, why)
		if n += step; err != nil {
			return n, time.Time{}, fmt.Errorf("expire for %s: %w", name, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	least := int64(math.MaxInt64)
	for _, at := range d.lates {
		least = min(least, at)
	}
	if least < math.MaxInt64 {
		next = time.UnixMilli(least)
	}
	return n, next, nil
}

// timedBlocks are those in which a message may be late, in order. It forgets those that
// are gone.
func (e *Engine) timedBlocks(name string, now time.Time) (d *drain, firsts []uint64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d = e.drains[name]; d == nil {
		return nil, nil, ErrNoDrain
	}
	if err := e.stopped(); err != nil {
		return nil, nil, err
	}
	for first := range d.stream.timed {
		b := d.stream.block(first)
		if b == nil || b.first != first || !b.pinned() {
			delete(d.stream.timed, first)
		} else if at, known := d.lates[first]; !known || at <= now.UnixMilli() {
			firsts = append(firsts, first)
		}
	}
	for first := range d.lates {
		if _, there := d.stream.timed[first]; !there {
			delete(d.lates, first)
		}
	}
	slices.Sort(firsts)
	return d, firsts, nil
}

// expireBlock ends what is late in a block, and notes when the next is.
func (e *Engine) expireBlock(d *drain, first uint64, now time.Time, why Reason) (n int, err error) {
	e.mu.Lock()
	ref := d.stream.block(first)
	e.mu.Unlock()
	if ref == nil {
		return 0, nil
	}
	dec, err := e.loadOwed(d.stream, ref)
	if err != nil || dec == nil {
		return 0, err
	}
	state := Expired
	if why != "" {
		state = Dead
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	next := int64(math.MaxInt64)
	for i := range dec.at {
		offset := dec.offset(i)
		if offset < d.from || offset >= d.stream.next || d.finished(offset) {
			continue
		}
		switch _, deadline := dec.timesOf(offset); {
		case deadline.IsZero():
		case deadline.After(now) || !d.idle(offset):
			next = min(next, max(deadline.UnixMilli(), now.UnixMilli()+1))
		default:
			e.endWaiting(d, offset, dec.acceptedAt(offset), state, why, now)
			n++
		}
	}
	d.lates[first] = next
	return n, nil
}

// addTimes completes where an unfinished message stands with its own times.
func (e *Engine) addTimes(st *Status, s *stream, ref *blockRef, now time.Time) error {
	if ref == nil || !ref.timed() || st.State().Final() {
		return nil
	}
	dec, err := e.loadOwed(s, ref)
	if err != nil || dec == nil {
		return err
	}
	after, deadline := dec.timesOf(st.Offset)
	st.Deadline = deadline
	for i := range st.Drains {
		if d := &st.Drains[i]; d.State == Queued && after.After(now) {
			d.State, d.Due = Scheduled, after // no take has come by it yet
		}
	}
	return nil
}
