package buffer

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"forebay/buffer/block"
)

// A payload of messages is records one after the other:
//
//	uvarint  milliseconds from the block's base time to accepted_at
//	uvarint  length of what follows; a reader skips what it does not know
//	string   method, target
//	uvarint  number of fields, then name and value of each
//	string   body
//	string   ordering key
//	uvarint  bytes of the answer
//	uvarint  number of cancel keys, then each
//
// where a string is a uvarint length and its bytes. The last three are stored up
// to the last that says something. Cancel keys that are stored are said, even if
// there are none: then the message cannot be cancelled by a key.

// appendRecord appends the part of a record after its time.
func appendRecord(dst []byte, m *Message) []byte {
	dst = binary.AppendUvarint(dst, uint64(recordLen(m)))
	dst = block.AppendString(dst, m.Method)
	dst = block.AppendString(dst, m.Target)
	dst = binary.AppendUvarint(dst, uint64(len(m.Header)))
	for _, f := range m.Header {
		dst = block.AppendString(dst, f.Name)
		dst = block.AppendString(dst, f.Value)
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
	return dst
}

// The fields at the end of a record, of which it has so many.
const (
	tailKey = 1 + iota
	tailAnswer
	tailCancel
)

func tailFields(m *Message) int {
	switch {
	case m.CancelKeys != nil:
		return tailCancel
	case m.KeepAnswer > 0:
		return tailAnswer
	case m.Key != "":
		return tailKey
	}
	return 0
}

func recordLen(m *Message) int {
	n := stringLen(len(m.Method)) + stringLen(len(m.Target)) + uvarintLen(uint64(len(m.Header))) + stringLen(len(m.Body))
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
	for _, f := range m.Header {
		n += stringLen(len(f.Name)) + stringLen(len(f.Value))
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

// parseRecord is the reverse for one record. The message shares the strings of
// b; its body is a copy.
func parseRecord(b string) (ms uint64, m Message, err error) {
	r := block.NewReader(b)
	ms = r.Uint()
	in := block.NewReader(r.String())
	m.Method, m.Target = in.String(), in.String()
	if n := in.Count(2); n > 0 {
		m.Header = make([]Field, n)
		for i := range m.Header {
			m.Header[i] = Field{Name: in.String(), Value: in.String()}
		}
	}
	if body := in.String(); len(body) > 0 {
		m.Body = []byte(body)
	}
	if in.Len() > 0 {
		m.Key = in.String()
	}
	if in.Len() > 0 {
		m.KeepAnswer = int(min(in.Uint(), 1<<30))
	}
	if in.Len() > 0 {
		m.CancelKeys = make([]string, in.Count(1))
		for i := range m.CancelKeys {
			m.CancelKeys[i] = in.String()
		}
	}
	if err := r.Err(); err != nil {
		return 0, Message{}, err
	}
	return ms, m, in.Err()
}

// decoded is the messages of one block, in memory. It is immutable.
type decoded struct {
	base int64
	data string
	at   []uint32 // where each record starts in data
	// What more it holds, in bytes, because a block is gathered in one piece.
	spare int
}

// decode finds the records of an unpacked payload. It takes ownership of raw.
func decode(h block.Header, raw []byte) (*decoded, error) {
	d := &decoded{base: h.Base, data: asString(raw), at: make([]uint32, 0, min(int(h.Count), len(raw)/2))}
	r := block.NewReader(d.data)
	for r.Len() > 0 {
		d.at = append(d.at, uint32(len(d.data)-r.Len()))
		r.Uint()
		_ = r.String()
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	if len(d.at) != int(h.Count) {
		return nil, fmt.Errorf("%w: seq %d holds %d messages, its envelope says %d", block.ErrDamaged, h.Seq, len(d.at), h.Count)
	}
	return d, nil
}

// asString saves the copy of a payload that nobody writes to any more.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// message returns the ith message and its accepted_at in Unix ms.
func (d *decoded) message(i int) (int64, Message, error) {
	end := uint32(len(d.data))
	if i+1 < len(d.at) {
		end = d.at[i+1]
	}
	ms, m, err := parseRecord(d.data[d.at[i]:end])
	return d.base + int64(ms), m, err
}

// acceptedAt is the time of the ith message, in Unix ms.
func (d *decoded) acceptedAt(i int) int64 {
	return d.base + int64(block.NewReader(d.data[d.at[i]:]).Uint())
}

// tail reads from the end of the ith message's body on.
func (d *decoded) tail(i int) *block.Reader {
	r := block.NewReader(d.data[d.at[i]:])
	r.Uint()
	in := block.NewReader(r.String())
	_, _ = in.String(), in.String()
	for range in.Count(2) {
		_, _ = in.String(), in.String()
	}
	_ = in.String()
	return in
}

// key is the ordering key of the ith message, a part of the block's memory.
func (d *decoded) key(i int) string {
	in := d.tail(i)
	if in.Len() == 0 {
		return ""
	}
	return in.String()
}

// cancelledBy reports whether a key is among the cancel keys of the ith message.
func (d *decoded) cancelledBy(i int, key string) bool {
	in := d.tail(i)
	if in.Len() == 0 {
		return false
	}
	own := in.String()
	if in.Len() > 0 {
		in.Uint()
	}
	if in.Len() == 0 {
		return own == key
	}
	for range in.Count(1) {
		if in.String() == key {
			return true
		}
	}
	return false
}

// size is what the block takes in memory, in bytes.
func (d *decoded) size() int64 { return int64(len(d.data) + d.spare + 4*cap(d.at) + 64) }
