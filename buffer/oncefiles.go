package buffer

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"forebay/buffer/block"
)

// onceFile is a file of records, sorted by key.
type onceFile struct {
	path   string
	coder  *block.Coder
	until  int64
	filter []uint64
	chunks []onceChunk
}

type onceChunk struct {
	first [16]byte
	pos   int64
	size  int
}

// saveOnces makes a file of the records of a segment, durable when it returns.
func saveOnces(path string, c *block.Coder, records []onceRecord) error {
	// Of a key that was used again after its TTL the later record counts.
	records = slices.Clone(records)
	slices.SortStableFunc(records, func(a, b onceRecord) int {
		return cmp.Or(bytes.Compare(a.Key[:], b.Key[:]), cmp.Compare(b.until, a.until))
	})
	records = slices.CompactFunc(records, func(a, b onceRecord) bool { return a.Key == b.Key })
	var b []byte
	for list := range slices.Chunk(records, oncesPerChunk) {
		raw := make([]byte, 0, len(list)*onceSize)
		for _, r := range list {
			raw = append(append(raw, r.Key[:]...), r.Body[:]...)
			raw = binary.LittleEndian.AppendUint32(raw, r.stream)
			raw = binary.LittleEndian.AppendUint64(raw, r.first)
			raw = binary.LittleEndian.AppendUint32(raw, uint32(r.count))
			raw = binary.LittleEndian.AppendUint64(raw, uint64(r.at))
			raw = binary.LittleEndian.AppendUint64(raw, uint64(r.until))
		}
		h := block.Header{Kind: block.Onces, Count: uint32(len(list)), RawLen: uint32(len(raw))}
		b = c.Seal(b, &h, raw)
	}
	return writeFile(path, b)
}

func readOnces(sealed []byte, c *block.Coder) ([]onceRecord, error) {
	h, raw, err := c.Open(sealed)
	if err != nil {
		return nil, err
	}
	if h.Kind != block.Onces || len(raw) != int(h.Count)*onceSize {
		return nil, fmt.Errorf("%w: no idempotency records", block.ErrDamaged)
	}
	list := make([]onceRecord, h.Count)
	le := binary.LittleEndian
	for i := range list {
		r, b := &list[i], raw[i*onceSize:]
		copy(r.Key[:], b)
		copy(r.Body[:], b[16:])
		r.stream, r.first, r.count = le.Uint32(b[24:]), le.Uint64(b[28:]), int(le.Uint32(b[36:]))
		r.at, r.until = int64(le.Uint64(b[40:])), int64(le.Uint64(b[48:]))
	}
	return list, nil
}

// openOnces reads a file for its directory and filter. Damage ends it early.
func openOnces(path string, c *block.Coder) (*onceFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open idempotency records: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open idempotency records: %w", err)
	}
	x := &onceFile{path: path, coder: c, filter: newFilter(int(info.Size() / onceSize))}
	var head [block.HeaderSize]byte
	for pos := int64(0); ; {
		if _, err := f.ReadAt(head[:], pos); errors.Is(err, io.EOF) {
			return x, nil
		} else if err != nil {
			return nil, fmt.Errorf("open idempotency records: %w", err)
		}
		size, ok := block.Length(head[:])
		if !ok || size > block.HeaderSize+oncesPerChunk*onceSize {
			return x, fmt.Errorf("%s: %w at byte %d", path, block.ErrDamaged, pos)
		}
		list, err := x.read(f, pos, size)
		if err != nil {
			return x, fmt.Errorf("%s: %w at byte %d", path, err, pos)
		}
		x.chunks = append(x.chunks, onceChunk{first: list[0].Key, pos: pos, size: size})
		for _, r := range list {
			x.until = max(x.until, r.until)
			addToFilter(x.filter, r.Key)
		}
		pos += int64(size)
	}
}

