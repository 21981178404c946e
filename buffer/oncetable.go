package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"

	"forebay/buffer/block"
)

// onceTable is records of idempotency keys in the order of their keys, one of each,
// in chunks: a file, with its directory mapped from another, or in memory. It does
// not change but for apart.
type onceTable struct {
	path  string   // of the file
	file  *os.File // the same, open as long as there is the table; nil: it is in memory
	data  []byte   // the chunks, in memory
	size  int64    // of all chunks, in bytes
	sum   uint32   // checksum of a file's last chunk
	coder *block.Coder
	dir   *onceDir

	first, last uint64 // segments that the records of a file are of
	apart       bool   // guarded by Engine.mu; it cannot be read whole: it gets no outer filter before the next start
}

func compareKeys(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) }

// read looks into the chunk that has a key, if any has.
func (t *onceTable) read(key [16]byte) (r onceRecord, found bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the filter of %s: %v", block.ErrDamaged, t.path, p)
		}
	}()
	defer runtime.KeepAlive(t) // it holds the mapping
	i := t.dir.chunk(key)
	if i < 0 {
		return r, false, nil
	}
	x, err := t.chunk(i, nil)
	if err != nil {
		return r, false, fmt.Errorf("read idempotency records: %w", err)
	}
	r, found = x.find(key)
	return r, found, nil
}

// chunk reads one chunk, into memory that is not needed any more where that is large
// enough.
func (t *onceTable) chunk(i int, into []byte) (x onceChunk, err error) {
	pos, end := t.dir.pos(i), t.size
	if i+1 < t.dir.chunks() {
		end = t.dir.pos(i + 1)
	}
	if t.file == nil {
		return openOnceChunk(t.data[pos:end], t.coder)
	}
	b := slices.Grow(into[:0], int(end-pos))[:end-pos]
	n, err := t.file.ReadAt(b, pos)
	if err != nil && !errors.Is(err, io.EOF) {
		return x, err
	}
	clear(b[n:]) // of what was there before
	if x, err = openOnceChunk(b, t.coder); err != nil {
		err = fmt.Errorf("%s: %w", t.path, err)
	}
	x.sealed = b
	return x, err
}

// onceDir is what is known of the chunks of a table: parts of a mapping or of
// memory.
type onceDir struct {
	records uint64
	until   int64 // when the last TTL is over, Unix ms
	bits    bloom
	mask    *block.DataKeys // what the filter is asked with; nil: the keys as they are
	places  []byte          // of each chunk its first key and where it begins
}

const (
	oncePlace    = 16 + 8
	filterProbes = 7
	filterBits   = 16
)

// onceFilter is an empty filter for so many records.
func onceFilter(records int) bloom { return make(bloom, bloomLen(records, filterBits)) }

func (d *onceDir) chunks() int { return len(d.places) / oncePlace }

func (d *onceDir) pos(chunk int) int64 {
	return int64(binary.LittleEndian.Uint64(d.places[chunk*oncePlace+16:]))
}

func (d *onceDir) addChunk(first [16]byte, pos int64) {
	d.places = append(d.places, first[:]...)
	d.places = binary.LittleEndian.AppendUint64(d.places, uint64(pos))
}

// add adds the records of a chunk. As with a look-up, the memory of all is read before
// that of one is needed.
func (d *onceDir) add(list []onceRecord) {
	var probes [oncesPerChunk][2]uint64
	read := byte(0)
	for i := range list {
		a, b := d.probe(list[i].Key)
		probes[i] = [2]uint64{a, b}
		read |= d.bits.block(a)[0]
		d.until = max(d.until, list[i].until)
	}
	runtime.KeepAlive(read)
	for i := range list {
		d.bits.add(probes[i][0], probes[i][1], filterProbes)
	}
	d.records += uint64(len(list))
}

// probe is what the filter is asked for a key with. All files of a directory that
// are encrypted have the same mask.
func (d *onceDir) probe(key [16]byte) (a, b uint64) {
	if d.mask != nil {
		key = d.mask.Mask(key)
	}
	return halves(key)
}

// chunk is the one that has a key, if any has; -1: none.
func (d *onceDir) chunk(key [16]byte) int {
	return sort.Search(d.chunks(), func(i int) bool {
		return bytes.Compare(d.places[i*oncePlace:][:16], key[:]) > 0
	}) - 1
}

// onceWriter writes a table, record by record in the order of their keys.
type onceWriter struct {
	w     io.Writer
	coder *block.Coder
	dir   *onceDir
	size  int64
	sum   uint32 // of the last chunk: each is chained to the one before
	list  []onceRecord
	buf   []byte // of payloads
	out   []byte // of what is written
}

// newOnceWriter writes at most so many records.
func newOnceWriter(w io.Writer, c *block.Coder, most int) *onceWriter {
	return &onceWriter{
		w: w, coder: c, list: make([]onceRecord, 0, oncesPerChunk),
		dir: &onceDir{bits: onceFilter(most), mask: c.Keys, places: make([]byte, 0, (most/oncesPerChunk+1)*oncePlace)},
	}
}

func (w *onceWriter) add(r onceRecord) error {
	if w.list = append(w.list, r); len(w.list) < oncesPerChunk {
		return nil
	}
	return w.flush()
}

// flush ends a chunk; the last one may be shorter.
func (w *onceWriter) flush() error {
	if len(w.list) == 0 {
		return nil
	}
	w.dir.add(w.list)
	payload := appendOnceChunk(w.buf[:0], w.list)
	w.buf = payload
	h := block.Header{Kind: block.Onces, Count: uint32(len(w.list)), RawLen: uint32(len(payload)), Chain: w.sum}
	sealed := w.coder.Seal(slices.Grow(w.out[:0], block.Overhead+len(payload)), &h, payload)
	w.out = sealed
	w.dir.addChunk(w.list[0].Key, w.size)
	w.size, w.sum, w.list = w.size+int64(len(sealed)), h.Sum, w.list[:0]
	_, err := w.w.Write(sealed)
	return err
}
