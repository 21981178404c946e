package buffertest

import (
	"context"
	"fmt"

	"forebay/buffer"
)

// passage is a request that passes by a stream.
type passage struct {
	mem     *Mem
	stream  *memStream
	key     string
	appends int // to the stream, of the key, when it began
}

// BeginLive implements buffer.Live.
func (m *Mem) BeginLive(_ context.Context, stream, key string) (buffer.Passage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stored(stream)
	if s == nil || s.orphaned {
		return nil, fmt.Errorf("pass %s by: %w", stream, buffer.ErrNoStream)
	}
	if key != "" && len(s.withKey(key)) > 0 {
		return nil, nil
	}
	if key != "" {
		s.live[key]++
	}
	return &passage{m, s, key, s.appended(key)}, nil
}

// appended counts the messages that a stream ever had of a key; none without one.
func (s *memStream) appended(key string) (n int) {
	for i := range s.messages {
		if key != "" && s.messages[i].Key == key {
			n++
		}
	}
	return n
}

// Clear implements buffer.Passage.
func (p *passage) Clear() bool {
	p.mem.mu.Lock()
	defer p.mem.mu.Unlock()
	return p.stream.appended(p.key) == p.appends
}

// End implements buffer.Passage.
func (p *passage) End() {
	p.mem.mu.Lock()
	defer p.mem.mu.Unlock()
	s, key := p.stream, p.key
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
