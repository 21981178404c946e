package buffer

import (
	"context"
	"fmt"
	"time"
)

// expireStep bounds how many messages are ended at once, while others wait for mu.
const expireStep = 10_000

// Expire implements [Expirer]. Messages are in the order of their times, so it
// ends what lies before the first that is young enough.
func (e *Engine) Expire(name string, now, before time.Time, why Reason) (n int, oldest time.Time, err error) {
	limit := before.UnixMilli()
	state := Expired
	if why != "" {
		state = Dead
	}
	for at := uint64(0); ; {
		d, ref, offset, err := e.nextWaiting(name, at)
		if err != nil || ref == nil {
			return n, time.Time{}, err
		}
		dec, err := e.loadOwed(d.stream, ref)
		if err != nil {
			return n, time.Time{}, fmt.Errorf("expire for %s: %w", name, err)
		}
		if dec == nil {
			at = ref.end()
			continue
		}
		e.mu.Lock()
		step := 0
		for ; offset < ref.end() && step < expireStep; offset++ {
			if !d.idle(offset) {
				continue
			}
			ms := dec.acceptedAt(offset)
			if ms >= limit {
				e.mu.Unlock()
				return n + step, time.UnixMilli(ms), nil
			}
			e.endWaiting(d, offset, ms, state, why, now)
			step++
		}
		e.mu.Unlock()
		n += step
		at = offset
	}
}

// nextWaiting finds the first message from at on that waits, and its block.
func (e *Engine) nextWaiting(name string, at uint64) (*drain, *blockRef, uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.drains[name]
	if d == nil {
		return nil, nil, 0, fmt.Errorf("expire for %s: %w", name, ErrNoDrain)
	}
	if err := e.stopped(); err != nil {
		return nil, nil, 0, err
	}
	for at = max(at, d.low); at < d.stream.next; at++ {
		if d.idle(at) {
			return d, d.stream.block(at), at, nil
		}
	}
	return d, nil, 0, nil
}

// idle reports whether a message is unfinished and not in flight.
func (d *drain) idle(offset uint64) bool {
	if d.finished(offset) {
		return false
	}
	return d.flight.get(offset) == nil
}

// endWaiting ends a message that is not in flight. The caller holds mu.
func (e *Engine) endWaiting(d *drain, offset uint64, acceptedAt int64, state State, why Reason, now time.Time) {
	r := Result{At: now}
	f := flight{acceptedAt: acceptedAt}
	if x := d.retries[offset]; x != nil {
		r.Attempts, r.Status, r.Error = x.Attempts, x.Retry.Status, x.Error
		f.last = &x.Retry
	}
	d.flight.put(offset, f) // what end remembers of the attempts so far
	e.end(d, offset, state, why, r)
	e.noteChange()
}

// DropDrain implements [Remover].
func (e *Engine) DropDrain(ctx context.Context, name string, now time.Time) (int, error) {
	n := 0
	for {
		step, more, g, err := e.dropSome(name, now)
		if err != nil {
			return n, fmt.Errorf("drop %s: %w", name, err)
		}
		if n += step; !more || !e.knows(name) {
			return n, g.wait(ctx)
		}
	}
}

// knows reports whether a drain is there: an orphaned one goes with its last
// message.
func (e *Engine) knows(drain string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.drains[drain] != nil
}

// dropSome ends some of a drain's messages; more: there are others.
func (e *Engine) dropSome(name string, now time.Time) (n int, more bool, g *group, err error) {
	e.warmFirst(name)
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.drains[name]
	if d == nil {
		return 0, false, nil, ErrNoDrain
	}
	if g, err = e.join(); err != nil {
		return 0, false, nil, err
	}
	for offset := d.low; offset < d.stream.next && n < expireStep; offset++ {
		if d.finished(offset) {
			continue
		}
		if n > 0 && d.stream.cold(offset) != nil {
			return n, true, g, nil
		}
		at := int64(0)
		if f := d.flight.get(offset); f != nil {
			at = f.acceptedAt
		}
		if at == 0 {
			at = d.stream.timeNear(offset)
		}
		e.endWaiting(d, offset, at, Cancelled, "", now)
		n++
	}
	for offset, x := range d.dead {
		if n == expireStep {
			break
		}
		e.endDead(d, offset, x, Cancelled, now)
		n++
	}
	return n, n == expireStep, g, nil
}

// warmFirst is warm for the first unfinished message of a drain.
func (e *Engine) warmFirst(name string) {
	e.mu.Lock()
	d, low := e.drains[name], uint64(0)
	if d != nil {
		low = d.low
	}
	e.mu.Unlock()
	if d != nil {
		e.warm(d.stream, low)
	}
}

// DropStream implements [Remover].
func (e *Engine) DropStream(ctx context.Context, name string, now time.Time) (n int, err error) {
	e.mu.Lock()
	s := e.streams[name]
	var drains []string
	if s != nil {
		for _, d := range s.drains {
			drains = append(drains, d.name)
		}
	}
	e.mu.Unlock()
	if s == nil {
		return 0, fmt.Errorf("drop %s: %w", name, ErrNoStream)
	}
	for _, d := range drains {
		step, err := e.DropDrain(ctx, d, now)
		if n += step; err != nil {
			return n, err
		}
	}
	e.mu.Lock()
	if e.streams[name] == s && len(s.drains) == 0 && s.waiting == 0 && (s.orphaned || s.unfinished() > 0) {
		n += int(s.unfinished())
		e.giveUp(s)
	}
	names := e.names()
	g, err := e.join()
	e.mu.Unlock()
	if err != nil {
		return n, err
	}
	if err := g.wait(ctx); err != nil {
		return n, err
	}
	return n, e.writeNames(names)
}

// giveUp forgets a stream without drains and all that it holds. One that is in
// the policy begins anew, under another number: a start would take the blocks
// that are still on disk for messages that wait for their first drain. The
// caller holds mu.
func (e *Engine) giveUp(s *stream) {
	for _, b := range s.blocks {
		if b.owed > 0 {
			b.owed = 0
			b.seg.live--
			e.dropIfDone(b.seg)
		}
	}
	s.bytes, s.read = 0, true
	cfg, again := s.Stream, !s.orphaned
	e.retireStream(s)
	if again {
		e.setStream(cfg)
	}
}
