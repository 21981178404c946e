package buffertest

import (
	"context"
	"fmt"
	"time"

	"forebay/buffer"
)

// onceRecord is what is kept of the first append with a key.
type onceRecord struct {
	accepted buffer.Accepted
	body     [8]byte
	until    time.Time
}

func (r onceRecord) holds(now time.Time) bool { return now.Before(r.until) }

// AppendOnce implements buffer.Once. A key belongs to one stream; since no
// append takes any time here, none is ever in progress.
func (m *Mem) AppendOnce(ctx context.Context, stream string, now time.Time, msgs []buffer.Message, key buffer.OnceKey) (buffer.Accepted, bool, error) {
	if err := ctx.Err(); err != nil {
		return buffer.Accepted{}, false, fmt.Errorf("append once to %s: %w", stream, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stored(stream)
	if s == nil || s.orphaned {
		return buffer.Accepted{}, false, fmt.Errorf("append once to %s: %w", stream, buffer.ErrNoStream)
	}
	if a, known, err := s.repeated(key, now); known || err != nil {
		return a, known, err
	}
	a, err := s.append(now, msgs)
	if err != nil {
		return buffer.Accepted{}, false, fmt.Errorf("append once to %s: %w", stream, err)
	}
	s.once[key.Key] = onceRecord{accepted: a, body: key.Body, until: now.Add(key.TTL)}
	return a, false, nil
}

// repeated is what was said of a key.
func (s *memStream) repeated(key buffer.OnceKey, now time.Time) (buffer.Accepted, bool, error) {
	r, ok := s.once[key.Key]
	switch {
	case !ok || !r.holds(now):
		return buffer.Accepted{}, false, nil
	case r.body != key.Body:
		return buffer.Accepted{}, false, fmt.Errorf("append once to %s: %w", s.Name, buffer.ErrMismatch)
	}
	return r.accepted, true, nil
}

// Repeated implements buffer.Once.
func (m *Mem) Repeated(ctx context.Context, stream string, now time.Time, key buffer.OnceKey) (buffer.Accepted, bool, error) {
	if err := ctx.Err(); err != nil {
		return buffer.Accepted{}, false, fmt.Errorf("append once to %s: %w", stream, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stored(stream)
	if s == nil {
		return buffer.Accepted{}, false, nil
	}
	return s.repeated(key, now)
}

// Lookup implements buffer.Once.
func (m *Mem) Lookup(ctx context.Context, stream string, key [16]byte, now time.Time) (buffer.Accepted, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.known(ctx, stream)
	if err != nil {
		return buffer.Accepted{}, fmt.Errorf("look up in %s: %w", stream, err)
	}
	r, ok := s.once[key]
	if !ok || !r.holds(now) {
		return buffer.Accepted{}, fmt.Errorf("look up in %s: %w", stream, buffer.ErrNoMessage)
	}
	return r.accepted, nil
}
