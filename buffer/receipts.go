package buffer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Find implements [Receipts].
func (e *Engine) Find(ref Ref, now time.Time) (Status, error) {
	e.mu.Lock()
	s := e.streams[ref.Stream]
	if s == nil || ref.Offset >= s.next {
		e.mu.Unlock()
		return Status{}, ErrNoMessage
	}
	st := Status{Ref: ref}
	var ended, gone []*drain // gone are the dead too
	for _, d := range s.drains {
		if ref.Offset < d.from {
			continue
		}
		ds := DrainStatus{Drain: d.name}
		if d.finished(ref.Offset) {
			gone = append(gone, d)
			if x := d.dead[ref.Offset]; x != nil {
				ds.ofDeath(x)
				st.AcceptedAt = time.UnixMilli(x.acceptedAt)
			} else {
				ended = append(ended, d)
			}
		} else {
			ds.ofWaiting(d, ref.Offset)
		}
		st.Drains = append(st.Drains, ds)
	}
	block := s.block(ref.Offset)
	if block != nil && block.elem != nil { // in memory, as that of a fresh message is
		st.AcceptedAt = time.UnixMilli(block.dec().acceptedAt(ref.Offset))
	}
	keep := s.KeepDelivered
	e.mu.Unlock()
	if err := e.addTimes(&st, s, block, now); err != nil {
		return Status{}, err
	}

	for _, d := range gone {
		for i := range st.Drains {
			if st.Drains[i].Drain == d.name {
				st.Drains[i].Answer = e.answer(d.num, ref.Offset)
			}
		}
	}
	for _, d := range ended {
		o, err := e.outcome(d.num, ref.Offset)
		if err != nil {
			return Status{}, err
		}
		st.AcceptedAt = time.UnixMilli(o.accepted)
		for i := range st.Drains {
			if st.Drains[i].Drain == d.name {
				st.Drains[i].ofOutcome(o)
			}
		}
	}
	if st.State().Final() && now.Sub(st.finishedAt()) > keep {
		return Status{}, ErrGone
	}
	if st.AcceptedAt.IsZero() {
		if block == nil {
			return Status{}, ErrGone
		}
		return e.withAcceptedAt(st, s, block)
	}
	return st, nil
}

// finishedAt is when the last drain ended the message.
func (s Status) finishedAt() (t time.Time) {
	for _, d := range s.Drains {
		if d.At.After(t) {
			t = d.At
		}
	}
	return t
}

func (x *DrainStatus) ofWaiting(d *drain, offset uint64) {
	if x.State = d.state(offset); x.State != Delivering {
		x.Ahead = d.ahead(offset)
	}
	var last Retry
	if f := d.flight.get(offset); f != nil {
		last = f.tried()
	}
	if r := d.retries[offset]; r != nil {
		last = r.Retry
		x.Due = r.Due
	}
	x.Attempts, x.Status, x.Error = last.Attempts, last.Status, last.Error
}

func (x *DrainStatus) ofDeath(dead *death) {
	x.State, x.Reason, x.At = Dead, dead.reason, time.UnixMilli(dead.at)
	x.Attempts, x.Status, x.Error = dead.attempts, dead.status, dead.err
}

func (x *DrainStatus) ofOutcome(o outcome) {
	x.State, x.At = stateCodes[o.state], time.UnixMilli(o.at)
	x.Attempts, x.Status = int(o.attempts), int(o.status)
}

// withAcceptedAt reads it from the message itself.
func (e *Engine) withAcceptedAt(st Status, s *stream, ref *blockRef) (Status, error) {
	dec, err := e.loadOwed(s, ref)
	if err != nil {
		return Status{}, err
	}
	if dec == nil {
		if len(st.Drains) == 0 {
			return Status{}, ErrGone // no drain with which it could have ended
		}
		return e.Find(st.Ref, time.Now())
	}
	st.AcceptedAt = time.UnixMilli(dec.acceptedAt(st.Offset))
	return st, nil
}

