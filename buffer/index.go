package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"forebay/buffer/block"
)

const (
	indexFile = "INDEX" // of a sealed segment; its presence says that the segment is whole
	usedFile  = "USED"  // of a segment that has had a commit
)

// index is what a start needs to know of a sealed segment without opening it.
type index struct {
	last     bool // a clean stop wrote it: no segment follows
	clear    bool // it is not encrypted, or some block is not
	first    uint64
	end      uint64 // seq of the last block
	chain    uint32 // its checksum, where known
	bytes    int64
	controls []controlBlock
	blocks   []indexedBlock
}

// controlBlock is the place of a block of changes or of a snapshot.
type controlBlock struct {
	seq      uint64
	at, size uint32 // in the log
}

// indexedBlock is the place of one block of messages.
type indexedBlock struct {
	stream uint32
	first  uint64
	count  uint32 // of offsets
	kept   uint32 // of messages
	at     uint32 // in the log
	size   uint32
	seq    uint64
	base   int64
	flags  block.Flags
}

const (
	lastIndex  = 1 // no segment follows
	withPlaces = 2 // it says where blocks lie; an index that does not is made again
)

// writeIndex makes a closed segment a sealed one; durable when it returns.
func (e *Engine) writeIndex(s *segmentRef, last bool, size int64) error {
	x := index{last: last, first: s.first, end: s.last, bytes: size, controls: s.controls}
	if last {
		x.chain = e.chain
	}
	for _, b := range s.blocks {
		x.blocks = append(x.blocks, indexedBlock{b.stream.num, b.first, b.count, b.kept, b.at, b.size, b.seq(), b.base, b.flags})
	}
	return writeFile(filepath.Join(s.seg.Dir, indexFile), x.encode(e.comp))
}

func (x *index) encode(c *block.Coder) []byte {
	var raw []byte
	for _, n := range []uint64{withPlaces | b2u(x.last), x.first, x.end, uint64(x.chain), uint64(x.bytes), uint64(len(x.controls))} {
		raw = binary.AppendUvarint(raw, n)
	}
	last := controlBlock{seq: x.first}
	for _, c := range x.controls {
		raw = binary.AppendUvarint(raw, c.seq-last.seq)
		raw = binary.AppendVarint(raw, int64(c.at)-int64(last.at))
		raw = binary.AppendUvarint(raw, uint64(c.size))
		last = c
	}
	raw = binary.AppendUvarint(raw, uint64(len(x.blocks)))
	var was indexedBlock
	for _, b := range x.blocks {
		raw = binary.AppendUvarint(raw, uint64(b.stream))
		raw = binary.AppendVarint(raw, int64(b.first-was.first))
		raw = binary.AppendUvarint(raw, uint64(b.count))
		raw = binary.AppendUvarint(raw, uint64(b.size))
		raw = binary.AppendVarint(raw, int64(b.at)-int64(was.at)-int64(was.size))
		raw = binary.AppendVarint(raw, int64(b.seq-was.seq))
		raw = binary.AppendVarint(raw, b.base-was.base)
		raw = append(raw, byte(b.flags))
		if b.flags&block.Rewritten != 0 {
			raw = binary.AppendUvarint(raw, uint64(b.kept))
		}
		was = b
	}
	payload, codec := c.Pack(raw)
	h := block.Header{Kind: block.Index, Codec: codec, Seq: x.end, First: x.first, Count: uint32(len(x.blocks)), RawLen: uint32(len(raw))}
	return c.Seal(nil, &h, payload)
}

// readIndex returns nil without an error where there is no index, and
// block.ErrDamaged where it cannot be trusted: the segment is then scanned.
func readIndex(c *block.Coder, dir string) (*index, error) {
	b, err := os.ReadFile(filepath.Join(dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	h, payload, err := c.Open(b)
	if err == nil && h.Kind != block.Index {
		err = fmt.Errorf("%w: %s is no index", block.ErrDamaged, dir)
	}
	if err != nil {
		return nil, err
	}
	raw, err := c.Unpack(h, payload)
	if err != nil {
		return nil, err
	}
	r := block.NewReader(asString(raw))
	marks := r.Uint()
	if marks&withPlaces == 0 {
		return nil, fmt.Errorf("%w: %s does not say where blocks lie", block.ErrDamaged, dir)
	}
	x := &index{last: marks&lastIndex != 0, clear: h.Flags&block.Encrypted == 0, first: r.Uint(), end: r.Uint(), chain: uint32(r.Uint()), bytes: int64(r.Uint())}
	x.controls = make([]controlBlock, r.Count(3))
	last := controlBlock{seq: x.first}
	for i := range x.controls {
		last = controlBlock{seq: last.seq + r.Uint(), at: uint32(int64(last.at) + r.Int()), size: uint32(r.Uint())}
		x.controls[i] = last
	}
	x.blocks = make([]indexedBlock, r.Count(8))
	var b0 indexedBlock
	for i := range x.blocks {
		b0 = indexedBlock{
			stream: uint32(r.Uint()), first: b0.first + uint64(r.Int()), count: uint32(r.Uint()),
			size: uint32(r.Uint()), at: uint32(int64(b0.at) + int64(b0.size) + r.Int()), seq: b0.seq + uint64(r.Int()), base: b0.base + r.Int(), flags: block.Flags(r.Byte()),
		}
		if b0.kept = b0.count; b0.flags&block.Rewritten != 0 {
			b0.kept = uint32(r.Uint())
		}
		x.blocks[i] = b0
		x.clear = x.clear || b0.flags&block.Encrypted == 0
	}
	return x, r.Err()
}
