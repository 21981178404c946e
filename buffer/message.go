package buffer

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Message is what is buffered: an HTTP request without its framing and
// credentials.
type Message struct {
	Method string
	Target string // path and query as sent
	// Header is shared: those of a batch have one, when they are appended and when
	// they are taken. Nobody writes to it.
	Header []Field
	Body   []byte
	Key    string // ordering key; empty: none
	// CancelKeys are what the message can be cancelled by; nil: its ordering key;
	// empty: nothing.
	CancelKeys []string
	// KeepAnswer is how many bytes of the sink's answer a receipt shows; 0: only
	// its status.
	KeepAnswer int
	// DeliverAfter is when a first attempt may start, and Deadline when the message is
	// late whatever its drains say; in milliseconds, zero: neither.
	DeliverAfter, Deadline time.Time
	Batch                  string  // what the message came in, as Forebay-Batch names it; empty: alone
	Index                  int     // the place in it, from 0; without a batch it is not stored
	Origin                 *Origin // of a source's record; nil: it was none. It is shared as Header is
	Owner                  Owner   // whose receipt it has, which [Receipts] tells; a message that is taken has none
}

// Field is a header field as sent. Names are in canonical form.
type Field struct{ Name, Value string }

// Fields is the header that a sink gets: Header, which it may be, and for a message
// of a batch Forebay-Batch, of a source Forebay-Source and its like, in their places by name.
func (m *Message) Fields() []Field {
	header := m.Header
	if m.Batch != "" {
		batch := Field{"Forebay-Batch", string(m.AppendPlace(nil))}
		i, _ := slices.BinarySearchFunc(header, batch.Name, func(f Field, name string) int { return strings.Compare(f.Name, name) })
		header = slices.Insert(slices.Clip(header), i, batch)
	}
	if m.Origin != nil {
		header = m.Origin.fields(header)
	}
	return header
}

// AppendPlace appends the value of Forebay-Batch, of a message that has a batch.
func (m *Message) AppendPlace(dst []byte) []byte {
	return strconv.AppendInt(append(append(dst, m.Batch...), "; index="...), int64(m.Index), 10)
}

// timed reports whether the message has times of its own.
func (m *Message) timed() bool { return !m.DeliverAfter.IsZero() || !m.Deadline.IsZero() }

// alike reports whether the ith message has the head of the one before it. Headers
// are the same where they are one slice: to compare them field by field would cost
// more than to store them again.
func alike(msgs []Message, i int) bool {
	if i == 0 {
		return false
	}
	a, b := &msgs[i-1], &msgs[i]
	return len(a.Header) == len(b.Header) && (len(a.Header) == 0 || &a.Header[0] == &b.Header[0]) &&
		a.DeliverAfter.Equal(b.DeliverAfter) && a.Deadline.Equal(b.Deadline) && a.Method == b.Method && a.Target == b.Target && a.Batch == b.Batch && (b.Batch == "" || b.Index == a.Index+1)
}
