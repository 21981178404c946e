package buffertest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"forebay/buffer"
)

// FindKey implements buffer.Searcher. No message has the empty key.
func (m *Mem) FindKey(ctx context.Context, stream, key string, limit int) ([]buffer.Ref, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.known(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("find key in %s: %w", stream, err)
	}
	var refs []buffer.Ref
	for _, offset := range s.withKey(key) {
		if len(refs) >= limit {
			break
		}
		refs = append(refs, buffer.Ref{Stream: stream, Offset: offset})
	}
	return refs, nil
}

// CancelKey implements buffer.Searcher. It looks at every message.
func (m *Mem) CancelKey(ctx context.Context, stream, key string, now time.Time) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.known(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("cancel key in %s: %w", stream, err)
	}
	for i, msg := range s.messages {
		if !cancelledBy(msg.Message, key) {
			continue
		}
		offset := uint64(i)
		if m.cancel(s, offset, now) == nil {
			n++
		}
		for _, d := range s.drains {
			if p := d.place(offset); p != nil && p.state == buffer.Delivering && p.cancelAt.IsZero() {
				p.cancelAt = now
			}
		}
	}
	return n, nil
}

func cancelledBy(msg buffer.Message, key string) bool {
	if msg.CancelKeys == nil {
		return key != "" && msg.Key == key
	}
	return key != "" && slices.Contains(msg.CancelKeys, key)
}

// known returns a stream, orphaned or not, unless the caller has gone.
func (m *Mem) known(ctx context.Context, stream string) (*memStream, error) {
	s := m.stored(stream)
	if s == nil || s.dropped {
		return nil, buffer.ErrNoStream
	}
	return s, ctx.Err()
}

// withKey returns the offsets of a key's unfinished messages, in order.
func (s *memStream) withKey(key string) []uint64 {
	var all []uint64
	for _, d := range s.drains {
		if l := d.lines[key]; l != nil {
			all = append(all, l.offsets...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// DropDrain implements buffer.Remover.
func (m *Mem) DropDrain(ctx context.Context, drain string, now time.Time) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok {
		return 0, fmt.Errorf("drop drain %s: %w", drain, buffer.ErrNoDrain)
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("drop drain %s: %w", drain, err)
	}
	return m.dropDrain(d, now), nil
}

func (m *Mem) dropDrain(d *memDrain, now time.Time) (n int) {
	for i := range d.places {
		p, offset := &d.places[i], d.start+uint64(i)
		switch {
		case p.state == buffer.Dead:
			m.settleDead(d, p, offset, buffer.Cancelled, now)
		case !p.state.Final():
			m.finish(d, p, offset, buffer.Cancelled, now)
		default:
			continue
		}
		n++
	}
	if d.orphaned {
		delete(m.drains, d.name)
		d.stream.drains = slices.DeleteFunc(d.stream.drains, func(other *memDrain) bool { return other == d })
	}
	return n
}

// DropStream implements buffer.Remover. An orphaned stream is not listed any
// more; should it come back, its offsets go on, so that no id is given twice.
func (m *Mem) DropStream(ctx context.Context, stream string, now time.Time) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.known(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("drop stream %s: %w", stream, err)
	}
	if !s.read && s.open > 0 { // all of it is owed to a drain that never came
		n = s.giveUp()
	}
	for _, d := range slices.Clone(s.drains) {
		n += m.dropDrain(d, now)
	}
	s.dropped = s.orphaned
	return n, nil
}

// giveUp ends what waits for a drain that never came; its keys are free again.
func (s *memStream) giveUp() (n int) {
	for offset := range s.messages {
		if s.messages[offset].unfinished > 0 {
			s.finished(uint64(offset))
			n++
		}
	}
	clear(s.once)
	return n
}
