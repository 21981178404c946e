package buffer

import (
	"encoding/binary"
	"unsafe"

	"forebay/buffer/block"
)

// A payload of messages is records one after the other:
//
//	uvarint  milliseconds from the block's base time to accepted_at
//	uvarint  length of what follows; a reader skips what it does not know
//	string   head; empty: it has that of the record before
//	string   body
//	string   ordering key
//	uvarint  bytes of the answer
//	uvarint  number of cancel keys, then each
//	uvarint  0, or 1: no cancel keys are said; then the origin
//
// where a string is a uvarint length and its bytes. The last four are stored up
// to the last that says something. Cancel keys that are stored are said, even if
// there are none, unless the origin says otherwise: then the message cannot be cancelled
// by a key.
//
// A head is
//
//	string   method, target
//	uvarint  number of fields, then name and value of each
//	string   batch, then uvarint index; neither where there is none
//	uvarint  deliver after, uvarint deadline, in Unix ms; neither where there is none
//
// where the batch is empty if there is none but times are.
//
// A message that has the head of an earlier one is as many places further in the
// batch as in the stream.
//
// A rewritten block leaves out messages that are finished. There each record comes
// after one more uvarint: how many offsets lie between it and the record before, or
// the block's first offset.

// appendRecord appends the part of a record after its time. alike says that the
// message has the head of the one before it.
func appendRecord(dst []byte, m *Message, alike bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(recordLen(m, alike)))
	if alike {
		dst = append(dst, 0)
	} else {
		dst = appendHead(binary.AppendUvarint(dst, uint64(headLen(m))), m)
	}
	dst = block.AppendString(dst, m.Body)
	fields := tailFields(m)
	if fields >= tailKey {
		dst = block.AppendString(dst, m.Key)
	}
	if fields >= tailAnswer {
		dst = binary.AppendUvarint(dst, uint64(m.KeepAnswer))
	}
	if fields >= tailCancel {
		dst = binary.AppendUvarint(dst, uint64(len(m.CancelKeys)))
		for _, key := range m.CancelKeys {
			dst = block.AppendString(dst, key)
		}
	}
	if fields >= tailOrigin {
		dst = m.Origin.append(append(dst, unsaid(m)), m.Key)
	}
	return dst
}

// unsaid is 1 where cancel keys are stored, before an origin, that nobody said.
func unsaid(m *Message) byte {
	if m.CancelKeys == nil {
		return 1
	}
	return 0
}

func appendHead(dst []byte, m *Message) []byte {
	dst = block.AppendString(dst, m.Method)
	dst = block.AppendString(dst, m.Target)
	dst = binary.AppendUvarint(dst, uint64(len(m.Header)))
	for _, f := range m.Header {
		dst = block.AppendString(dst, f.Name)
		dst = block.AppendString(dst, f.Value)
	}
	if m.Batch != "" || m.timed() {
		dst = block.AppendString(dst, m.Batch)
	}
	if m.Batch != "" {
		dst = binary.AppendUvarint(dst, uint64(m.Index))
	}
	if m.timed() {
		dst = binary.AppendUvarint(dst, millis(m.DeliverAfter))
		dst = binary.AppendUvarint(dst, millis(m.Deadline))
	}
	return dst
}

// The fields at the end of a record, of which it has so many.
const (
	tailKey = 1 + iota
	tailAnswer
	tailCancel
	tailOrigin
)

func tailFields(m *Message) int {
	switch {
	case m.Origin != nil:
		return tailOrigin
	case m.CancelKeys != nil:
		return tailCancel
	case m.KeepAnswer > 0:
		return tailAnswer
	case m.Key != "":
		return tailKey
	}
	return 0
}

func recordLen(m *Message, alike bool) int {
	n := 1 + stringLen(len(m.Body))
	if !alike {
		n += stringLen(headLen(m)) - 1
	}
	fields := tailFields(m)
	if fields >= tailKey {
		n += stringLen(len(m.Key))
	}
	if fields >= tailAnswer {
		n += uvarintLen(uint64(m.KeepAnswer))
	}
	if fields >= tailCancel {
		n += uvarintLen(uint64(len(m.CancelKeys)))
		for _, key := range m.CancelKeys {
			n += stringLen(len(key))
		}
	}
	if fields >= tailOrigin {
		n += 1 + m.Origin.len(m.Key)
	}
	return n
}

func headLen(m *Message) int {
	n := stringLen(len(m.Method)) + stringLen(len(m.Target)) + uvarintLen(uint64(len(m.Header)))
	for _, f := range m.Header {
		n += stringLen(len(f.Name)) + stringLen(len(f.Value))
	}
	if m.Batch != "" || m.timed() {
		n += stringLen(len(m.Batch))
	}
	if m.Batch != "" {
		n += uvarintLen(uint64(m.Index))
	}
	if m.timed() {
		n += uvarintLen(millis(m.DeliverAfter)) + uvarintLen(millis(m.Deadline))
	}
	return n
}

func stringLen(n int) int { return uvarintLen(uint64(n)) + n }

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// parseHead is the reverse of appendHead. The message shares the strings of b.
func parseHead(b string) (m Message, err error) {
	in := block.NewReader(b)
	m.Method, m.Target = in.String(), in.String()
	if n := in.Count(2); n > 0 {
		m.Header = make([]Field, n)
		for i := range m.Header {
			m.Header[i] = Field{Name: in.String(), Value: in.String()}
		}
	}
	if in.Len() > 0 {
		m.Batch = in.String()
	}
	if m.Batch != "" {
		m.Index = int(in.Uint())
	}
	if in.Len() > 0 {
		m.DeliverAfter, m.Deadline = fromMillis(in.Uint()), fromMillis(in.Uint())
	}
	return m, in.Err()
}

// parseOwn reads what a record has after its head. The message shares the memory of
// in, its body too: nobody writes to it.
func parseOwn(in *block.Reader, m *Message) error {
	m.setBody(in.String())
	if in.Len() > 0 {
		m.Key = in.String()
	}
	if in.Len() > 0 {
		m.KeepAnswer = int(min(in.Uint(), 1<<30))
	}
	if in.Len() > 0 {
		m.CancelKeys = readCancelKeys(in)
	}
	if in.Len() > 0 {
		m.Origin = parseOrigin(in, m.Key)
	}
	return in.Err()
}

// readCancelKeys reads them, and what is before an origin: nil where none are said.
func readCancelKeys(in *block.Reader) []string {
	keys := make([]string, in.Count(1))
	for i := range keys {
		keys[i] = in.String()
	}
	if in.Len() > 0 && in.Uint() == 1 {
		return nil
	}
	return keys
}

// setBody makes the message share the memory of its body.
func (m *Message) setBody(body string) {
	if len(body) > 0 {
		m.Body = unsafe.Slice(unsafe.StringData(body), len(body))
	}
}
