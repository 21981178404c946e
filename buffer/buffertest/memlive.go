package buffertest

import (
	"context"
	"fmt"
	"sync"

	"forebay/buffer"
)

// BeginLive implements buffer.Live.
func (m *Mem) BeginLive(_ context.Context, stream, key string) (end func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stored(stream)
	if s == nil || s.orphaned {
		return nil, fmt.Errorf("pass %s by: %w", stream, buffer.ErrNoStream)
	}
	if key == "" {
		return func() {}, nil
	}
	if len(s.withKey(key)) > 0 {
		return nil, nil
	}
	s.live[key]++
	return sync.OnceFunc(func() { m.endLive(s, key) }), nil
}

func (m *Mem) endLive(s *memStream, key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.live[key]--; s.live[key] > 0 {
		return
	}
	delete(s.live, key)
	for _, d := range s.drains {
		if l := d.lines[key]; l != nil {
			d.arrange(l.offsets[0])
			d.signal()
		}
	}
}
