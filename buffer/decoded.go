package buffer

import (
	"fmt"
	"slices"
	"unsafe"

	"forebay/buffer/block"
)

// decoded is the messages of one block, in memory. It is immutable.
type decoded struct {
	first uint64 // offset of the block
	base  int64
	data  string
	at    []uint32 // where each record starts in data
	past  []uint32 // of a rewritten block: how far each record's offset is from first
	spare int      // what more data holds, in bytes, because a block is gathered in one piece
}

// decode finds the records of an unpacked payload. It takes ownership of raw.
func decode(h block.Header, raw []byte) (*decoded, error) {
	d := &decoded{first: h.First, base: h.Base, data: asString(raw), at: make([]uint32, 0, min(int(h.Count), len(raw)/2))}
	r := block.NewReader(d.data)
	end := uint64(0) // of the records so far, as offsets from first
	for r.Len() > 0 {
		if h.Flags&block.Rewritten != 0 {
			end += r.Uint()
			d.past = append(d.past, uint32(end))
		}
		end++
		d.at = append(d.at, uint32(len(d.data)-r.Len()))
		r.Uint()
		_ = r.String()
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	if end > uint64(h.Count) || (end < uint64(h.Count) && d.past == nil) {
		return nil, fmt.Errorf("%w: seq %d holds %d messages, its envelope says %d", block.ErrDamaged, h.Seq, end, h.Count)
	}
	return d, nil
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

// record is the ith message as it is stored, after its time.
func (d *decoded) record(i int) string {
	r := block.NewReader(d.data[d.at[i]:])
	r.Uint()
	rest := d.data[len(d.data)-r.Len():]
	_ = r.String()
	return rest[:len(rest)-r.Len()]
}

// message returns the ith message and its accepted_at in Unix ms.
func (d *decoded) message(i int) (int64, Message, error) {
	end := uint32(len(d.data))
	if i+1 < len(d.at) {
		end = d.at[i+1]
	}
	ms, m, err := parseRecord(d.data[d.at[i]:end])
	return d.base + int64(ms), m, err
}

// acceptedAt is the time of a message, in Unix ms: that of the block where it was
// left out.
func (d *decoded) acceptedAt(offset uint64) int64 {
	i, ok := d.find(offset)
	if !ok {
		return d.base
	}
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
		cancel = make([]string, in.Count(1))
		for i := range cancel {
			cancel[i] = in.String()
		}
	}
	return key, cancel
}

// size is what the block takes in memory, in bytes.
func (d *decoded) size() int64 {
	return int64(len(d.data) + d.spare + 4*cap(d.at) + 4*len(d.past) + 64)
}
