package buffertest

import (
	"context"

	"pgregory.net/rapid"

	"forebay/buffer"
)

// modelLive is a request that passes by a stream.
type modelLive struct {
	stream *modelStream
	key    string
	buffer.Passage
	before int // messages of the key when it began
}

func (s *modelStream) mayPass(key string) bool { return key == "" || len(s.unfinishedOf(key)) == 0 }

// isLive reports whether a request of a message's key is under way.
func (s *modelStream) isLive(offset uint64) bool {
	key := s.messages[offset].Key
	return key != "" && s.live[key] > 0
}

func (s *modelStream) appended(key string) (n int) {
	for _, msg := range s.messages {
		if key != "" && msg.Key == key {
			n++
		}
	}
	return n
}

func (m *machine) liveBegins(t *rapid.T) {
	s, key := m.drawStream(t), drawKey(t)
	passage, err := m.Buffer.(buffer.Live).BeginLive(context.Background(), s.name, key)
	if want := s.mayPass(key); err != nil || (passage != nil) != want {
		m.Fatalf("BeginLive(%s, %q) lets pass: %v, %v; want %v", s.name, key, passage != nil, err, want)
	}
	if passage != nil {
		s.live[key]++
		m.lives = append(m.lives, modelLive{s, key, passage, s.appended(key)})
	}
}

func (m *machine) liveEnds(t *rapid.T) {
	if len(m.lives) == 0 {
		t.Skip("no request is under way")
	}
	i := rapid.IntRange(0, len(m.lives)-1).Draw(t, "request")
	m.endLive(m.lives[i])
	m.lives = append(m.lives[:i], m.lives[i+1:]...)
}

func (m *machine) endLive(l modelLive) {
	if got, want := l.Clear(), l.stream.appended(l.key) == l.before; got != want {
		m.Fatalf("Clear(%s, %q) = %v, want %v", l.stream.name, l.key, got, want)
	}
	l.End()
	l.stream.live[l.key]--
}

// endLives ends all requests, as the end of the process does.
func (m *machine) endLives() {
	for _, l := range m.lives {
		m.endLive(l)
	}
	m.lives = nil
}
