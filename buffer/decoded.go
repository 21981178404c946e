package buffer

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"forebay/buffer/block"
)

// decoded is the messages of one block, in memory. It is immutable.
type decoded struct {
	first uint64 // offset of the block
	base  int64
	data  string
	places
	past  []uint32  // of a rewritten block: how far each record's offset is from first
	heads []Message // of the records in lent, without what is each message's own
	spare int       // what more data holds, in bytes, because a block is gathered in one piece
}

// places says where the records of a payload lie.
type places struct {
	at   []recordPlace
	lent []uint32 // which of them have a head that is also that of the next
	own  uint32   // the last that has one
}

// recordPlace is where a record starts. Of a plain one, which has the head of another and
// nothing but a body of its own, it says all: who takes a message then touches its
// bytes no sooner than he wants them, and they are far from the processor until then.
type recordPlace struct {
	at   uint32
	body uint32 // where it starts; 0: the record is not plain
	size uint32 // of the body
	ms   uint32 // from the base time to accepted_at
}

// note says where the next record is, and returns where it ends.
func (p *places) note(data string, at int) (end int, err error) {
	r := block.NewReader(data[at:])
	ms := r.Uint()
	own := block.NewReader(r.String())
	alike := own.String() == ""
	if err := own.Err(); err != nil {
		return 0, err
	}
	end = len(data) - r.Len()
	x := recordPlace{at: uint32(at)}
	if n := own.Uint(); alike && ms <= math.MaxUint32 && n == uint64(own.Len()) {
		x.body, x.size, x.ms = uint32(end)-uint32(n), uint32(n), uint32(ms)
	}
	switch {
	case !alike:
		p.own = uint32(len(p.at))
	case len(p.lent) == 0 || p.lent[len(p.lent)-1] != p.own:
		p.lent = append(p.lent, p.own)
	}
	p.at = append(p.at, x)
	return end, r.Err()
}

// decode finds the records of an unpacked payload. It takes ownership of raw.
func decode(h block.Header, raw []byte) (*decoded, error) {
	d := &decoded{first: h.First, base: h.Base, data: asString(raw)}
	d.at = make([]recordPlace, 0, min(int(h.Count), len(raw)/2))
	end := uint64(0) // of the records so far, as offsets from first
	for at := 0; at < len(d.data); end++ {
		if h.Flags&block.Rewritten != 0 {
			gap := block.NewReader(d.data[at:])
			end += gap.Uint()
			d.past = append(d.past, uint32(end))
			at = len(d.data) - gap.Len()
		}
		var err error
		if at, err = d.note(d.data, at); err != nil {
			return nil, err
		}
	}
	if end > uint64(h.Count) || (end < uint64(h.Count) && d.past == nil) {
		return nil, fmt.Errorf("%w: seq %d holds %d messages, its envelope says %d", block.ErrDamaged, h.Seq, end, h.Count)
	}
	return d, d.readHeads()
}

// readHeads reads the heads that several messages have, once for all of them. An
// empty one is damage: the first message said that it has the head of one before.
func (d *decoded) readHeads() (err error) {
	d.heads = make([]Message, len(d.lent))
	for j, i := range d.lent {
		_, head, _ := d.record(int(i))
		if d.heads[j], err = parseHead(head); err != nil {
			return err
		}
	}
	return nil
}

// offset is that of the ith message.
func (d *decoded) offset(i int) uint64 {
	if d.past != nil {
		return d.first + uint64(d.past[i])
	}
	return d.first + uint64(i)
}

// find returns the place of a message. A rewritten block may not have it.
func (d *decoded) find(offset uint64) (i int, ok bool) {
	if d.past != nil {
		return slices.BinarySearch(d.past, uint32(offset-d.first))
	}
	i = int(offset - d.first)
	return i, i < len(d.at)
}

// asString saves the copy of a payload that nobody writes to any more.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// record takes the ith message apart: its time, its head as it is stored, which is
// empty where it is that of the record before, and the rest.
func (d *decoded) record(i int) (ms uint64, head string, own block.Reader) {
	r := block.NewReader(d.data[d.at[i].at:])
	ms = r.Uint()
	own = *block.NewReader(r.String())
	head = own.String()
	return ms, head, own
}

// lender is the place in lent of the record that the ith has its head from; it
// may be the ith. ok is false where it shares its head with none.
func (d *decoded) lender(i int, head string) (j int, ok bool) {
	j, ok = slices.BinarySearch(d.lent, uint32(i))
	if head == "" {
		return j - 1, true
	}
	return j, ok
}

// readHead makes m the ith message without what is its own; stored is its head in
// the record.
func (d *decoded) readHead(m *Message, i int, stored string) (err error) {
	j, ok := d.lender(i, stored)
	if !ok {
		*m, err = parseHead(stored)
		return err
	}
	*m = d.heads[j]
	if m.Batch != "" {
		m.Index += int(d.offset(i) - d.offset(int(d.lent[j])))
	}
	return nil
}

// message reads the ith message into m, and returns its accepted_at in Unix ms.
// Messages with one head share its header.
func (d *decoded) message(m *Message, i int) (int64, error) {
	if p := d.at[i]; p.body != 0 {
		err := d.readHead(m, i, "")
		m.setBody(d.data[p.body:][:p.size])
		return d.base + int64(p.ms), err
	}
	ms, head, own := d.record(i)
	if err := d.readHead(m, i, head); err != nil {
		return 0, err
	}
	return d.base + int64(ms), parseOwn(&own, m)
}

// acceptedAt is the time of a message, in Unix ms: that of the block where it was
// left out.
func (d *decoded) acceptedAt(offset uint64) int64 {
	i, ok := d.find(offset)
	if !ok {
		return d.base
	}
	return d.base + int64(block.NewReader(d.data[d.at[i].at:]).Uint())
}

// tail reads from the end of the ith message's body on.
func (d *decoded) tail(i int) block.Reader {
	_, _, own := d.record(i)
	_ = own.String()
	return own
}

// key is the ordering key of the ith message, a part of the block's memory.
func (d *decoded) key(i int) string {
	in := d.tail(i)
	if in.Len() == 0 {
		return ""
	}
	return in.String()
}

// keyAt is the ordering key of a message; empty where it was left out.
func (d *decoded) keyAt(offset uint64) string {
	i, ok := d.find(offset)
	if !ok {
		return ""
	}
	return d.key(i)
}

// keys are what the ith message can be found by: its ordering key, and its cancel
// keys, nil where the ordering key does for that too. They are a part of the block's
// memory.
func (d *decoded) keys(i int) (key string, cancel []string) {
	in := d.tail(i)
	if in.Len() > 0 {
		key = in.String()
	}
	if in.Len() > 0 {
		in.Uint()
	}
	if in.Len() > 0 {
		cancel = readCancelKeys(&in)
	}
	return key, cancel
}

// size is what the block takes in memory, in bytes.
func (d *decoded) size() int64 {
	n := len(d.data) + d.spare + int(unsafe.Sizeof(recordPlace{}))*cap(d.at) + 4*cap(d.lent) + 4*len(d.past) + 128
	for i := range d.heads {
		n += int(unsafe.Sizeof(Message{})) + len(d.heads[i].Header)*int(unsafe.Sizeof(Field{}))
	}
	return int64(n)
}
