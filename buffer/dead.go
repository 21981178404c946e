package buffer

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Dead implements [DeadLetters].
func (e *Engine) Dead(name string, after uint64, limit int) (letters []DeadLetter, more bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.drains[name]
	if d == nil {
		return nil, false, fmt.Errorf("dead letters of %s: %w", name, ErrNoDrain)
	}
	page := firstDead(d.dead, after+1, limit+1)
	for _, offset := range page[:min(limit, len(page))] {
		letters = append(letters, e.letter(d, offset, d.dead[offset]))
	}
	return letters, len(page) > limit, nil
}

// firstDead returns the first offsets from there on, in order, at most limit. It
// looks at all dead once, so that a page of very many holds nobody up for long.
func firstDead(dead map[uint64]*death, from uint64, limit int) []uint64 {
	var page []uint64 // the smallest so far; in order once it is full
	for offset := range dead {
		switch {
		case offset < from:
		case len(page) < limit:
			page = append(page, offset)
			if len(page) == limit {
				slices.Sort(page)
			}
		case offset < page[limit-1]:
			i, _ := slices.BinarySearch(page, offset)
			copy(page[i+1:], page[i:limit-1])
			page[i] = offset
		}
	}
	slices.Sort(page)
	return page
}

func (e *Engine) letter(d *drain, offset uint64, x *death) DeadLetter {
	return DeadLetter{
		Ref: Ref{Stream: d.stream.Name, Offset: offset}, ID: e.id(d.stream.num, offset), Drain: d.name, Key: x.key,
		Reason: x.reason, Status: x.status, Attempts: x.attempts, Error: x.err,
		AcceptedAt: fromMillis(uint64(x.acceptedAt)), FirstAt: fromMillis(uint64(x.firstAt)), At: fromMillis(uint64(x.at)),
	}
}

// DeadMessage implements [DeadLetters].
func (e *Engine) DeadMessage(name string, offset uint64) (DeadLetter, Message, error) {
	e.mu.Lock()
	d := e.drains[name]
	if d == nil || d.dead[offset] == nil {
		e.mu.Unlock()
		return DeadLetter{}, Message{}, fmt.Errorf("dead letter of %s: %w", name, ErrNoMessage)
	}
	letter, ref := e.letter(d, offset, d.dead[offset]), d.stream.block(offset)
	e.mu.Unlock()
	dec, err := e.load(d.stream, ref)
	var m Delivery
	if err == nil {
		err = dec.deliver(&m, d.stream.Name, offset)
	}
	if err != nil {
		return letter, Message{}, fmt.Errorf("dead letter of %s: %w", name, err)
	}
	return letter, m.Message, nil
}

// Replay implements [DeadLetters]. Answers and age count anew: the operator's
// word is a fresh start.
func (e *Engine) Replay(ctx context.Context, name string, offsets []uint64, now time.Time) (int, error) {
	offsets = slices.Sorted(slices.Values(offsets)) // the first of a key goes first
	untried, err := e.untriedBeforeDead(name, offsets)
	if err != nil {
		return 0, fmt.Errorf("replay for %s: %w", name, err)
	}
	return e.eachDead(ctx, name, offsets, func(d *drain, offset uint64, x *death) bool {
		ref := d.stream.block(offset)
		if ref == nil || x.reason == ReasonDamaged {
			return false // there is nothing to deliver
		}
		d.exhume(offset, x)
		d.revive(offset)
		e.forgetAnswer(d, offset, int64(millis(now)))
		ref.dead--
		if ref.owed++; ref.owed == 1 {
			d.stream.bytes += int64(ref.size)
		}
		r := Retry{Due: now, Tries: Tries{Attempts: x.attempts}, Status: x.status, Error: x.err}
		d.openFor(x.key, untried)
		d.retryKeyed(offset, r, x.key)
		e.delta.op(opRevive, uint64(d.num), offset)
		e.delta.retry(d, offset, r, x.key)
		return true
	})
}

// untriedBeforeDead is untriedBefore for dead letters. It may read the disk.
func (e *Engine) untriedBeforeDead(name string, offsets []uint64) (map[string]uint64, error) {
	e.mu.Lock()
	d := e.drains[name]
	keys := map[uint64]string{}
	if d != nil {
		for _, offset := range offsets {
			if x := d.dead[offset]; x != nil {
				keys[offset] = x.key
			}
		}
	}
	e.mu.Unlock()
	if d == nil {
		return nil, ErrNoDrain
	}
	return e.untriedBefore(d, keys)
}

// DropDead implements [DeadLetters].
func (e *Engine) DropDead(ctx context.Context, name string, offsets []uint64, now time.Time) (int, error) {
	return e.eachDead(ctx, name, offsets, func(d *drain, offset uint64, x *death) bool {
		e.endDead(d, offset, x, Cancelled, now)
		return true
	})
}

// eachDead does something to dead letters and waits until that is durable.
func (e *Engine) eachDead(ctx context.Context, name string, offsets []uint64, do func(*drain, uint64, *death) bool) (n int, err error) {
	e.mu.Lock()
	d := e.drains[name]
	if d == nil {
		e.mu.Unlock()
		return 0, fmt.Errorf("dead letters of %s: %w", name, ErrNoDrain)
	}
	g, err := e.join()
	if err == nil {
		for _, offset := range offsets {
			if x := d.dead[offset]; x != nil && do(d, offset, x) {
				e.touch(d.stream, offset)
				n++
			}
		}
		d.signal()
	}
	e.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("dead letters of %s: %w", name, err)
	}
	return n, g.wait(ctx)
}

// endDead turns a dead letter into another final state. The caller holds mu,
// and asks for a commit.
func (e *Engine) endDead(d *drain, offset uint64, x *death, state State, now time.Time) {
	d.exhume(offset, x)
	d.count(state)
	o := outcome{
		offset: offset, at: int64(millis(now)), accepted: x.acceptedAt,
		attempts: uint32(x.attempts), status: uint32(x.status), state: uint32(stateCode(state)),
	}
	e.delta.ended(opDropDead, d.num, o)
	e.records.outcomes.add(e.comp, d.num, o)
	if ref := d.stream.block(offset); ref != nil && ref.dead > 0 && x.reason != ReasonDamaged {
		if ref.dead--; !ref.pinned() {
			ref.seg.live--
			e.dropIfDone(ref.seg)
		}
	}
	if d.orphaned {
		e.retireDrain(d)
	}
}

// expireDead ends what was dead for longer than the stream keeps it.
func (e *Engine) expireDead(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.streams {
		for _, d := range slices.Clone(s.drains) {
			for offset, x := range d.dead {
				if now.Sub(fromMillis(uint64(x.at))) > s.DeadKeep {
					e.endDead(d, offset, x, Expired, now)
					e.touch(s, offset)
					e.noteChange()
				}
			}
		}
	}
}
