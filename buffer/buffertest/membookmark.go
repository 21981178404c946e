package buffertest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"forebay/buffer"
)

// AppendFrom implements buffer.Bookmarks.
func (m *Mem) AppendFrom(ctx context.Context, stream string, now time.Time, msgs []buffer.Message, source string, marks []buffer.Bookmark) (a buffer.Accepted, err error) {
	if source == "" || slices.ContainsFunc(marks, func(b buffer.Bookmark) bool { return b.Part == "" }) {
		return a, errors.New("a bookmark without a source or a part")
	}
	if len(msgs) > 0 {
		if a, err = m.Append(ctx, stream, now, msgs); err != nil {
			return a, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bookmarks[source] == nil {
		m.bookmarks[source] = make(map[string]string)
	}
	for _, b := range marks {
		if b.At == "" {
			delete(m.bookmarks[source], b.Part)
		} else {
			m.bookmarks[source][b.Part] = b.At
		}
	}
	return a, nil
}

// Draft implements buffer.Bookmarks.
func (m *Mem) Draft(stream string, _ int, _ int64) buffer.Draft { return NewDraft(m, stream) }

// NewDraft returns a draft that AppendFrom of a buffer takes at once.
func NewDraft(b buffer.Bookmarks, stream string) buffer.Draft { return &draft{b: b, stream: stream} }

type draft struct {
	b      buffer.Bookmarks
	stream string
	msgs   []buffer.Message
}

func (d *draft) Add(msgs []buffer.Message) {
	for _, m := range msgs {
		m.Body = bytes.Clone(m.Body)
		if m.Origin != nil {
			m.Origin = new(*m.Origin)
		}
		d.msgs = append(d.msgs, m)
	}
}

func (d *draft) AppendFrom(ctx context.Context, now time.Time, source string, marks []buffer.Bookmark) (buffer.Accepted, error) {
	return d.b.AppendFrom(ctx, d.stream, now, d.msgs, source, marks)
}

// Bookmarks implements buffer.Bookmarks.
func (m *Mem) Bookmarks(ctx context.Context, source string) ([]buffer.Bookmark, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("bookmarks of %s: %w", source, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var marks []buffer.Bookmark
	for part, at := range m.bookmarks[source] {
		marks = append(marks, buffer.Bookmark{Part: part, At: at})
	}
	slices.SortFunc(marks, func(a, b buffer.Bookmark) int { return cmp.Compare(a.Part, b.Part) })
	return marks, nil
}

// KeepBookmarks implements buffer.Bookmarks.
func (m *Mem) KeepBookmarks(_ context.Context, sources []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.bookmarks, func(source string, _ map[string]string) bool {
		return source != "" && !slices.Contains(sources, source)
	})
	return nil
}

// Stored is a message as it was appended; false: there is none at that offset.
func (m *Mem) Stored(stream string, offset uint64) (buffer.Message, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stored(stream)
	if s == nil || offset >= uint64(len(s.messages)) {
		return buffer.Message{}, false
	}
	return s.messages[offset].Message, true
}

// Note is buffer.Engine's.
func (m *Mem) Note(_ context.Context, texts map[string]string) error {
	for key, text := range texts {
		if key == "" || max(len(key), len(text)) > 1<<10 {
			return fmt.Errorf("note %q: it has to have a key, and 1 KiB at most", key)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bookmarks[""] == nil { // no source is called so
		m.bookmarks[""] = make(map[string]string)
	}
	maps.Copy(m.bookmarks[""], texts)
	maps.DeleteFunc(m.bookmarks[""], func(_, text string) bool { return text == "" })
	return nil
}

// Notes is buffer.Engine's.
func (m *Mem) Notes() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.bookmarks[""])
}
