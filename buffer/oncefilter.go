package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// Beside each file of idempotency records lies one that says which keys it may
// have, and where. It is mapped, so that a start reads no record, and a hundred
// million of them cost no memory of this process:
//
//	…        the filter: a Bloom filter, seven probes of 16 bits a key
//	…        for each chunk its first key and where it begins, 16 and 8 bytes
//	uint64   length of the file of records
//	uint64   checksum of its last chunk, which is chained to those before
//	int64    when the last TTL is over
//	uint64   records
//
// The keys are hashes already. About one in seven hundred that is not there costs a
// read. In an encrypted directory the filter is of masked keys, and what is behind it is
// sealed; it is then kept in memory, 24 bytes for each 256 records.

const filterTail = 4 * 8

func filterPath(path string) string { return strings.TrimSuffix(path, ".once") + ".filter" }

// saveFilter makes the file of a filter, durable when it returns.
func saveFilter(path string, c *block.Coder, d *onceDir, size int64, sum uint32) error {
	tail := make([]byte, 0, filterTail)
	for _, v := range []uint64{uint64(size), uint64(sum), uint64(d.until), d.records} {
		tail = binary.LittleEndian.AppendUint64(tail, v)
	}
	h, places := block.Header{Kind: block.Filter, Count: uint32(d.chunks())}, d.places
	if d.mask != nil {
		h.Flags = block.Encrypted
		sealed, err := d.mask.SealChunks(slices.Concat(places, tail))
		if err != nil {
			return err
		}
		places, tail = sealed, nil
	}
	return writeFileFrom(filterPath(path), func(w io.Writer) error {
		return c.SealTo(w, &h, d.bits, places, tail)
	})
}

// parseFilter finds the parts of a filter file, and says which file it belongs to.
// keys is nil where it is not encrypted.
func parseFilter(h block.Header, raw []byte, keys *block.DataKeys) (d *onceDir, size int64, sum uint32, err error) {
	behind := filterTail + int(h.Count)*oncePlace
	bits := len(raw) - behind
	if keys != nil {
		bits = len(raw) - block.ChunksLen(behind)
	}
	if h.Kind != block.Filter || bits < bloomBlock || bits%bloomBlock != 0 {
		return nil, 0, 0, fmt.Errorf("%w: no filter", block.ErrDamaged)
	}
	rest := raw[bits:]
	if keys != nil {
		chunks, err := keys.OpenChunks(rest)
		if err == nil {
			rest, err = chunks.All()
		}
		if err != nil {
			return nil, 0, 0, err
		}
	}
	places, tail := rest[:len(rest)-filterTail], rest[len(rest)-filterTail:]
	le := binary.LittleEndian
	d = &onceDir{
		bits: bloom(raw[:bits]), mask: keys, places: places,
		until: int64(le.Uint64(tail[16:])), records: le.Uint64(tail[24:]),
	}
	return d, int64(le.Uint64(tail)), uint32(le.Uint64(tail[8:])), nil
}

// mapFilter checks the filter of a file of records, that it is that file's, and maps it.
func (t *onceTable) mapFilter() (err error) {
	h, data, raw, err := mapChecked(t.coder, filterPath(t.path))
	if err != nil {
		return err
	}
	// Lookups hold t, not a lock: the mapping ends when nobody has it any more.
	runtime.AddCleanup(t, func(b []byte) { _ = segment.Unmap(b) }, data)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s: %v", block.ErrDamaged, filterPath(t.path), p)
		}
	}()
	d, size, sum, err := parseFilter(h, raw, keysFor(t.coder, h))
	if err != nil {
		return err
	}
	if size == t.size && d.chunks() > 0 {
		if last, err := t.sumAt(d.pos(d.chunks() - 1)); err != nil || last == sum {
			t.dir, t.sum = d, sum
			return err
		}
	}
	return fmt.Errorf("%w: %s belongs to another file", block.ErrDamaged, filterPath(t.path))
}

// sumAt is the checksum in the envelope of the chunk that begins there.
func (t *onceTable) sumAt(pos int64) (uint32, error) {
	f, err := os.Open(t.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var head [block.HeaderSize]byte
	if _, err := f.ReadAt(head[:], pos); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return block.Peek(head[:]).Sum, nil
}

// rebuildFilter makes the filter again from the records, those that can be read.
func (t *onceTable) rebuildFilter() (damage error, err error) {
	chunks, damage := openChunks(t.path)
	if chunks == nil && damage != nil {
		return nil, damage
	}
	most := 0
	for _, x := range chunks {
		most += min(int(x.h.Count), oncesPerChunk)
	}
	d := &onceDir{bits: onceFilter(most), mask: t.coder.Keys}
	t.dir = d
	var after [16]byte // the last key that was read: a chunk that cannot be read comes after it
	for i, x := range chunks {
		d.addChunk(after, x.pos)
		c, err := t.chunkOf(x)
		if err != nil {
			damage = fmt.Errorf("%s: %w", t.path, err)
			continue
		}
		first := c.key(0)
		copy(d.places[i*oncePlace:], first[:])
		list := make([]onceRecord, c.n)
		for k := range list {
			list[k] = c.record(k)
		}
		d.add(list)
		after = c.key(c.n - 1)
		increment(&after)
	}
	sum := uint32(0)
	if n := len(chunks); n > 0 {
		sum = chunks[n-1].h.Sum
	}
	return damage, saveFilter(t.path, t.coder, d, t.size, sum)
}

// chunkOf reads a chunk that is not in the directory yet.
func (t *onceTable) chunkOf(x chunk) (c onceChunk, err error) {
	sealed, err := x.load(t.path)
	if err != nil {
		return c, fmt.Errorf("%w: %w", block.ErrDamaged, err)
	}
	return openOnceChunk(sealed, t.coder)
}

// increment makes a key the next one.
func increment(key *[16]byte) {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i]++; key[i] != 0 {
			return
		}
	}
}
