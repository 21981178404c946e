package buffer

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"forebay/buffer/block"
)

// Take implements [Buffer].
func (e *Engine) Take(name string, now time.Time, limit int) ([]Delivery, time.Time, error) {
	return e.TakeMix(name, now, limit, limit)
}

// TakeMix is Take with at most so many messages that were tried before, while
// there are untried ones to hand out.
func (e *Engine) TakeMix(name string, now time.Time, limit, retries int) ([]Delivery, time.Time, error) {
	d, picked, refs, next, err := e.pick(name, now, &picks{n: limit, retries: retries})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("take for %s: %w", name, err)
	}
	ds := make([]Delivery, 0, len(picked))
	for i, offset := range picked {
		dl, err := e.deliverable(d.stream, refs[i], offset)
		if errors.Is(err, block.ErrDamaged) {
			e.reportDamage(d.stream, offset, offset+1, err)
			continue
		}
		if err != nil {
			e.mu.Lock()
			_, flying := d.flight[offset]
			if flying {
				for _, offset := range picked {
					e.putBack(d, offset)
				}
			}
			e.mu.Unlock()
			if !flying {
				continue // it was ended, and its segment removed, while it was read
			}
			return nil, next, fmt.Errorf("take for %s: %w", name, err)
		}
		ds = append(ds, dl)
	}
	ds = e.handOut(d, ds)
	if len(ds) < len(picked) {
		d.signal() // there may be more behind what was damaged or ended meanwhile
	}
	return ds, next, nil
}

// pick chooses what a take hands out, and the blocks that hold it. Where keys
// have to be known it reads blocks, without holding mu.
func (e *Engine) pick(name string, now time.Time, p *picks) (d *drain, picked []uint64, refs []*blockRef, next time.Time, err error) {
	have := blockKeys{}
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		d = e.drains[name]
		if err := e.stopped(); err != nil {
			return nil, nil, nil, next, err
		}
		if d == nil || d.orphaned {
			return nil, nil, nil, next, ErrNoDrain
		}
		need := d.pick(p, now, have)
		if need == nil {
			break
		}
		e.mu.Unlock()
		dec, err := e.loadOwed(d.stream, need)
		e.mu.Lock()
		if err != nil {
			for _, offset := range p.offsets {
				e.putBack(d, offset)
			}
			return nil, nil, nil, next, err
		}
		have[need] = dec
	}
	for _, offset := range p.offsets {
		refs = append(refs, d.stream.block(offset))
		e.touch(d.stream, offset)
	}
	return d, p.offsets, refs, d.nextDue(), nil
}

// deliverable reads one message. It may read the disk.
func (e *Engine) deliverable(s *stream, ref *blockRef, offset uint64) (Delivery, error) {
	dec, err := e.load(s, ref)
	if err != nil {
		return Delivery{}, err
	}
	i, ok := dec.find(offset)
	if !ok {
		return Delivery{}, errLeftOut
	}
	ms, m, err := dec.message(i)
	if err != nil {
		return Delivery{}, err
	}
	r := Ref{Stream: s.Name, Offset: offset}
	return Delivery{Ref: r, ID: e.id(s.num, offset), AcceptedAt: time.UnixMilli(ms), Message: m}, nil
}

// handOut completes deliveries with what only the state knows, and leaves out
// what was finished while its block was read.
func (e *Engine) handOut(d *drain, ds []Delivery) []Delivery {
	e.mu.Lock()
	defer e.mu.Unlock()
	kept := ds[:0]
	for _, x := range ds {
		switch {
		case d.flight[x.Offset].cancelAt != 0:
			e.putBack(d, x.Offset)
		case d.handOut(&x):
			kept = append(kept, x)
		}
	}
	return kept
}

func (d *drain) handOut(x *Delivery) bool {
	f, ok := d.flight[x.Offset]
	if !ok {
		return false
	}
	f.acceptedAt, x.Tries = x.AcceptedAt.UnixMilli(), f.last.Tries
	f.size = int64(len(x.Body))
	d.flight[x.Offset] = f
	return true
}

// Return implements [Buffer].
func (e *Engine) Return(name string, offset uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.drains[name]; d != nil {
		e.putBack(d, offset)
		e.touch(d.stream, offset)
	}
}

// putBack undoes pick for one message. One that was cancelled meanwhile ends. The
// caller holds mu.
func (e *Engine) putBack(d *drain, offset uint64) {
	f := d.flight[offset]
	if f.cancelAt == 0 {
		d.putBack(offset)
		return
	}
	e.endCancelled(d, offset, Result{Attempts: f.last.Attempts, Status: f.last.Status})
	e.noteChange()
}

// endCancelled ends a message that was cancelled while it was in flight. The
// caller holds mu, and asks for a commit.
func (e *Engine) endCancelled(d *drain, offset uint64, r Result) {
	if r.At.IsZero() {
		r.At = time.UnixMilli(d.flight[offset].cancelAt)
	}
	e.end(d, offset, Cancelled, "", r)
}

// Ack implements [Buffer].
func (e *Engine) Ack(name string, offset uint64, r Result) {
	e.settle(name, offset, func(d *drain) { e.end(d, offset, Delivered, "", r) })
}

// Bury implements [Buffer].
func (e *Engine) Bury(name string, offset uint64, why Reason, r Result) {
	e.settle(name, offset, func(d *drain) {
		if d.flight[offset].cancelAt != 0 {
			e.endCancelled(d, offset, r)
			return
		}
		e.end(d, offset, Dead, why, r)
	})
}

