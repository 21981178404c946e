package buffer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"

	"forebay/buffer/block"
)

// Beside the blocks of a sealed segment lies a table of the keys of its messages,
// sorted by hash, with a filter before it: it is mapped, and says which messages have
// a key without a block being read. A segment without keys has none. For each stream
// it holds
//
//	the filter  a Bloom filter, five probes of 8 bits an entry
//	uint32      the first entry of each bucket, by the leading bytes of the hash
//	…           entries: the rest of the hash, and the offset less the stream's first
//
// In an encrypted directory the filters come first, of masked hashes, and the rest,
// which would say who has the same key, behind them in chunks that are sealed. First in
// the envelope is a salt of the mask: equal keys of two segments have other bits.

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
	mask
}

// mask is what filters are asked through.
type mask struct {
	keys *block.DataKeys // nil: through none, as the table is in the clear
	salt uint64
}

// streamKeys is what a table has of one stream, parts of a mapping.
type streamKeys struct {
	first, last uint64
	lead        int // bytes of a hash that the bucket says
	width       int // of an offset, in bytes
	entries     int
	filter      bloom
	table       func() tableReader // of buckets and entries
}

// tableReader looks at places of a table. It is one goroutine's.
type tableReader interface {
	At(at, n int) []byte
	Err() error
}

// clearTable is one that is not encrypted.
type clearTable []byte

func (t clearTable) At(at, n int) []byte { return t[at : at+n] }

func (clearTable) Err() error { return nil }

// probe is what a filter is asked for a hash with.
func (m mask) probe(hash uint64) (a, b uint64) {
	if m.keys == nil {
		return hash, spread(hash)
	}
	var key [16]byte
	binary.LittleEndian.PutUint64(key[:], hash)
	binary.LittleEndian.PutUint64(key[8:], m.salt)
	return halves(m.keys.Mask(key))
}

func compareEntries(a, b keyEntry) int {
	if a.hash != b.hash {
		return cmp.Compare(a.hash, b.hash)
	}
	return cmp.Compare(a.offset, b.offset)
}

// sortedEntries returns a sorted copy. Hashes are spread evenly, so that their first bits
// put most entries in their place; what is left to sort is a few with the same ones.
func sortedEntries(list []keyEntry) []keyEntry {
	shift := 64 - min(16, bits.Len(uint(len(list))))
	ends := make([]int32, 1<<(64-shift)+1)
	for _, x := range list {
		ends[x.hash>>shift+1]++
	}
	for i := 1; i < len(ends); i++ {
		ends[i] += ends[i-1]
	}
	sorted := make([]keyEntry, len(list))
	for _, x := range list {
		at := &ends[x.hash>>shift] // where the next one of its bucket goes; its end, when all are there
		sorted[*at] = x
		*at++
	}
	from := int32(0)
	for _, end := range ends[:len(ends)-1] {
		if end-from > 1 {
			slices.SortFunc(sorted[from:end], compareEntries)
		}
		from = end
	}
	return sorted
}

// leadOf is how many bytes of a hash say its bucket.
func leadOf(entries int) int {
	if entries >= manyEntries {
		return 2
	}
	return 1
}

// encodeKeys makes the content of a table of sorted runs of entries by stream, and
// with a mask the part of it that is to be sealed.
func encodeKeys(byStream map[uint32][][]keyEntry, m mask) (raw, secret []byte) {
	var nums []uint32
	for num, runs := range byStream {
		if spanOf(runs).entries > 0 {
			nums = append(nums, num)
		}
	}
	slices.Sort(nums)
	le := binary.LittleEndian
	raw = le.AppendUint64(nil, uint64(len(nums)))
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
		// In one piece: growing would copy it several times over.
		at, bits := len(raw), bloomLen(span.entries, keyBits)
		raw = append(slices.Grow(raw, bits+span.table()), make([]byte, bits)...)
		filter := bloom(raw[at:])
		if m.keys == nil {
			raw = appendKeys(raw, filter, m, byStream[num], span)
		} else {
			secret = appendKeys(slices.Grow(secret, span.table()), filter, m, byStream[num], span)
		}
	}
	return raw, secret
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

