package buffer

import (
	"context"
	"fmt"
	"maps"
)

// Notes are stored as bookmarks of a source without a name, which no source can be.
const noteSource = ""

// Note keeps short texts, by key, which ride in the commits as all changes do: they cost no
// sync of their own beside other traffic. An empty text takes a key away. They are durable
// when it returns; it blocks for as long as a commit takes. Keys and texts have 1 KiB at most.
func (e *Engine) Note(ctx context.Context, texts map[string]string) error {
	for key, text := range texts {
		if key == "" || max(len(key), len(text)) > maxMark {
			return fmt.Errorf("note %q: it has to have a key, and %d bytes at most", key, maxMark)
		}
	}
	return e.change(ctx, func() {
		for key, text := range texts {
			m := Bookmark{Part: key, At: text}
			e.setBookmark(noteSource, m)
			e.delta.bookmark(noteSource, m)
		}
	})
}

// Notes returns what Note keeps, by key. It does not block.
func (e *Engine) Notes() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.bookmarks[noteSource])
}