// Release implements [Buffer].
func (e *Engine) Release(name string, offset uint64, r Retry) {
	e.settle(name, offset, func(d *drain) {
		if d.flight[offset].cancelAt != 0 {
			e.endCancelled(d, offset, Result{Attempts: r.Attempts, Status: r.Status})
			return
		}
		r.Error = clip(r.Error)
		delete(d.flight, offset)
		d.addRetry(offset, r)
		e.delta.retry(d, offset, r, d.holding[offset])
		e.touch(d.stream, offset)
		d.signal()
	})
}

// settle runs fn on a drain that has the message in flight.
func (e *Engine) settle(name string, offset uint64, fn func(*drain)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.drains[name]
	if d == nil {
		return
	}
	if _, ok := d.flight[offset]; !ok {
		return // cancelled, damaged or settled before
	}
	fn(d)
	e.noteChange()
}

// noteChange asks for a commit within ackDelay. The caller holds mu.
func (e *Engine) noteChange() { signal(e.changed) }

// end makes a message final with one drain. The caller holds mu, and asks for
// a commit.
func (e *Engine) end(d *drain, offset uint64, state State, why Reason, r Result) {
	f, ref := d.flight[offset], d.stream.block(offset)
	key := d.keyOf(ref, offset)
	if f.size == 0 && ref != nil {
		f.size = int64(ref.size / max(1, ref.kept))
	}
	if f.acceptedAt == 0 {
		f.acceptedAt = d.stream.timeNear(offset)
	}
	if !d.finish(offset) {
		return
	}
	o := outcome{
		offset: offset, at: int64(millis(r.At)), accepted: f.acceptedAt,
		attempts: uint32(r.Attempts), status: uint32(r.Status), state: uint32(stateCode(state)),
	}
	e.keepAnswer(d, offset, o.at, r.Answer)
	if state == Dead {
		first := f.last.FirstAt
		if first.IsZero() {
			first = r.FirstAt
		}
		x := &death{
			reason: why, at: o.at, acceptedAt: f.acceptedAt, firstAt: int64(millis(first)),
			attempts: r.Attempts, status: r.Status, size: f.size, key: key, err: clip(r.Error),
		}
		d.bury(offset, x)
		e.delta.death(opBury, d, offset, x)
		e.records.outcomes.add(e.comp, d.num, o)
	} else {
		d.count(state)
		e.record(opFinish, d, o)
	}
	e.touch(d.stream, offset)
	if ref != nil {
		e.unowe(d.stream, ref, state == Dead && why != ReasonDamaged)
	}
	if d.orphaned {
		e.retireDrain(d)
	}
}

// record stores a final state: as a change, and for receipts. The caller holds mu.
func (e *Engine) record(code byte, d *drain, o outcome) {
	e.delta.op(code, uint64(d.num), o.offset, uint64(o.state), uint64(o.at), uint64(o.accepted), uint64(o.attempts), uint64(o.status))
	e.records.outcomes.add(e.comp, d.num, o)
}

// unowe counts one finished pair of message and drain. What is dead as damaged
// pins nothing: there is nothing to be read. The caller holds mu.
func (e *Engine) unowe(s *stream, ref *blockRef, dead bool) {
	ref.owed--
	if dead {
		ref.dead++
	}
	if ref.owed > 0 {
		return
	}
	s.bytes -= int64(ref.size)
	if !ref.pinned() {
		ref.seg.live--
		e.dropIfDone(ref.seg)
	}
}

// dropIfDone begins the removal of a sealed segment that nobody needs. The
// removal itself waits until this is durable, so that a directory that is
// missing at the next start is known to be missing by our own doing.
func (e *Engine) dropIfDone(s *segmentRef) {
	if s.phase != sealed || s.live > 0 {
		return
	}
	s.phase = dropping
	e.delta.op(opGone, s.id)
	e.noteChange()
}

// errLeftOut is a message that was finished when its block was rewritten, and is
// not any more: the change that said so was lost.
var errLeftOut = fmt.Errorf("%w: the message was left out when its block was rewritten", block.ErrDamaged)

// reportDamage ends all that is unfinished in the damaged block of a message, or,
// where the block is sound or there is none, from one offset up to another: what
// cannot be read is never delivered, and is accounted for.
func (e *Engine) reportDamage(s *stream, from, end uint64, cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	where := ""
	if ref := s.block(from); ref != nil {
		where = e.segmentDir(ref.seg.id)
		if !errors.Is(cause, errLeftOut) {
			from, end = ref.first, ref.end()
		}
	}
	e.corrupt++
	n := e.buryDamaged(s, from, end)
	e.log.Error("a block is damaged; its messages are dead", "stream", s.Name, "segment", where,
		"first_offset", from, "messages", end-from, "ended", n, "err", cause)
	e.noteChange()
}

// buryDamaged ends the unfinished messages of an offset range with every
// drain. The caller holds mu.
func (e *Engine) buryDamaged(s *stream, from, end uint64) (n int) {
	for _, d := range slices.Clone(s.drains) {
		for offset := max(from, d.from); offset < end; offset++ {
			if !d.finished(offset) {
				e.end(d, offset, Dead, ReasonDamaged, Result{At: time.Now(), Error: "the stored block is damaged"})
				n++
			}
		}
		d.signal()
	}
	return n
}

// Wake implements [Buffer].
func (e *Engine) Wake(name string) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.drains[name]
	if d == nil {
		return nil
	}
	return d.wake
}
