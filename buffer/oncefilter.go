package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// Beside each file of idempotency records lies one that says which keys it may
// have, and where. It is mapped, so that a start reads no record, and a hundred
// million of them cost no memory of this process:
//
//	uint64   length of the file of records
//	uint64   checksum of its last chunk, which is chained to those before
//	int64    when the last TTL is over
//	16 bytes the first key of each chunk
//	…        the filter: a Bloom filter, six probes of 12 bits a key
//
// The keys are hashes already. About one in three hundred that is not there costs
// a read.

const (
	filterHead   = 24
	filterProbes = 6
	filterBits   = 12
	onceKeySize  = 16
)

// onceFilter is a filter and its directory, parts of a mapping or of memory.
type onceFilter struct {
	until  int64
	firsts []byte
	bits   bloom
}

// filterOf makes the content of a filter file with room for so many keys.
func filterOf(chunks, keys int) ([]byte, *onceFilter) {
	raw := make([]byte, filterHead+chunks*onceKeySize+keys*filterBits/8+8)
	return raw, parseFilter(raw, chunks)
}

func parseFilter(raw []byte, chunks int) *onceFilter {
	return &onceFilter{
		until:  int64(binary.LittleEndian.Uint64(raw[16:])),
		firsts: raw[filterHead : filterHead+chunks*onceKeySize],
		bits:   raw[filterHead+chunks*onceKeySize:],
	}
}

func (f *onceFilter) setFirst(chunk int, key [16]byte) {
	copy(f.firsts[chunk*onceKeySize:], key[:])
}

func (f *onceFilter) add(key [16]byte) {
	a, b := halves(key)
	f.bits.add(a, b, filterProbes)
}

func (f *onceFilter) has(key [16]byte) bool {
	a, b := halves(key)
	return f.bits.has(a, b, filterProbes)
}

// chunk is the one that has a key, if any has; -1: none.
func (f *onceFilter) chunk(key [16]byte) int {
	n := len(f.firsts) / onceKeySize
	return sort.Search(n, func(i int) bool {
		return bytes.Compare(f.firsts[i*onceKeySize:(i+1)*onceKeySize], key[:]) > 0
	}) - 1
}

// place is the chunk that may have a key; -1: none has. A page that the disk does
// not give may have anything: then all is as if there were no filter, up to the
// directory.
func (x *onceFile) place(key [16]byte) (chunk int, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the filter of %s: %v", block.ErrDamaged, x.path, p)
		}
	}()
	defer runtime.KeepAlive(x) // it holds the mapping
	if !x.filter.has(key) {
		return -1, nil
	}
	return x.filter.chunk(key), nil
}

func filterPath(path string) string { return strings.TrimSuffix(path, ".once") + ".filter" }

// save makes the file of a filter, durable when it returns. Chunks that were not
// needed for the directory are left out.
func (f *onceFilter) save(path string, c *block.Coder, raw []byte, size int64, sum uint32, chunks int) error {
	binary.LittleEndian.PutUint64(raw, uint64(size))
	binary.LittleEndian.PutUint64(raw[8:], uint64(sum))
	binary.LittleEndian.PutUint64(raw[16:], uint64(f.until))
	raw = append(raw[:filterHead+chunks*onceKeySize], f.bits...)
	h := block.Header{Kind: block.Filter, Count: uint32(chunks), RawLen: uint32(len(raw))}
	return writeFile(filterPath(path), c.Seal(make([]byte, 0, block.HeaderSize+len(raw)), &h, raw))
}

// mapFilter maps the filter of a file of records and checks that it is whole, and
// that file's.
func (x *onceFile) mapFilter() error {
	data, err := segment.Map(filterPath(x.path))
	if err != nil {
		return err
	}
	// Lookups hold x, not a lock: the mapping ends when nobody has it any more.
	runtime.AddCleanup(x, func(b []byte) { _ = segment.Unmap(b) }, data)
	h, raw, err := x.openFilter(data)
	if err != nil {
		return err
	}
	chunks := chunksIn(x.size)
	if h.Kind != block.Filter || int(h.Count) != chunks || len(raw) <= filterHead+chunks*onceKeySize {
		return fmt.Errorf("%w: %s is no filter of that file", block.ErrDamaged, filterPath(x.path))
	}
	sum, err := x.lastSum()
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(raw) != uint64(x.size) || binary.LittleEndian.Uint64(raw[8:]) != uint64(sum) {
		return fmt.Errorf("%w: %s belongs to another file", block.ErrDamaged, filterPath(x.path))
	}
	x.filter = parseFilter(raw, chunks)
	return nil
}

// openFilter reads all of a mapping, once, to check it.
func (x *onceFile) openFilter(data []byte) (h block.Header, raw []byte, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s: %v", block.ErrDamaged, filterPath(x.path), p)
		}
	}()
	return x.coder.Open(data)
}

// rebuildFilter makes the filter again from the records, those that can be read.
func (x *onceFile) rebuildFilter() (damage error, err error) {
	f, err := os.Open(x.path)
	if err != nil {
		return nil, fmt.Errorf("rebuild a filter: %w", err)
	}
	defer f.Close()
	sum, err := x.lastSum()
	if err != nil && !errors.Is(err, block.ErrDamaged) {
		return nil, err
	}
	chunks := chunksIn(x.size)
	raw, filter := filterOf(chunks, chunks*oncesPerChunk)
	var after [16]byte // the last key that was read: a chunk that cannot be read comes after it
	for i := range chunks {
		list, err := x.read(f, i)
		if err != nil {
			damage = fmt.Errorf("%s: %w", x.path, err)
			filter.setFirst(i, after)
			continue
		}
		filter.setFirst(i, list[0].Key)
		for _, r := range list {
			filter.until = max(filter.until, r.until)
			filter.add(r.Key)
			after = r.Key
		}
		increment(&after)
	}
	return damage, filter.save(x.path, x.coder, raw, x.size, sum, chunks)
}

// increment makes a key the next one.
func increment(key *[16]byte) {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i]++; key[i] != 0 {
			return
		}
	}
}

// removeOnces removes a file of records and its filter.
func removeOnces(path string) error {
	if err := os.Remove(filterPath(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old idempotency records: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove old idempotency records: %w", err)
	}
	return nil
}
