package buffer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
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
//	the filter  a Bloom filter, four probes of 8 bits an entry
//	uint32      the first entry of each bucket, by the leading bytes of the hash
//	…           entries: the rest of the hash, and the offset less the stream's first

const (
	keysFile    = "KEYS"
	keyProbes   = 4
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

func sortEntries(list []keyEntry) {
	slices.SortFunc(list, func(a, b keyEntry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.offset, b.offset))
	})
}

// leadOf is how many bytes of a hash say its bucket.
func leadOf(entries int) int {
	if entries >= manyEntries {
		return 2
	}
	return 1
}

// encodeKeys makes the content of a table of sorted entries by stream.
func encodeKeys(byStream map[uint32][]keyEntry) []byte {
	var nums []uint32
	for num, list := range byStream {
		if len(list) > 0 {
			nums = append(nums, num)
		}
	}
	slices.Sort(nums)
	le := binary.LittleEndian
	raw := le.AppendUint64(nil, uint64(len(nums)))
	raw = append(raw, make([]byte, len(nums)*streamHead)...)
	for i, num := range nums {
		list := byStream[num]
		first, last := list[0].offset, list[0].offset
		for _, x := range list {
			first, last = min(first, x.offset), max(last, x.offset)
		}
		width := 1
		for last-first >= 1<<(8*width) {
			width++
		}
		h := raw[8+i*streamHead:]
		le.PutUint32(h, num)
		le.PutUint32(h[4:], uint32(width))
		le.PutUint64(h[8:], first)
		le.PutUint64(h[16:], last)
		le.PutUint64(h[24:], uint64(len(list)))
		le.PutUint64(h[32:], uint64(len(raw)))
		raw = appendKeys(raw, list, first, width)
	}
	return raw
}

func appendKeys(raw []byte, list []keyEntry, first uint64, width int) []byte {
	lead := leadOf(len(list))
	filter := make(bloom, len(list)+8)
	dir := make([]byte, 4*(1<<(8*lead)+1))
	bucket := 0
	for i, x := range list {
		filter.add(x.hash, x.hash>>32, keyProbes)
		for ; bucket <= int(x.hash>>(64-8*lead)); bucket++ {
			binary.LittleEndian.PutUint32(dir[4*bucket:], uint32(i))
		}
	}
	for ; bucket < len(dir)/4; bucket++ {
		binary.LittleEndian.PutUint32(dir[4*bucket:], uint32(len(list)))
	}
	raw = append(append(raw, filter...), dir...)
	var b [8]byte
	for _, x := range list {
		binary.BigEndian.PutUint64(b[:], x.hash)
		raw = append(raw, b[lead:]...)
		binary.LittleEndian.PutUint64(b[:], x.offset-first)
		raw = append(raw, b[:width]...)
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
		dir := 4 * (1<<(8*s.lead) + 1)
		s.filter, s.dir = bloom(rest[:n+8]), rest[n+8:n+8+dir]
		s.sortedBy = rest[n+8+dir:][:n*(8-s.lead+s.width)]
		t.streams[le.Uint32(h)] = s
	}
	return t, nil
}

// find appends the offsets of a hash, in order.
func (s *streamKeys) find(dst []uint64, hash uint64) []uint64 {
	if !s.filter.has(hash, hash>>32, keyProbes) {
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

// openKeyTable maps the table of a segment and checks it.
func openKeyTable(c *block.Coder, dir string) (*keyTable, error) {
	data, err := segment.Map(filepath.Join(dir, keysFile))
	if err != nil {
		return nil, err
	}
	t, err := checkKeys(c, data)
	if err != nil {
		return nil, errors.Join(err, segment.Unmap(data))
	}
	// Lookups hold t, not a lock: the mapping ends when nobody has it any more.
	runtime.AddCleanup(t, func(b []byte) { _ = segment.Unmap(b) }, data)
	return t, nil
}

func checkKeys(c *block.Coder, data []byte) (t *keyTable, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: a table of keys: %v", block.ErrDamaged, p)
		}
	}()
	h, raw, err := c.Open(data)
	if err == nil && h.Kind != block.Keys {
		err = fmt.Errorf("%w: no table of keys", block.ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	return parseKeys(raw)
}

func (e *Engine) saveKeys(dir string, byStream map[uint32][]keyEntry) error {
	raw := encodeKeys(byStream)
	h := block.Header{Kind: block.Keys, RawLen: uint32(len(raw))}
	return writeFile(filepath.Join(dir, keysFile), e.comp.Seal(make([]byte, 0, block.HeaderSize+len(raw)), &h, raw))
}

// keyTableOf returns the table of a sealed segment, which is opened at its first use,
// and made again from the blocks where it is missing or damaged; nil: nothing in the
// segment is needed any more.
func (e *Engine) keyTableOf(s *segmentRef) (*keyTable, error) {
	s.keysOnce.Lock()
	defer s.keysOnce.Unlock()
	e.mu.Lock()
	t, gone := s.table, s.phase >= dropping
	e.mu.Unlock()
	if t != nil || gone {
		return t, nil
	}
	t, err := openKeyTable(e.comp, s.seg.Dir)
	if errors.Is(err, block.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		e.log.Warn("a table of keys is missing or damaged; it is made again from the blocks", "segment", s.seg.Dir, "err", err)
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
	byStream := map[uint32][]keyEntry{}
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
		byStream[b.stream.num] = e.keysIn(byStream[b.stream.num], dec)
	}
	for _, list := range byStream {
		sortEntries(list)
	}
	return e.saveKeys(s.seg.Dir, byStream)
}

// keysIn appends what the messages of a block can be found by.
func (e *Engine) keysIn(dst []keyEntry, dec *decoded) []keyEntry {
	for i := range dec.at {
		key, cancel := dec.keys(i)
		dst = e.keyHash.entries(dst, dec.offset(i), key, cancel)
	}
	return dst
}
