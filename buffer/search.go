package buffer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"forebay/buffer/block"
)

// FindKey implements [Searcher].
func (e *Engine) FindKey(ctx context.Context, stream, key string, limit int) ([]Ref, error) {
	_, offsets, err := e.search(ctx, stream, key, query{
		flags: block.Keyed, limit: limit,
		has: func(dec *decoded, i int) bool { return dec.key(i) == key },
	})
	if err != nil {
		return nil, fmt.Errorf("find in %s: %w", stream, err)
	}
	refs := make([]Ref, len(offsets))
	for i, offset := range offsets {
		refs[i] = Ref{Stream: stream, Offset: offset}
	}
	return refs, nil
}

// query is what a search looks for.
type query struct {
	flags block.Flags // of the blocks that may have it: any of them
	has   func(dec *decoded, i int) bool
	limit int // messages; 0: all
}

// search returns the unfinished messages of a stream that are as asked, in
// order. It reads every block that may hold one; nothing is found by an empty key.
func (e *Engine) search(ctx context.Context, stream, key string, q query) (s *stream, found []uint64, err error) {
	e.mu.Lock()
	s = e.streams[stream]
	if s == nil {
		e.mu.Unlock()
		return nil, nil, ErrNoStream
	}
	var blocks []*blockRef
	for _, b := range s.blocks {
		if b.owed > 0 && b.flags&q.flags != 0 && key != "" {
			blocks = append(blocks, b)
		}
	}
	e.mu.Unlock()
	for _, b := range blocks {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		dec, err := e.loadOwed(s, b)
		if err != nil {
			return nil, nil, err
		}
		if dec == nil {
			continue
		}
		for i := range dec.at {
			// A block that was rewritten meanwhile may hold what others held.
			offset := dec.offset(i)
			if offset < b.first || offset >= b.end() || !q.has(dec, i) || !e.unfinished(s, offset) {
				continue
			}
			if found = append(found, offset); len(found) == q.limit {
				return s, found, nil
			}
		}
	}
	return s, found, nil
}

func (e *Engine) unfinished(s *stream, offset uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(s.drains, func(d *drain) bool { return offset >= d.from && !d.finished(offset) })
}

// CancelKey implements [Searcher].
func (e *Engine) CancelKey(ctx context.Context, stream, key string, now time.Time) (n int, err error) {
	s, offsets, err := e.search(ctx, stream, key, query{
		flags: block.Keyed | block.Cancels,
		has:   func(dec *decoded, i int) bool { return dec.cancelledBy(i, key) },
	})
	if err != nil {
		return 0, fmt.Errorf("cancel in %s: %w", stream, err)
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
	f := d.flight[offset]
	if f.cancelAt != 0 {
		return
	}
	f.cancelAt = int64(millis(now))
	d.flight[offset] = f
	e.delta.cancel(d, offset, f)
}

// endAttempts ends what was cancelled in flight and never settled: how those
// attempts went is not known. It is for recovery, where nothing else is in flight.
func (e *Engine) endAttempts(d *drain) {
	for offset, f := range d.flight {
		delete(d.flight, offset)
		e.endWaiting(d, offset, f.acceptedAt, Cancelled, "", time.UnixMilli(f.cancelAt))
	}
}
