package buffer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bookmarks ride behind the messages of their commit, as idempotency records do, and are
// a part of the state: each snapshot has all of them. So nothing that a source brought is
// lost or stored twice, whenever the process ends.

// maxMark bounds each text of a bookmark, in bytes.
const maxMark = 1 << 10

// sourceMark is a bookmark and whose it is.
type sourceMark struct {
	source string
	Bookmark
}

// size bounds what it takes among the changes, in bytes.
func (m *sourceMark) size() int64 {
	return int64(len(m.source)+len(m.Part)+len(m.At)) + 16
}

func sourceMarks(source string, marks []Bookmark) ([]sourceMark, error) {
	out := make([]sourceMark, len(marks))
	for i, m := range marks {
		if source == "" || m.Part == "" || max(len(source), len(m.Part), len(m.At)) > maxMark {
			return nil, fmt.Errorf("bookmark of source %q: the source and the part have to be named, with at most %d bytes each", source, maxMark)
		}
		out[i] = sourceMark{source, m}
	}
	return out, nil
}

// AppendFrom implements [Bookmarks].
func (e *Engine) AppendFrom(ctx context.Context, name string, now time.Time, msgs []Message, source string, marks []Bookmark) (Accepted, error) {
	own, err := sourceMarks(source, marks)
	if err != nil {
		return Accepted{}, fmt.Errorf("append to %s: %w", name, err)
	}
	if len(msgs) > 0 {
		a, _, err := e.appendNew(ctx, name, now, msgs, onceClaim{}, own)
		return a, err
	}
	return Accepted{}, e.change(ctx, func() {
		for _, m := range own {
			e.setBookmark(source, m.Bookmark)
			e.delta.bookmark(source, m.Bookmark)
		}
	})
}

// Bookmarks implements [Bookmarks].
func (e *Engine) Bookmarks(ctx context.Context, source string) ([]Bookmark, error) {
	// A full disk decides what was under way as well.
	if err := e.change(ctx, func() {}); err != nil && !errors.Is(err, ErrDiskFull) {
		return nil, fmt.Errorf("bookmarks of %s: %w", source, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	marks := make([]Bookmark, 0, len(e.bookmarks[source]))
	for part, at := range e.bookmarks[source] {
		marks = append(marks, Bookmark{part, at})
	}
	slices.SortFunc(marks, func(a, b Bookmark) int { return cmp.Compare(a.Part, b.Part) })
	return marks, nil
}

// KeepBookmarks implements [Bookmarks].
func (e *Engine) KeepBookmarks(ctx context.Context, sources []string) error {
	return e.change(ctx, func() {
		for source := range e.bookmarks {
			if source != noteSource && !slices.Contains(sources, source) {
				delete(e.bookmarks, source)
				e.delta.op(opUnmark)
				e.delta.text(source)
			}
		}
	})
}

// change makes changes, under mu, that are durable when it returns.
func (e *Engine) change(ctx context.Context, do func()) error {
	e.mu.Lock()
	do()
	g, err := e.join()
	e.mu.Unlock()
	if err != nil {
		return err
	}
	return g.wait(ctx)
}

// setBookmark changes the state. The caller holds mu.
func (e *Engine) setBookmark(source string, m Bookmark) {
	parts := e.bookmarks[source]
	switch {
	case m.At != "" && parts == nil:
		e.bookmarks[source] = map[string]string{m.Part: m.At}
	case m.At != "":
		parts[m.Part] = m.At
	default:
		if delete(parts, m.Part); len(parts) == 0 {
			delete(e.bookmarks, source)
		}
	}
}

func (o *ops) bookmark(source string, m Bookmark) {
	o.op(opBookmark)
	o.text(source)
	o.text(m.Part)
	o.text(m.At)
}
