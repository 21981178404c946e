package buffer

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// FindKey implements [Searcher].
func (e *Engine) FindKey(ctx context.Context, stream, key string, limit int) ([]Ref, error) {
	_, offsets, err := e.search(ctx, stream, key, keyOrder, limit)
	if err != nil {
		return nil, fmt.Errorf("find in %s: %w", stream, err)
	}
	refs := make([]Ref, len(offsets))
	for i, offset := range offsets {
		refs[i] = Ref{Stream: stream, Offset: offset}
	}
	return refs, nil
}

// search returns the unfinished messages of a stream that are found by a key of a
// kind, in order; limit 0: all. It reads no blocks; nothing is found by an empty key.
func (e *Engine) search(ctx context.Context, stream, key string, kind uint64, limit int) (s *stream, found []uint64, err error) {
	e.mu.Lock()
	if s = e.streams[stream]; s == nil {
		e.mu.Unlock()
		return nil, nil, ErrNoStream
	}
	low := s.lowest()
	e.mu.Unlock()
	offsets, err := e.lookUp(ctx, s, key, kind, low, ^uint64(0))
	if err != nil {
		return nil, nil, err
	}
	for list := range slices.Chunk(offsets, expireStep) {
		e.mu.Lock()
		for _, offset := range list {
			if s.unfinishedAt(offset) && (limit == 0 || len(found) < limit) {
				found = append(found, offset)
			}
		}
		e.mu.Unlock()
	}
	return s, found, nil
}

// lowest is the first message that some drain may not have finished.
func (s *stream) lowest() uint64 {
	low := s.next
	for _, d := range s.drains {
		low = min(low, d.low)
	}
	return low
}

// unfinishedAt reports whether some drain has not finished a message.
func (s *stream) unfinishedAt(offset uint64) bool {
	return slices.ContainsFunc(s.drains, func(d *drain) bool { return !d.finished(offset) })
}

// lookUp returns the messages of a stream with a key of a kind that are stored from
// one offset up to another, in order, finished or not.
func (e *Engine) lookUp(ctx context.Context, s *stream, key string, kind, from, end uint64) ([]uint64, error) {
	if key == "" {
		return nil, nil
	}
	both := e.keyHash.of(key)
	hashes := [2]uint64{both ^ keyBoth, both ^ kind}
	for {
		found, whole, err := e.lookInto(ctx, s, hashes, from, end)
		if err != nil {
			return nil, err
		}
		if whole {
			slices.Sort(found) // of what was rewritten, both segments may say it
			found = slices.Compact(found)
			i, _ := slices.BinarySearch(found, from)
			j, _ := slices.BinarySearch(found, end)
			return found[i:j], nil
		}
	}
}

// lookInto looks into the tables of all segments as they are now. whole is false
// where one of them went meanwhile: what it had may be in a later one.
func (e *Engine) lookInto(ctx context.Context, s *stream, hashes [2]uint64, from, end uint64) (found []uint64, whole bool, err error) {
	var open []keyRuns
	var closed []*segmentRef
	e.mu.Lock()
	for _, seg := range e.segments {
		switch {
		case !seg.keyed || seg.phase >= dropping:
		case seg.open != nil:
			open = append(open, seg.open[s.num])
		default:
			closed = append(closed, seg)
		}
	}
	e.mu.Unlock()
	for _, r := range open {
		for _, hash := range hashes {
			found = r.find(found, hash)
		}
	}
	for _, seg := range closed {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		t, err := e.keyTableOf(seg)
		if t == nil || err != nil {
			return nil, false, err
		}
		for _, hash := range hashes {
			if found, err = t.find(found, s.num, hash, from, end); err != nil {
				return nil, false, err
			}
		}
	}
	return found, true, nil
}

// CancelKey implements [Searcher].
func (e *Engine) CancelKey(ctx context.Context, stream, key string, now time.Time) (n int, err error) {
	s, offsets, err := e.search(ctx, stream, key, keyCancel, 0)
	if err != nil {
		return 0, fmt.Errorf("cancel in %s: %w", stream, err)
	}
	for _, offset := range offsets {
		e.warm(s, offset)
	}
	e.mu.Lock()
	g, err := e.join()
	if err == nil {
		for _, offset := range offsets {
			waited, flying := e.cancelWaiting(s, offset, now)
			for _, d := range flying {
				e.cancelFlight(d, offset, now)
			}
			if waited {
				n++
			}
		}
	}
	e.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("cancel in %s: %w", stream, err)
	}
	return n, g.wait(ctx)
}

// cancelFlight makes the attempt that is under way the last one of a message. It
// is stored, so that a start does not try again. The caller holds mu, and asks
// for a commit.
func (e *Engine) cancelFlight(d *drain, offset uint64, now time.Time) {
	f := d.flight.get(offset)
	if f.cancelAt != 0 {
		return
	}
	f.cancelAt = int64(millis(now))
	e.delta.cancel(d, offset, f)
}

// endAttempts ends what was cancelled in flight and never settled: how those
// attempts went is not known. It is for recovery, where nothing else is in flight.
func (e *Engine) endAttempts(d *drain) {
	for offset, f := range d.flight.all() {
		e.endWaiting(d, offset, f.acceptedAt, Cancelled, "", time.UnixMilli(f.cancelAt))
	}
}