// openRecords are those that are not in files, newest first. The caller holds mu.
func (e *Engine) openRecords() iter.Seq[*records] {
	return func(yield func(*records) bool) {
		if !yield(e.records) {
			return
		}
		for i := range e.segments { // each append does: slices.Backward would need memory
			if r := e.segments[len(e.segments)-1-i].records; r != nil && !yield(r) {
				return
			}
		}
	}
}

// outcome looks up how a finished message ended. It may read the disk.
func (e *Engine) outcome(drain uint32, offset uint64) (outcome, error) {
	o, found, err := e.recorded(drain, offset)
	if err != nil {
		e.log.Error("outcome cannot be read; its receipt is gone", "err", err)
	}
	if err != nil || !found {
		return outcome{}, ErrGone
	}
	return o, nil
}

// recorded looks up what the outcome log says of a message under a number.
func (e *Engine) recorded(drain uint32, offset uint64) (known outcome, found bool, err error) {
	var packed []packedOutcomes // newer than what is known
	e.mu.Lock()
	for r := range e.openRecords() {
		var more packedOutcomes
		if known, found, more = r.outcomes.look(drain, offset); found {
			break
		}
		packed = append(packed, more)
	}
	files := e.outcomeFiles
	e.mu.Unlock()
	for i := len(files) - 1; i >= 0 && !found; i-- {
		_, _, more := files[i].look(drain, offset)
		packed = append(packed, more)
	}
	for _, p := range packed {
		o, ok, err := p.find(e.comp, offset)
		if err != nil || ok {
			return o, ok, err
		}
	}
	return known, found, nil
}

// Cancel implements [Receipts].
func (e *Engine) Cancel(ctx context.Context, ref Ref, now time.Time) error {
	e.mu.Lock()
	s := e.streams[ref.Stream]
	e.mu.Unlock()
	if s != nil {
		e.warm(s, ref.Offset)
	}
	e.mu.Lock()
	g, err := e.cancel(ref, now)
	e.mu.Unlock()
	if errors.Is(err, ErrFinal) {
		if _, gone := e.Find(ref, now); errors.Is(gone, ErrGone) {
			err = ErrGone
		}
	}
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	select {
	case <-g.done:
		return g.changes
	case <-ctx.Done():
		return fmt.Errorf("cancel: %w", ctx.Err())
	}
}

func (e *Engine) cancel(ref Ref, now time.Time) (*group, error) {
	s := e.streams[ref.Stream]
	if s == nil || ref.Offset >= s.next {
		return nil, ErrNoMessage
	}
	if err := e.stopped(); err != nil {
		return nil, err
	}
	waited, flying := e.cancelWaiting(s, ref.Offset, now)
	switch {
	case waited:
		return e.join()
	case len(flying) > 0:
		return nil, ErrDelivering
	}
	return nil, ErrFinal
}

// cancelWaiting ends a message with every drain where it waits, and returns
// those that have it in flight. The caller holds mu.
func (e *Engine) cancelWaiting(s *stream, offset uint64, now time.Time) (waited bool, flying []*drain) {
	for _, d := range slices.Clone(s.drains) { // one that is orphaned goes with its last message
		if d.finished(offset) {
			continue
		}
		if d.flight.get(offset) != nil {
			flying = append(flying, d)
			continue
		}
		waited = true
		e.endWaiting(d, offset, s.timeNear(offset), Cancelled, "", now)
	}
	return waited, flying
}

// watch is everyone who waits for a change of one message.
type watch struct {
	changed chan struct{}
	waiting int
}

// Watch implements [Receipts].
func (e *Engine) Watch(ref Ref) (<-chan struct{}, func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.watches[ref]
	if w == nil {
		w = &watch{changed: make(chan struct{})}
		e.watches[ref] = w
	}
	w.waiting++
	return w.changed, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if w.waiting--; w.waiting == 0 && e.watches[ref] == w {
			delete(e.watches, ref)
		}
	}
}

// touch tells whoever watches a message that it changed. The caller holds mu.
func (e *Engine) touch(s *stream, offset uint64) {
	if len(e.watches) == 0 {
		return
	}
	ref := Ref{Stream: s.Name, Offset: offset}
	if w := e.watches[ref]; w != nil {
		close(w.changed)
		delete(e.watches, ref)
	}
}
