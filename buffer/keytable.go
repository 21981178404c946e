package buffer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// Beside the blocks of a sealed segment lies a table of the keys of its messages,
// sorted by hash, with a filter before it: it is mapped, and says which messages have
// a key without a block being read. A segment without keys has none. For each stream
// it holds
//
//	the filter  a Bloom filter, five probes of 8 bits an entry
//	uint32      the first entry of each bucket, by the leading bytes of the hash
//	…           entries: the rest of the hash, and the offset less the stream's first

const (
	keysFile    = "KEYS"
	keyProbes   = 5
	keyBits     = 8  // of the filter, an entry
	streamHead  = 40 // num, width of offsets, first, last, entries, place of the filter
	manyEntries = 1 << 16
)

// keyTable is the table of one segment.
type keyTable struct {
	streams map[uint32]*streamKeys
}

// streamKeys is what a table has of one stream, parts of a mapping.
type streamKeys struct {
	first, last   uint64
	lead          int // bytes of a hash that the bucket says
	width         int // of an offset, in bytes
	filter        bloom
	dir, sortedBy []byte
}

func compareEntries(a, b keyEntry) int {
	return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.offset, b.offset))
}

func sortEntries(list []keyEntry) { slices.SortFunc(list, compareEntries) }

// leadOf is how many bytes of a hash say its bucket.
func leadOf(entries int) int {
	if entries >= manyEntries {
		return 2
	}
	return 1
}

// encodeKeys makes the content of a table of sorted runs of entries by stream.
func encodeKeys(byStream map[uint32][][]keyEntry) []byte {
	var nums []uint32
	for num, runs := range byStream {
		if spanOf(runs).entries > 0 {
			nums = append(nums, num)
		}
	}
	slices.Sort(nums)
	le := binary.LittleEndian
	raw := le.AppendUint64(nil, uint64(len(nums)))
	raw = append(raw, make([]byte, len(nums)*streamHead)...)
	for i, num := range nums {
		span := spanOf(byStream[num])
		h := raw[8+i*streamHead:]
		le.PutUint32(h, num)
		le.PutUint32(h[4:], uint32(span.width()))
		le.PutUint64(h[8:], span.first)
		le.PutUint64(h[16:], span.last)
		le.PutUint64(h[24:], uint64(span.entries))
		le.PutUint64(h[32:], uint64(len(raw)))
		raw = appendKeys(raw, byStream[num], span)
	}
	return raw
}

// keySpan is the offsets of entries, and how many these are.
type keySpan struct {
	first, last uint64
	entries     int
}

func spanOf(runs [][]keyEntry) keySpan {
	x := keySpan{first: ^uint64(0)}
	for _, run := range runs {
		for _, e := range run {
			x.first, x.last = min(x.first, e.offset), max(x.last, e.offset)
		}
		x.entries += len(run)
	}
	return x
}

// width is how many bytes an offset takes less the first one.
func (x keySpan) width() int {
	n := 1
	for x.last-x.first >= 1<<(8*n) {
		n++
	}
	return n
}

func appendKeys(raw []byte, runs [][]keyEntry, span keySpan) []byte {
	lead, width := leadOf(span.entries), span.width()
	bits, dir := bloomLen(span.entries, keyBits), 4*(1<<(8*lead)+1)
	at := len(raw)
	// In one piece: growing would copy it several times over.
	raw = append(slices.Grow(raw, bits+dir+span.entries*(8-lead+width)), make([]byte, bits+dir)...)
	var b [8]byte
	i, bucket := 0, 0
	filter, buckets := bloom(raw[at:at+bits]), raw[at+bits:]
	for x := range sortedKeys(runs) {
		filter.add(x.hash, spread(x.hash), keyProbes)
		for ; bucket <= int(x.hash>>(64-8*lead)); bucket++ {
			binary.LittleEndian.PutUint32(buckets[4*bucket:], uint32(i))
		}
		binary.BigEndian.PutUint64(b[:], x.hash)
		raw = append(raw, b[lead:]...)
		binary.LittleEndian.PutUint64(b[:], x.offset-span.first)
		raw = append(raw, b[:width]...)
		i++
	}
	for ; bucket < dir/4; bucket++ {
		binary.LittleEndian.PutUint32(buckets[4*bucket:], uint32(span.entries))
	}
	return raw
}

// parseKeys finds the parts of a table. It was checked as a whole, so that only a
// program that wrote it otherwise can make it fail.
func parseKeys(raw []byte) (t *keyTable, err error) {
	defer func() {
		if recover() != nil {
			t, err = nil, fmt.Errorf("%w: a table of keys of another shape", block.ErrDamaged)
		}
	}()
	le := binary.LittleEndian
	t = &keyTable{streams: map[uint32]*streamKeys{}}
	for i := range int(le.Uint64(raw)) {
		h := raw[8+i*streamHead:]
		n := int(le.Uint64(h[24:]))
		s := &streamKeys{first: le.Uint64(h[8:]), last: le.Uint64(h[16:]), lead: leadOf(n), width: int(le.Uint32(h[4:]))}
		rest := raw[le.Uint64(h[32:]):]
		bits, dir := bloomLen(n, keyBits), 4*(1<<(8*s.lead)+1)
		s.filter, s.dir = bloom(rest[:bits]), rest[bits:bits+dir]
		s.sortedBy = rest[bits+dir:][:n*(8-s.lead+s.width)]
		t.streams[le.Uint32(h)] = s
	}
	return t, nil
}