func (x *onceFile) read(f *os.File, pos int64, size int) ([]onceRecord, error) {
	b := make([]byte, size)
	if _, err := f.ReadAt(b, pos); err != nil {
		return nil, err
	}
	list, err := readOnces(b, x.coder)
	if err == nil && len(list) == 0 {
		err = block.ErrDamaged
	}
	return list, err
}

func (x *onceFile) find(key [16]byte) (onceRecord, bool, error) {
	if !inFilter(x.filter, key) {
		return onceRecord{}, false, nil
	}
	i := sort.Search(len(x.chunks), func(i int) bool { return bytes.Compare(x.chunks[i].first[:], key[:]) > 0 }) - 1
	if i < 0 {
		return onceRecord{}, false, nil
	}
	f, err := os.Open(x.path)
	if err != nil {
		return onceRecord{}, false, fmt.Errorf("read idempotency records: %w", err)
	}
	defer f.Close()
	list, err := x.read(f, x.chunks[i].pos, x.chunks[i].size)
	if err != nil {
		return onceRecord{}, false, fmt.Errorf("read idempotency records: %w", err)
	}
	j, found := slices.BinarySearchFunc(list, key, func(r onceRecord, key [16]byte) int { return bytes.Compare(r.Key[:], key[:]) })
	if !found {
		return onceRecord{}, false, nil
	}
	return list[j], true, nil
}

// findOnceFile looks for a key in the files. It may read the disk, where a
// filter says that it is probably there.
func (e *Engine) findOnceFile(in onceFiles, key [16]byte, now time.Time) (r onceRecord, found bool, err error) {
	for _, x := range slices.Backward(in.files) {
		r, found, err := x.find(key)
		if err != nil {
			return r, false, err
		}
		if found {
			// The newest counts, even if it is over and an older one seems not to be.
			return r, r.until > now.UnixMilli() && e.hasStream(r.stream), nil
		}
	}
	return onceRecord{}, false, nil
}

// hasStream reports whether a stream was not given up since.
func (e *Engine) hasStream(num uint32) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byNum[num] != nil
}

func oncePath(dir string, id uint64) string {
	return filepath.Join(dir, onceDir, fmt.Sprintf("%016x.once", id))
}

// loadOnces opens every file of records, oldest first.
func (e *Engine) loadOnces() error {
	paths, err := filepath.Glob(filepath.Join(e.cfg.Dir, onceDir, "*.once"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		x, err := openOnces(path, e.comp)
		if x == nil {
			return err
		}
		if err != nil {
			e.log.Error("idempotency records are damaged; requests sent again may be stored again", "err", err)
		}
		e.onceFiles = append(e.onceFiles, x)
	}
	return nil
}

// dropOldOnces removes the files of which every key's TTL is over.
func (e *Engine) dropOldOnces(now time.Time) error {
	e.mu.Lock()
	var old []string
	kept := make([]*onceFile, 0, len(e.onceFiles))
	for _, x := range e.onceFiles {
		if x.until <= now.UnixMilli() {
			old = append(old, x.path)
		} else {
			kept = append(kept, x)
		}
	}
	e.onceFiles = kept
	e.mu.Unlock()
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove old idempotency records: %w", err)
		}
	}
	return nil
}

// The filter is a Bloom filter of 10 bits a key and four probes: about one key
// in a hundred that is not there costs a read. The keys are hashes already.

func newFilter(keys int) []uint64 { return make([]uint64, max(1, keys*10/64+1)) }

func probes(filter []uint64, key [16]byte) [4]uint64 {
	a, b := binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])|1
	bits := uint64(len(filter)) * 64
	return [4]uint64{a % bits, (a + b) % bits, (a + 2*b) % bits, (a + 3*b) % bits}
}

func addToFilter(filter []uint64, key [16]byte) {
	for _, bit := range probes(filter, key) {
		filter[bit/64] |= 1 << (bit % 64)
	}
}

func inFilter(filter []uint64, key [16]byte) bool {
	for _, bit := range probes(filter, key) {
		if filter[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}