// lead is how many bytes of a hash say its bucket, and dir the bytes of all buckets.
func (x keySpan) lead() int { return leadOf(x.entries) }

func (x keySpan) dir() int { return 4 * (1<<(8*x.lead()) + 1) }

// table is what buckets and entries take, in bytes.
func (x keySpan) table() int { return x.dir() + x.entries*(8-x.lead()+x.width()) }

// appendKeys appends the table of a stream, which raw has room for, and fills its filter.
func appendKeys(raw []byte, filter bloom, m mask, runs [][]keyEntry, span keySpan) []byte {
	lead, width, dir := span.lead(), span.width(), span.dir()
	at := len(raw)
	raw = append(raw, make([]byte, dir)...)
	var b [8]byte
	i, bucket := 0, 0
	buckets := raw[at:]
	for x := range sortedKeys(runs) {
		first, second := m.probe(x.hash)
		filter.add(first, second, keyProbes)
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
func parseKeys(raw []byte, m mask) (t *keyTable, err error) {
	defer func() {
		if recover() != nil {
			t, err = nil, fmt.Errorf("%w: a table of keys of another shape", block.ErrDamaged)
		}
	}()
	le := binary.LittleEndian
	t = &keyTable{streams: map[uint32]*streamKeys{}, mask: m}
	var places []int // of the tables that are sealed
	var list []*streamKeys
	end, sum := 8+int(le.Uint64(raw))*streamHead, 0
	for i := range int(le.Uint64(raw)) {
		h := raw[8+i*streamHead:]
		n := int(le.Uint64(h[24:]))
		s := &streamKeys{first: le.Uint64(h[8:]), last: le.Uint64(h[16:]), lead: leadOf(n), width: int(le.Uint32(h[4:])), entries: n}
		at, bits := int(le.Uint64(h[32:])), bloomLen(n, keyBits)
		s.filter = bloom(raw[at : at+bits])
		size := s.dir() + n*s.entry()
		if m.keys == nil {
			table := clearTable(raw[at+bits:][:size])
			s.table = func() tableReader { return table }
		}
		list, places = append(list, s), append(places, sum)
		end, sum = at+bits, sum+size
		t.streams[le.Uint32(h)] = s
	}
	if m.keys == nil {
		return t, nil
	}
	if len(raw)-end != block.ChunksLen(sum) {
		return nil, fmt.Errorf("%w: a table of keys of another length", block.ErrDamaged)
	}
	chunks, err := m.keys.OpenChunks(raw[end:])
	for i, s := range list {
		s.table = func() tableReader { return shifted{chunks.Reader(), places[i]} }
	}
	return t, err
}

// shifted is a table that begins behind others.
type shifted struct {
	*block.ChunkReader
	by int
}

func (s shifted) At(at, n int) []byte { return s.ChunkReader.At(s.by+at, n) }

func (s *streamKeys) dir() int { return 4 * (1<<(8*s.lead) + 1) }

// entry is the length of one.
func (s *streamKeys) entry() int { return 8 - s.lead + s.width }

// find appends the offsets of a hash, in order.
func (s *streamKeys) find(dst []uint64, m mask, hash uint64) ([]uint64, error) {
	if a, b := m.probe(hash); !s.filter.has(a, b, keyProbes) {
		return dst, nil
	}
	le, bucket, table := binary.LittleEndian, hash>>(64-8*s.lead), s.table()
	i, end := int(le.Uint32(table.At(int(4*bucket), 4))), int(le.Uint32(table.At(int(4*bucket+4), 4)))
	var b [8]byte
	begin, size, want := s.dir(), s.entry(), hash<<(8*s.lead)>>(8*s.lead)
	rest := func(i int) uint64 {
		copy(b[s.lead:], table.At(begin+i*size, 8-s.lead))
		return binary.BigEndian.Uint64(b[:])
	}
	for i += sort.Search(end-i, func(n int) bool { return rest(i+n) >= want }); i < end && rest(i) == want && table.Err() == nil; i++ {
		var off [8]byte
		copy(off[:s.width], table.At(begin+(i+1)*size-s.width, s.width))
		dst = append(dst, s.first+le.Uint64(off[:]))
	}
	return dst, table.Err()
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
	return s.find(dst, t.mask, hash)
}
