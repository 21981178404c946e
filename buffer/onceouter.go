package buffer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// An outer filter says which keys several files of idempotency records may have, so
// that a look-up asks one filter and not that of each. It is only help: where it is
// missing, damaged or of other files the filters of the files are asked. The file is
//
//	…        a Bloom filter, seven probes of 12 bits a key. A key's place in it goes by
//	         the order of keys, so that it is written from one end to the other
//	…        an envelope with the checksum of that, 4 bytes, and of each file the first and
//	         the last segment, the length and the checksum of its last chunk, 8 bytes each
//	uint32   length of the envelope
//
// In an encrypted directory it is of masked keys, which are in no order: it is made in
// memory as a whole.

const (
	outerFan  = 4 // shelves at least, and onceFan at most
	outerBits = 12
	// outerPart is how much of a filter is filled at once, in bytes: it stays in the
	// processor's caches.
	outerPart = 256 << 10
	outerMark = 4 * 8
	// outerMore is what an envelope has of an outer filter besides its files.
	outerMore = 4
	outerEnd  = 1 << 20 // bytes behind the filter at most: those of thirty thousand files
	outerRest = 16      // chunks between two looks whether to rest
)

// outerMost bounds the keys of an outer filter. With a mask it is made in memory.
func (e *Engine) outerMost() uint64 {
	if e.comp.Keys != nil {
		return 1 << 24
	}
	return 1 << 30
}

type outerFilter struct {
	path        string
	first, last uint64 // segments that it is of

	bits   bloom // a mapping
	mask   *block.DataKeys
	tables []*onceTable // what it is of, as far as there still is
}

func newOuter(path string) *outerFilter {
	x := &outerFilter{path: path}
	x.first, x.last, _ = onceSpan(path)
	return x
}

func outerPath(path string) string { return strings.TrimSuffix(path, ".once") + ".outer" }

// mark is what tells a file of records from another that has or had its name.
func (t *onceTable) mark() [4]uint64 {
	return [...]uint64{t.first, t.last, uint64(t.size), uint64(t.sum)}
}

// outerHalves are those of a key in an outer filter.
func outerHalves(key [16]byte) (a, b uint64) {
	return binary.BigEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])
}

// unreadable is a table of which not all keys can be read, and that no outer filter may
// be of: it would be taken for that file still once it can be read again.
type unreadable struct {
	table *onceTable
	err   error
}

func (u *unreadable) Error() string { return u.err.Error() }
func (u *unreadable) Unwrap() error { return u.err }

// outerLen is how long the filter of tables is.
func outerLen(tables []*onceTable) int {
	keys := 0
	for _, t := range tables {
		keys += int(t.dir.records)
	}
	return bloomLen(keys, outerBits)
}

// saveOuter makes the filter of tables, durable when it returns. Where one cannot be read
// whole the error is an *unreadable. Now and then it calls rest, which may end it.
func saveOuter(path string, c *block.Coder, tables []*onceTable, rest func() error) error {
	marks := make([]byte, outerMore, outerMore+len(tables)*outerMark)
	w := outerWriter{mask: c.Keys, rest: rest, size: outerLen(tables)}
	for _, t := range tables {
		for _, v := range t.mark() {
			marks = binary.LittleEndian.AppendUint64(marks, v)
		}
		w.cursors = append(w.cursors, &onceCursor{t: t})
	}
	return writeFileFrom(path, func(to io.Writer) error {
		if err := w.write(to); err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(marks, w.sum)
		sealed := c.Seal(nil, &block.Header{Kind: block.Outer, Count: uint32(len(tables)), RawLen: uint32(len(marks))}, marks)
		_, err := to.Write(binary.LittleEndian.AppendUint32(sealed, uint32(len(sealed))))
		return err
	})
}

// outerWriter writes the filter of the keys that cursors go through.
type outerWriter struct {
	cursors []*onceCursor
	mask    *block.DataKeys
	rest    func() error
	size    int
	sum     uint32
}

