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
	return e.TakeMix(nil, name, now, limit, limit)
}

// TakeMix is Take with at most so many messages that were tried before, while
// there are untried ones to hand out. The deliveries lie in the memory of ds, as far
// as there is room; what it held is lost.
func (e *Engine) TakeMix(ds []Delivery, name string, now time.Time, limit, retries int) ([]Delivery, time.Time, error) {
	d, runs, next, err := e.pick(name, now, &picks{n: limit, retries: retries, now: now})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("take for %s: %w", name, err)
	}
	picked := 0
	for _, r := range runs {
		picked += len(r.offsets)
	}
	ds = slices.Grow(ds[:0], picked)
	for i, r := range runs {
		ds, err = e.deliverables(ds, d.stream, r)
		if err != nil {
			e.putBackAll(d, ds, runs[i:])
			return nil, next, fmt.Errorf("take for %s: %w", name, err)
		}
	}
	ds = e.handOut(d, ds)
	if len(ds) < picked {
		d.signal() // there may be more behind what was damaged or ended meanwhile
	}
	return ds, next, nil
}

// run is messages in a row that one block holds.
type run struct {
	ref     *blockRef // nil: no block does
	offsets []uint64
}

// pick chooses what a take hands out, and the blocks that hold it. Where keys
// have to be known it reads blocks, without holding mu.
func (e *Engine) pick(name string, now time.Time, p *picks) (d *drain, runs []run, next time.Time, err error) {
	have := blockKeys{}
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		d = e.drains[name]
		if err := e.stopped(); err != nil {
			return nil, nil, next, err
		}
		if d == nil || d.orphaned {
			return nil, nil, next, ErrNoDrain
		}
		e.hear(now)
		need := d.pick(p, now, have)
		if need == nil {
			break
		}
		e.readAhead(d)
		e.mu.Unlock()
		dec, err := e.loadOwed(d.stream, need)
		e.mu.Lock()
		if err != nil {
			for _, offset := range p.offsets {
				e.putBack(d, offset)
			}
			return nil, nil, next, err
		}
		have[need] = dec
	}
	e.readAhead(d)
	for i, offset := range p.offsets {
		e.touch(d.stream, offset)
		ref := d.stream.block(offset)
		if n := len(runs); n > 0 && ref != nil && runs[n-1].ref == ref {
			r := &runs[n-1]
			r.offsets = p.offsets[i-len(r.offsets) : i+1]
			continue
		}
		runs = append(runs, run{ref, p.offsets[i : i+1]})
	}
	return d, runs, d.nextDue(), nil
}

// deliverables appends the messages of a run; ds has room for them. It may read the
// disk. What is damaged is accounted for, and what was ended meanwhile is left out.
func (e *Engine) deliverables(ds []Delivery, s *stream, r run) ([]Delivery, error) {
	dec, err := e.load(s, r.ref)
	if err != nil && r.ref != nil && !e.pinned(e.successor(s, r.ref)) {
		return ds, nil // its segment may have been removed while it was read
	}
	if errors.Is(err, block.ErrDamaged) {
		e.reportDamage(s, r.offsets[0], r.offsets[0]+1, err) // and all of its block
		return ds, nil
	}
	if err != nil {
		return ds, err
	}
	for _, offset := range r.offsets {
		n := len(ds)
		ds = ds[:n+1]
		if err := dec.deliver(&ds[n], s.Name, offset); err != nil {
			ds = ds[:n]
			e.reportDamage(s, offset, offset+1, err)
		}
	}
	return ds, nil
}

// deliver makes a delivery of a message, but for what only the engine knows.
func (d *decoded) deliver(x *Delivery, stream string, offset uint64) error {
	i, ok := d.find(offset)
	if !ok {
		return errLeftOut
	}
	ms, err := d.message(&x.Message, i)
	if err != nil {
		return err
	}
	x.Stream, x.Offset, x.AcceptedAt, x.Tries = stream, offset, time.UnixMilli(ms), Tries{}
	return nil
}

