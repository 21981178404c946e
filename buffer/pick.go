package buffer

import (
	"container/heap"
	"time"
)

// picks is what one take chose, and what it may choose yet.
type picks struct {
	offsets []uint64
	n       int // messages, at most
	retries int // that were tried before, while there are untried ones
	now     time.Time
	early   int // messages that were found to be scheduled
}

func (p *picks) full() bool { return len(p.offsets) >= p.n }

// pick chooses what to hand out at now: due again, then put back or next of
// their key, then untried, each in the order of arrival, then the rest of what is
// due again. It stops at a block whose keys it has to know and that is not in
// memory, which it returns.
func (d *drain) pick(p *picks, now time.Time, keys blockKeys) (need *blockRef) {
	for len(d.due) > 0 && !d.due[0].Due.After(now) {
		x := heap.Pop(&d.due).(*retry)
		x.index = inReady
		heap.Push(&d.ready, x.offset)
	}
	for !p.full() && p.retries > 0 && d.pickReady(p) {
		p.retries--
	}
	d.blocked = false
	for more := true; more && !p.full() && p.early < maxEarly; {
		if more, need = d.pickNext(p, keys); need != nil {
			return need
		}
	}
	for !p.full() && d.pickReady(p) {
	}
	if p.early >= maxEarly {
		d.signal() // to go on
	}
	return nil
}

// pickNext looks at one message that was not tried, the first of those put back
// or the one at head; false: there is none.
func (d *drain) pickNext(p *picks, keys blockKeys) (more bool, need *blockRef) {
	atHead := d.head < d.stream.next && !d.blocked
	switch {
	case len(d.returned) > 0 && (d.returned[0] < d.head || !atHead):
		offset := d.returned[0]
		dec, need := keys.timed(d.stream, offset)
		if need != nil {
			return true, need
		}
		heap.Pop(&d.returned)
		if d.waits(offset) && !d.displaced[offset] && !d.park(d.holding[offset], offset) {
			d.pickUntried(p, offset, dec)
		}
	case atHead:
		if !d.pickPlain(p) {
			need = d.pickHead(p, keys)
		}
	default:
		return false, nil
	}
	return true, need
}

// pickHead chooses the message at head, or passes it: after a start it comes by
// messages that were tried before, and some follow another message of their key.
func (d *drain) pickHead(p *picks, keys blockKeys) (need *blockRef) {
	if d.waits(d.head) {
		key, need := d.keyAt(d.head, keys)
		if need != nil {
			return need
		}
		dec, need := keys.timed(d.stream, d.head)
		if need != nil {
			return need
		}
		if d.crowded(p, dec) {
			d.blocked = true
			return nil
		}
		switch {
		case key != "" && !d.open(key, d.head):
			if d.blocked {
				return nil
			}
		case !d.park(key, d.head):
			d.pickUntried(p, d.head, dec)
		}
	}
	d.head++
	return nil
}

// keyAt is the ordering key of a message, or the block that has to be read for it.
func (d *drain) keyAt(offset uint64, keys blockKeys) (key string, need *blockRef) {
	if d.keyless {
		return "", nil
	}
	return keys.of(d.stream, offset)
}

// pickPlain chooses messages in a row from head on, as many as may be looked at in
// one go: they are of one block without keys, and nothing was put back. false: none.
func (d *drain) pickPlain(p *picks) bool {
	ref := d.stream.block(d.head)
	if ref == nil || ref.keyed() && !d.keyless || ref.timed() || len(d.returned) > 0 {
		return false
	}
	end := min(ref.end(), d.stream.next, d.head+uint64(p.n-len(p.offsets)))
	ended := !d.done.IsEmpty() && d.done.Maximum() >= d.head
	for ; d.head < end; d.head++ {
		if (!ended || !d.finished(d.head)) && (len(d.retries) == 0 || d.retries[d.head] == nil) && d.flight.add(d.head) {
			p.offsets = append(p.offsets, d.head)
		}
	}
	return true
}

// pickUntried chooses a message, or schedules it where its time has not come; dec is of
// a timed block.
func (d *drain) pickUntried(p *picks, offset uint64, dec *decoded) {
	if after := dec.deliverAfter(offset); after.After(p.now) {
		d.addRetry(offset, Retry{Due: after})
		p.early++
		return
	}
	d.flight.put(offset, flight{})
	p.offsets = append(p.offsets, offset)
}

// pickReady chooses the first message that is due again; false: none is.
func (d *drain) pickReady(p *picks) bool {
	for len(d.ready) > 0 {
		offset := heap.Pop(&d.ready).(uint64)
		if x := d.retries[offset]; x != nil && x.index == inReady {
			d.unschedule(x)
			d.flight.put(offset, flight{last: &x.Retry})
			p.offsets = append(p.offsets, offset)
			return true
		}
	}
	return false
}

// waits reports whether a message is neither finished, in flight nor scheduled.
func (d *drain) waits(offset uint64) bool {
	return !d.finished(offset) && d.state(offset) == Queued
}
