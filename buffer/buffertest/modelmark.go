package buffertest

import (
	"context"
	"strconv"

	"pgregory.net/rapid"

	"forebay/buffer"
)

// Each stream of the model has a source of its name, with one bookmark.

func (m *machine) appendFrom(t *rapid.T) {
	step := m.fromStep(m.drawStream(t), m.drawBatch(t, rapid.IntRange(1, 3).Draw(t, "messages")))
	step.apply()
	if err := step.call(); err != nil {
		m.Fatalf("AppendFrom: %v", err)
	}
}

// fromStep appends with a bookmark that is new.
func (m *machine) fromStep(s *modelStream, msgs []buffer.Message) step {
	mark := buffer.Bookmark{Part: "all", At: strconv.Itoa(m.serial)}
	return step{
		name: "AppendFrom",
		msgs: msgs,
		call: func() error {
			_, err := m.Buffer.(buffer.Bookmarks).AppendFrom(context.Background(), s.name, m.now, msgs, s.name, []buffer.Bookmark{mark})
			return err
		},
		apply: func() {
			s.append(m.now, msgs)
			s.mark = mark.At
		},
	}
}

// checkMarks compares what is kept of the sources. What waits is durable then.
func (m *machine) checkMarks() {
	if !m.can(needBookmarks) {
		return
	}
	for _, s := range m.model.streams {
		if s.mark == "" {
			m.wantBookmarks(s.name)
		} else {
			m.wantBookmarks(s.name, "all", s.mark)
		}
	}
}