// putBackAll undoes a take that cannot be completed.
func (e *Engine) putBackAll(d *drain, ds []Delivery, left []run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range ds {
		e.putBack(d, ds[i].Offset)
	}
	for _, r := range left {
		for _, offset := range r.offsets {
			e.putBack(d, offset)
		}
	}
}

// handOut completes deliveries with what only the state knows, and leaves out
// what was finished while its block was read.
func (e *Engine) handOut(d *drain, ds []Delivery) []Delivery {
	e.mu.Lock()
	defer e.mu.Unlock()
	kept := ds[:0]
	for i := range ds {
		x := &ds[i]
		f := d.flight.get(x.Offset)
		if f == nil {
			continue
		}
		if f.cancelAt != 0 {
			e.putBack(d, x.Offset)
			continue
		}
		f.acceptedAt, f.size = x.AcceptedAt.UnixMilli(), int64(len(x.Body))
		if f.last != nil {
			x.Tries = f.last.Tries
		}
		if len(kept) < i {
			kept = append(kept, *x)
		} else {
			kept = ds[:i+1]
		}
	}
	return kept
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
	f := d.flight.get(offset)
	if f == nil || f.cancelAt == 0 {
		d.putBack(offset)
		return
	}
	last := f.tried()
	e.endCancelled(d, offset, Result{Attempts: last.Attempts, Status: last.Status})
	e.noteChange()
}

// endCancelled ends a message that was cancelled while it was in flight. The
// caller holds mu, and asks for a commit.
func (e *Engine) endCancelled(d *drain, offset uint64, r Result) {
	if r.At.IsZero() {
		r.At = time.UnixMilli(d.flight.get(offset).cancelAt)
	}
	e.end(d, offset, Cancelled, "", r)
}

// Ack implements [Buffer].
func (e *Engine) Ack(name string, offset uint64, r Result) {
	e.settle(name, offset, func(d *drain, _ *flight) { e.end(d, offset, Delivered, "", r) })
}

// Bury implements [Buffer].
func (e *Engine) Bury(name string, offset uint64, why Reason, r Result) {
	e.settle(name, offset, func(d *drain, f *flight) {
		if f.cancelAt != 0 {
			e.endCancelled(d, offset, r)
			return
		}
		e.end(d, offset, Dead, why, r)
	})
}

// Release implements [Buffer].
func (e *Engine) Release(name string, offset uint64, r Retry) {
	e.settle(name, offset, func(d *drain, f *flight) {
		if f.cancelAt != 0 {
			e.endCancelled(d, offset, Result{Attempts: r.Attempts, Status: r.Status})
			return
		}
		r.Error = clip(r.Error)
		d.flight.remove(offset)
		d.addRetry(offset, r)
		e.delta.retry(d, offset, r, d.holding[offset])
		e.touch(d.stream, offset)
		d.signal()
	})
}

// settle runs fn on a drain that has the message in flight.
func (e *Engine) settle(name string, offset uint64, fn func(*drain, *flight)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.drains[name]
	if d == nil {
		return
	}
	f := d.flight.get(offset)
	if f == nil {
		return // cancelled, damaged or settled before
	}
	fn(d, f)
	e.noteChange()
}

// noteChange asks for a commit within ackDelay. The caller holds mu.
func (e *Engine) noteChange() { signal(e.changed) }

// end makes a message final with one drain. The caller holds mu, and asks for
// a commit.
func (e *Engine) end(d *drain, offset uint64, state State, why Reason, r Result) {
	f, ref := flight{}, d.stream.block(offset)
	if x := d.flight.get(offset); x != nil {
		f = *x
	}
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
		first := f.tried().FirstAt
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
		e.delta.finish(d.num, o)
		e.records.outcomes.add(e.comp, d.num, o)
	}
	e.touch(d.stream, offset)
	if ref != nil {
		e.unowe(d.stream, ref, state == Dead && why != ReasonDamaged)
	}
	if d.orphaned {
		e.retireDrain(d)
	}
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

// Pending is how many messages of a drain wait for their first attempt, as [Stats] has
// it for all; 0 where there is no such drain.
func (e *Engine) Pending(name string) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.drains[name]; d != nil {
		return d.pending()
	}
	return 0
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