// find appends the offsets of a hash, in order.
func (s *streamKeys) find(dst []uint64, hash uint64) []uint64 {
	if !s.filter.has(hash, spread(hash), keyProbes) {
		return dst
	}
	le, bucket := binary.LittleEndian, hash>>(64-8*s.lead)
	i, end := int(le.Uint32(s.dir[4*bucket:])), int(le.Uint32(s.dir[4*bucket+4:]))
	var b [8]byte
	size, want := 8-s.lead+s.width, hash<<(8*s.lead)>>(8*s.lead)
	rest := func(i int) uint64 {
		copy(b[s.lead:], s.sortedBy[i*size:])
		return binary.BigEndian.Uint64(b[:])
	}
	for i += sort.Search(end-i, func(n int) bool { return rest(i+n) >= want }); i < end && rest(i) == want; i++ {
		var off [8]byte
		copy(off[:s.width], s.sortedBy[(i+1)*size-s.width:])
		dst = append(dst, s.first+le.Uint64(off[:]))
	}
	return dst
}

// find appends the messages of a stream that have a hash, if some may be from one
// offset up to another.
func (t *keyTable) find(dst []uint64, stream uint32, hash, from, end uint64) (found []uint64, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			found, err = dst, fmt.Errorf("%w: a table of keys: %v", block.ErrDamaged, p)
		}
	}()
	defer runtime.KeepAlive(t) // it holds the mapping
	s := t.streams[stream]
	if s == nil || s.last < from || s.first >= end {
		return dst, nil
	}
	return s.find(dst, hash), nil
}

// openKeyTable checks the table of a segment and maps it.
func openKeyTable(c *block.Coder, dir string) (t *keyTable, err error) {
	h, data, raw, err := mapChecked(c, filepath.Join(dir, keysFile))
	if err != nil {
		return nil, err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err = fmt.Errorf("%w: no table of keys", block.ErrDamaged); h.Kind == block.Keys {
		t, err = parseKeys(raw)
	}
	if err != nil {
		return nil, errors.Join(err, segment.Unmap(data))
	}
	// Lookups hold t, not a lock: the mapping ends when nobody has it any more.
	runtime.AddCleanup(t, func(b []byte) { _ = segment.Unmap(b) }, data)
	return t, nil
}

func (e *Engine) saveKeys(dir string, byStream map[uint32][][]keyEntry) error {
	raw := encodeKeys(byStream)
	return writeFileFrom(filepath.Join(dir, keysFile), func(w io.Writer) error {
		return e.comp.SealTo(w, &block.Header{Kind: block.Keys}, raw)
	})
}

// keyTableOf returns the table of a sealed segment, which is opened at its first use,
// and made again from the blocks where it is missing or damaged; nil: nothing in the
// segment is needed any more.
func (e *Engine) keyTableOf(s *segmentRef) (*keyTable, error) {
	s.keysOnce.Lock()
	defer s.keysOnce.Unlock()
	e.mu.Lock()
	t, gone, whole := s.table, s.phase >= dropping, s.phase == sealed
	e.mu.Unlock()
	if t != nil || gone {
		return t, nil
	}
	t, err := openKeyTable(e.comp, s.seg.Dir)
	if errors.Is(err, block.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		if whole {
			e.log.Warn("a table of keys is missing or damaged; it is made again from the blocks", "segment", s.seg.Dir, "err", err)
		}
		if err = e.rebuildKeys(s); err == nil {
			t, err = openKeyTable(e.comp, s.seg.Dir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", s.seg.Dir, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.table = t
	return t, nil
}

// openTables opens the tables that a start found, so that no look-up waits for it.
func (e *Engine) openTables() error {
	e.mu.Lock()
	segments := slices.Clone(e.segments)
	e.mu.Unlock()
	for _, s := range segments {
		e.mu.Lock()
		asked := s.keyed && s.open == nil
		e.mu.Unlock()
		if !asked {
			continue
		}
		if _, err := e.keyTableOf(s); err != nil || e.Err() != nil {
			return err
		}
	}
	return nil
}

// rebuildKeys makes the table of a segment from its blocks, and saves it. Blocks
// that cannot be read have none: their messages end when they are met.
func (e *Engine) rebuildKeys(s *segmentRef) error {
	e.mu.Lock()
	blocks := slices.Clone(s.blocks)
	e.mu.Unlock()
	byStream := openKeys{}
	for _, b := range blocks {
		if b.flags&(block.Keyed|block.Cancels) == 0 {
			continue
		}
		dec, err := e.fetch(b.stream, b.blockRef)
		if errors.Is(err, block.ErrDamaged) {
			continue
		}
		if err != nil {
			return err
		}
		byStream.gather(b.stream.num, e.keysIn(dec))
	}
	return e.saveKeys(s.seg.Dir, allRuns(byStream))
}

// keysIn is what the messages of a block can be found by.
func (e *Engine) keysIn(dec *decoded) []keyEntry {
	list := make([]keyEntry, 0, len(dec.at))
	for i := range dec.at {
		key, cancel := dec.keys(i)
		list = e.keyHash.entries(list, dec.offset(i), key, cancel)
	}
	return list
}
