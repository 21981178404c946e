package buffer

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sort"

	"forebay/buffer/block"
)

// A chunk is records in the order of their keys, in an envelope. Its payload is, for
// each field besides key and body, the least value (8 bytes) and a width (1 byte); then
// all keys, all bodies, and each field as differences from the least of that
// width, little-endian. A record takes about 31 bytes.

const (
	oncesPerChunk = 256
	onceHashes    = 16 + 8
	onceFields    = 5
	onceChunkHead = onceFields * 9
)

func (r *onceRecord) fields() [onceFields]uint64 {
	return [...]uint64{uint64(r.stream), uint64(r.count), r.first, uint64(r.at), uint64(r.until - r.at)}
}

func (r *onceRecord) setFields(f [onceFields]uint64) {
	r.stream, r.count, r.first, r.at = uint32(f[0]), uint32(f[1]), f[2], int64(f[3])
	r.until = r.at + int64(f[4])
}

// appendOnceChunk appends the payload of sorted records.
func appendOnceChunk(dst []byte, list []onceRecord) []byte {
	least, most := list[0].fields(), list[0].fields()
	for i := range list {
		for k, v := range list[i].fields() {
			least[k], most[k] = min(least[k], v), max(most[k], v)
		}
	}
	var widths [onceFields]int
	for k := range widths {
		widths[k] = (bits.Len64(most[k]-least[k]) + 7) / 8
		dst = binary.LittleEndian.AppendUint64(dst, least[k])
		dst = append(dst, byte(widths[k]))
	}
	for i := range list {
		dst = append(dst, list[i].Key[:]...)
	}
	for i := range list {
		dst = append(dst, list[i].Body[:]...)
	}
	for k, width := range widths {
		if width == 0 {
			continue
		}
		for i := range list {
			dst = binary.LittleEndian.AppendUint64(dst, list[i].fields()[k]-least[k])
			dst = dst[:len(dst)-8+width]
		}
	}
	return dst
}

// onceChunk is a chunk to be read from.
type onceChunk struct {
	n            int
	sealed       []byte // as it was read from a file
	keys, bodies []byte
	fields       [onceFields]onceField
}

// onceField is one field of the records of a chunk.
type onceField struct {
	least uint64
	width int
	data  []byte
}

// at is how far the ith value is above the least.
func (f *onceField) at(i int) uint64 {
	from := i * f.width
	if from+8 <= len(f.data) { // mostly: read at once, and what is not its own cut off
		return binary.LittleEndian.Uint64(f.data[from:]) & (1<<(8*f.width) - 1)
	}
	var b [8]byte
	copy(b[:], f.data[from:from+f.width])
	return binary.LittleEndian.Uint64(b[:])
}

func openOnceChunk(sealed []byte, c *block.Coder) (x onceChunk, err error) {
	h, raw, err := c.Open(sealed)
	if err != nil {
		return x, err
	}
	damaged := fmt.Errorf("%w: no idempotency records", block.ErrDamaged)
	if x.n = int(h.Count); h.Kind != block.Onces || x.n == 0 || x.n > oncesPerChunk || len(raw) < onceChunkHead+x.n*onceHashes {
		return x, damaged
	}
	data := raw[onceChunkHead:]
	x.keys, x.bodies, data = data[:16*x.n], data[16*x.n:24*x.n], data[24*x.n:]
	for k := range x.fields {
		f := &x.fields[k]
		f.least, f.width = binary.LittleEndian.Uint64(raw[9*k:]), int(raw[9*k+8])
		if f.width > 8 || len(data) < x.n*f.width {
			return x, damaged
		}
		f.data, data = data[:x.n*f.width], data[x.n*f.width:]
	}
	return x, nil
}

func (x *onceChunk) key(i int) [16]byte { return [16]byte(x.keys[16*i:]) }

func (x *onceChunk) record(i int) onceRecord {
	r := onceRecord{Key: x.key(i), Body: [8]byte(x.bodies[8*i:])}
	var values [onceFields]uint64
	for k := range x.fields {
		f := &x.fields[k]
		values[k] = f.least + f.at(i)
	}
	r.setFields(values)
	return r
}

func (x *onceChunk) find(key [16]byte) (r onceRecord, found bool) {
	i := sort.Search(x.n, func(i int) bool { return compareKeys(x.key(i), key) >= 0 })
	if i == x.n || x.key(i) != key {
		return r, false
	}
	return x.record(i), true
}
