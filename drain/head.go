package drain

import (
	"slices"
	"time"

	"forebay/buffer"
)

// Head is the oldest unfinished message of a drain: the one that has waited
// longest, and that everything before has already ended.
type Head struct {
	ID    string
	Ahead uint64       // messages that leave first and are not in flight, as on its receipt
	State buffer.State // as on its receipt
	// WaitsFor is the name of the constraint that binds, "retry at" and a time,
	// "the sink's answer", "message" and the id of the first of its ordering key, or
	// "a policy that has the drain".
	WaitsFor string
	due      time.Time
}

// noPolicy is what the messages of a drain wait for that is not in the policy.
const noPolicy = "a policy that has the drain"

// standings is what a buffer has that can say where an unfinished message
// stands, without touching the disk.
type standings interface {
	// Head returns the oldest unfinished message of a drain; false: there is none.
	Head(drain string) (buffer.Ref, bool)
	// Behind returns the message of the same ordering key that one waits for.
	Behind(drain string, offset uint64) (first uint64, ok bool)
	// Backlog returns at most n unfinished messages of a drain, from the oldest to the
	// newest, spread evenly.
	Backlog(drain string, n int) []buffer.Waiting
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
	return &Head{ID: d.buf.ID(ref), Ahead: s.Ahead, State: s.State, due: s.Due}
}

// Message says where a message of a drain's stream stands with it, and what it waits
// for while the drain is bound as w says. It is nil for a message that the drain has
// finished or does not have, and where the buffer cannot say.
func (d *Drains) Message(now time.Time, drain string, ref buffer.Ref, w Why) *Head {
	stands, ok := d.buf.(standings)
	reads := slices.ContainsFunc(d.buf.Stats().Drains, func(c buffer.DrainStats) bool {
		return c.Drain == drain && c.Stream == ref.Stream
	})
	if !ok || !reads {
		return nil
	}
	s, ok := stands.Standing(drain, ref.Offset)
	if !ok {
		return nil
	}
	h := (&Head{ID: d.buf.ID(ref), Ahead: s.Ahead, State: s.State, due: s.Due}).under(now, w.Binding)
	if first, ok := stands.Behind(drain, ref.Offset); ok && s.State != buffer.Delivering {
		h.WaitsFor = "message " + d.buf.ID(buffer.Ref{Stream: ref.Stream, Offset: first})
	} else if w.Binding == "" && s.State != buffer.Delivering {
		h.WaitsFor = noPolicy
	}
	return h
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