func (w *outerWriter) write(to io.Writer) error {
	at := w.size // with a mask, the one part
	if w.mask == nil {
		at = min(at, outerPart)
	}
	for part, from := make(bloom, at), 0; from < w.size; from += len(part) {
		part = part[:min(len(part), w.size-from)]
		clear(part)
		for _, c := range w.cursors {
			if err := w.fill(part, from, c); err != nil {
				return err
			}
		}
		w.sum = crc32.Update(w.sum, crc32.MakeTable(crc32.Castagnoli), part)
		if _, err := to.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// fill adds the keys of a cursor whose place is in a part of the filter. Those before it
// are in it already.
func (w *outerWriter) fill(part bloom, from int, c *onceCursor) error {
	blocks, first, end := uint64(w.size/bloomBlock), uint64(from/bloomBlock), uint64((from+len(part))/bloomBlock)
	for {
		for ; c.i < c.x.n; c.i++ {
			key := c.x.key(c.i)
			if w.mask != nil {
				key = w.mask.Mask(key)
			}
			a, b := outerHalves(key)
			n, _ := bits.Mul64(a, blocks)
			if n >= end {
				return nil
			}
			if n < first {
				return &unreadable{c.t, fmt.Errorf("%w: %s: its keys are not in order", block.ErrDamaged, c.t.path)}
			}
			part[(n-first)*bloomBlock:][:bloomBlock].set(b, filterProbes)
		}
		if c.next%outerRest == 0 {
			if err := w.rest(); err != nil {
				return err
			}
		}
		more, err := c.load()
		if err = cmp.Or(err, c.damage); err != nil {
			return &unreadable{c.t, err}
		}
		if !more {
			return nil
		}
	}
}

// openOuter checks an outer filter and maps it. Without an error it is one of those
// files that there are in its span.
func openOuter(path string, c *block.Coder, files []*onceTable) (*outerFilter, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, marks, size, err := outerMarks(f, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	x := newOuter(path)
	x.mask = keysFor(c, h)
	for _, t := range x.between(files) {
		if !marks[t.mark()] {
			return nil, fmt.Errorf("%w: %s is of other files", block.ErrDamaged, path)
		}
		x.tables = append(x.tables, t)
	}
	data, err := segment.Map(path)
	if err != nil {
		return nil, err
	}
	runtime.AddCleanup(x, func(b []byte) { _ = segment.Unmap(b) }, data)
	if len(data) < size {
		return nil, fmt.Errorf("%w: %s changed meanwhile", block.ErrDamaged, path)
	}
	x.bits = data[:size]
	return x, nil
}

// outerMarks reads the end of an outer filter, and checks what is before it. size is
// that of the filter.
func outerMarks(f *os.File, c *block.Coder) (h block.Header, marks map[[4]uint64]bool, size int, err error) {
	info, err := f.Stat()
	if err != nil {
		return h, nil, 0, err
	}
	damaged := fmt.Errorf("%w: its end is not that of an outer filter", block.ErrDamaged)
	var end [4]byte
	if _, err := f.ReadAt(end[:], info.Size()-int64(len(end))); err != nil {
		return h, nil, 0, damaged
	}
	sealed := int64(binary.LittleEndian.Uint32(end[:]))
	at := info.Size() - int64(len(end)) - sealed
	if sealed > outerEnd || at <= 0 || at%bloomBlock != 0 {
		return h, nil, 0, damaged
	}
	b := make([]byte, sealed)
	if _, err := f.ReadAt(b, at); err != nil {
		return h, nil, 0, err
	}
	h, raw, err := c.Open(b)
	if err != nil {
		return h, nil, 0, err
	}
	if h.Kind != block.Outer || len(raw) != outerMore+int(h.Count)*outerMark {
		return h, nil, 0, damaged
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, at)); err != nil {
		return h, nil, 0, err
	}
	if sum.Sum32() != binary.LittleEndian.Uint32(raw) {
		return h, nil, 0, damaged
	}
	marks = map[[4]uint64]bool{}
	for raw = raw[outerMore:]; len(raw) > 0; raw = raw[outerMark:] {
		var m [4]uint64
		for i := range m {
			m[i] = binary.LittleEndian.Uint64(raw[8*i:])
		}
		marks[m] = true
	}
	return h, marks, int(at), nil
}

// between is the files whose segments are among those of the filter.
func (x *outerFilter) between(files []*onceTable) (in []*onceTable) {
	for _, t := range files {
		if x.first <= t.first && t.last <= x.last {
			in = append(in, t)
		}
	}
	return in
}

// loadOuters opens the outer filters of files, those of the most files first, as a crash
// may have come before another was removed. Those that cannot be used are of none.
func (e *Engine) loadOuters(files []*onceTable) (outers []*outerFilter, err error) {
	paths, err := filepath.Glob(filepath.Join(e.cfg.Dir, onceDirName, "*.outer"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if _, _, ok := onceSpan(path); !ok {
			continue // not ours
		}
		x, err := openOuter(path, e.comp, files)
		if err != nil {
			e.log.Warn("an outer filter of idempotency records cannot be used; look-ups take longer until it is made again", "err", err)
			x = newOuter(path)
		}
		outers = append(outers, x)
	}
	slices.SortStableFunc(outers, func(a, b *outerFilter) int { return len(b.tables) - len(a.tables) })
	return outers, nil
}
