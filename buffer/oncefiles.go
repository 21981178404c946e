package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"forebay/buffer/block"
)

// onceFile is a file of records, sorted by key, in chunks of a size, and its filter.
type onceFile struct {
	path   string
	coder  *block.Coder
	size   int64
	filter *onceFilter
}

// onceChunk is what a chunk takes in a file; the last one may be shorter.
const onceChunk = block.HeaderSize + oncesPerChunk*onceSize

func chunksIn(size int64) int { return int((size + onceChunk - 1) / onceChunk) }

// saveOnces makes files of the records of a segment, durable when it returns. Of a
// key that was used again after its TTL the later record counts.
func saveOnces(path string, c *block.Coder, records *onceSet) error {
	most := records.len()
	raw, filter := filterOf((most+oncesPerChunk-1)/oncesPerChunk, most)
	size, sum, chunks := int64(0), uint32(0), 0
	err := writeFileFrom(path, func(w io.Writer) error {
		list := make([]onceRecord, 0, oncesPerChunk)
		flush := func() error {
			h := block.Header{Kind: block.Onces, Count: uint32(len(list)), RawLen: uint32(len(list) * onceSize), Chain: sum}
			b := c.Seal(nil, &h, encodeOnces(list))
			filter.setFirst(chunks, list[0].Key)
			size, sum, chunks, list = size+int64(len(b)), h.Sum, chunks+1, list[:0]
			_, err := w.Write(b)
			return err
		}
		for r := range records.sorted() {
			filter.add(r.Key)
			filter.until = max(filter.until, r.until)
			if list = append(list, r); len(list) < oncesPerChunk {
				continue
			}
			if err := flush(); err != nil {
				return err
			}
		}
		if len(list) > 0 {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return filter.save(path, c, raw, size, sum, chunks)
}

func encodeOnces(list []onceRecord) []byte {
	raw := make([]byte, 0, len(list)*onceSize)
	for i := range list {
		r := &list[i]
		raw = append(append(raw, r.Key[:]...), r.Body[:]...)
		raw = binary.LittleEndian.AppendUint32(raw, r.stream)
		raw = binary.LittleEndian.AppendUint64(raw, r.first)
		raw = binary.LittleEndian.AppendUint32(raw, r.count)
		raw = binary.LittleEndian.AppendUint64(raw, uint64(r.at))
		raw = binary.LittleEndian.AppendUint64(raw, uint64(r.until))
	}
	return raw
}

func readOnces(sealed []byte, c *block.Coder) ([]onceRecord, error) {
	h, raw, err := c.Open(sealed)
	if err != nil {
		return nil, err
	}
	if h.Kind != block.Onces || h.Count == 0 || len(raw) != int(h.Count)*onceSize {
		return nil, fmt.Errorf("%w: no idempotency records", block.ErrDamaged)
	}
	list := make([]onceRecord, h.Count)
	le := binary.LittleEndian
	for i := range list {
		r, b := &list[i], raw[i*onceSize:]
		copy(r.Key[:], b)
		copy(r.Body[:], b[16:])
		r.stream, r.first, r.count = le.Uint32(b[24:]), le.Uint64(b[28:]), le.Uint32(b[36:])
		r.at, r.until = int64(le.Uint64(b[40:])), int64(le.Uint64(b[48:]))
	}
	return list, nil
}

// openOnces opens a file of records. Its filter is made again where it is missing
// or damaged. What cannot be read is returned as damage beside a file that can be
// used; the records concerned are forgotten.
func openOnces(path string, c *block.Coder) (x *onceFile, damage, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open idempotency records: %w", err)
	}
	x = &onceFile{path: path, coder: c, size: info.Size()}
	err = x.mapFilter()
	if errors.Is(err, block.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		if damage, err = x.rebuildFilter(); err == nil {
			err = x.mapFilter()
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open idempotency records: %w", err)
	}
	return x, damage, nil
}

// lastSum is the checksum in the envelope of the last chunk; 0 where there is none.
func (x *onceFile) lastSum() (uint32, error) {
	f, err := os.Open(x.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var head [block.HeaderSize]byte
	if _, err := f.ReadAt(head[:], int64(max(0, chunksIn(x.size)-1))*onceChunk); errors.Is(err, io.EOF) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return block.Peek(head[:]).Sum, nil
}

// read returns the records of one chunk.
func (x *onceFile) read(f *os.File, chunk int) ([]onceRecord, error) {
	pos := int64(chunk) * onceChunk
	b := make([]byte, min(onceChunk, x.size-pos))
	if _, err := f.ReadAt(b, pos); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return readOnces(b, x.coder)
}

func (x *onceFile) find(key [16]byte) (r onceRecord, found bool, err error) {
	chunk, err := x.place(key)
	if chunk < 0 || err != nil {
		return r, false, err
	}
	f, err := os.Open(x.path)
	if err != nil {
		return r, false, fmt.Errorf("read idempotency records: %w", err)
	}
	defer f.Close()
	list, err := x.read(f, chunk)
	if err != nil {
		return r, false, fmt.Errorf("read idempotency records: %s: %w", x.path, err)
	}
	j, found := slices.BinarySearchFunc(list, key, compareKey)
	if !found {
		return r, false, nil
	}
	return list[j], true, nil
}

// findOnceFile looks for a key in the files. It may read the disk, where a
// filter says that it is probably there.
func (e *Engine) findOnceFile(in onceFiles, key [16]byte, now time.Time) (r onceRecord, found bool, err error) {
	for _, x := range slices.Backward(in.files) {
		r, found, err := x.find(key)
		if errors.Is(err, block.ErrDamaged) {
			e.forgotten(err)
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // its last TTL was over
		}
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
		x, damage, err := openOnces(path, e.comp)
		if err != nil {
			return err
		}
		if damage != nil {
			e.forgotten(damage)
		}
		e.onceFiles = append(e.onceFiles, x)
	}
	return nil
}

// forgotten says that records cannot be read.
func (e *Engine) forgotten(damage error) {
	e.log.Error("idempotency records are damaged; requests sent again may be stored again", "err", damage)
}

// dropOldOnces removes the files of which every key's TTL is over.
func (e *Engine) dropOldOnces(now time.Time) error {
	e.mu.Lock()
	var old []string
	kept := make([]*onceFile, 0, len(e.onceFiles))
	for _, x := range e.onceFiles {
		if x.filter.until <= now.UnixMilli() {
			old = append(old, x.path)
		} else {
			kept = append(kept, x)
		}
	}
	e.onceFiles = kept
	e.mu.Unlock()
	for _, path := range old {
		if err := removeOnces(path); err != nil {
			return err
		}
	}
	return nil
}
