package drain

import (
	"time"

	"forebay/buffer"
)

// Head is the oldest unfinished message of a drain: the one that has waited
// longest, and that everything before has already ended.
type Head struct {
	ID    string
	State buffer.State // as on its receipt
	// WaitsFor is the name of the constraint that binds, "retry at" and a time,
	// "the sink's answer", or "a policy that has the drain".
	WaitsFor string
	due      time.Time
}

// standings is what a buffer has that can say where an unfinished message
// stands, without touching the disk.
type standings interface {
	// Head returns the oldest unfinished message of a drain; false: there is none.
	Head(drain string) (buffer.Ref, bool)
	// Standing returns where a message stands; false: the drain has finished it.
	Standing(drain string, offset uint64) (buffer.DrainStatus, bool)
}

// head returns nil where nothing waits, or the buffer cannot say.
func (d *Drains) head(drain string) *Head {
	stands, ok := d.buf.(standings)
	if !ok {
		return nil
	}
	ref, ok := stands.Head(drain)
	if !ok {
		return nil
	}
	s, ok := stands.Standing(drain, ref.Offset)
	if !ok {
		return nil // it ended just now
	}
	return &Head{ID: d.buf.ID(ref), State: s.State, due: s.Due}
}

// under says what the head waits for while a constraint binds its drain. No
// message of its key comes before it, so that it never waits for one.
func (h *Head) under(now time.Time, binding Constraint) *Head {
	switch {
	case h == nil:
		return nil
	case h.State == buffer.Delivering:
		h.WaitsFor = "the sink's answer"
	case h.State == buffer.Scheduled && (h.due.After(now) || binding == Empty):
		h.WaitsFor = "retry at " + h.due.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	default:
		h.WaitsFor = string(binding)
	}
	return h
}
