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
	end    func()
}

func (s *modelStream) mayPass(key string) bool { return key == "" || len(s.unfinishedOf(key)) == 0 }

// live reports whether a request of a message's key is under way.
func (s *modelStream) isLive(offset uint64) bool { return s.live[s.messages[offset].Key] > 0 }

func (m *machine) liveBegins(t *rapid.T) {
	s, key := m.drawStream(t), drawKey(t)
	end, err := m.Buffer.(buffer.Live).BeginLive(context.Background(), s.name, key)
	if want := s.mayPass(key); err != nil || (end != nil) != want {
		m.Fatalf("BeginLive(%s, %q) lets pass: %v, %v; want %v", s.name, key, end != nil, err, want)
	}
	if end != nil && key != "" {
		s.live[key]++
		m.lives = append(m.lives, modelLive{s, key, end})
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
	l.end()
	l.stream.live[l.key]--
}

// endLives ends all requests, as the end of the process does.
func (m *machine) endLives() {
	for _, l := range m.lives {
		m.endLive(l)
	}
	m.lives = nil
}
