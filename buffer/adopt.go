package buffer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// adopt closes a segment that a crash left open: the janitor seals it, when the
// engine serves already. One with damage inside is written again whole, as far as it
// can be read, and put aside.
func (e *Engine) adopt(f *foundSegment) error {
	if len(f.scan) == 0 && f.Damaged == 0 {
		e.segments = slices.DeleteFunc(e.segments, func(s *segmentRef) bool { return s == f.ref })
		return e.discard(f.ref)
	}
	if f.Damaged > 0 {
		if err := e.carry(f); err != nil {
			return err
		}
		return e.quarantine(f)
	}
	end := int64(0)
	for _, b := range f.scan {
		end = max(end, segment.End(b.at, b.size))
	}
	if err := segment.Settle(f.ref.seg.Dir, end); err != nil {
		return err
	}
	signal(e.sweep)
	return nil
}

// takeFrom takes, of segments that were not sealed, what look-ups need: final states,
// answers and idempotency records out of their changes, and the keys of their messages.
// It does so on goroutines of its own.
func (e *Engine) takeFrom(segs []*foundSegment) *sync.WaitGroup {
	var all sync.WaitGroup
	for _, f := range segs {
		if f.index != nil {
			continue
		}
		all.Go(func() { f.ref.records = e.recordsOf(f.scan) })
		if f.Damaged == 0 {
			all.Go(func() { f.ref.open = e.keysOf(f) })
		}
	}
	return &all
}

// keysOf reads the blocks of a segment again that have keys. A damaged block has
// none: its messages end when they are met. nil: some could not be read, and the table
// is made at its first use.
func (e *Engine) keysOf(f *foundSegment) openKeys {
	keys := openKeys{}
	for _, b := range f.scan {
		if b.Kind != block.Messages || b.Flags&(block.Keyed|block.Cancels) == 0 {
			continue
		}
		data := make([]byte, b.size)
		err := f.ref.seg.Read(data, int64(b.at))
		var dec *decoded
		if err == nil {
			_, dec, err = unpack(e.comp, data)
		}
		switch {
		case err == nil:
			keys.gather(b.Stream, e.keysIn(dec))
		case !errors.Is(err, block.ErrDamaged):
			return nil
		}
	}
	return keys
}

func (e *Engine) recordsOf(blocks []scanned) *records {
	r := newRecords()
	for _, b := range blocks {
		if b.Kind == block.Control {
			// What cannot be decoded fails the start, in loadState.
			_ = eachOp(b.payload, func(op *operation) error {
				r.take(e.comp, op)
				return nil
			})
		}
	}
	return r
}

// carryBytes bounds one commit of carried blocks.
const carryBytes = 4 << 20

// carry writes the blocks of messages of a segment into the active one: same stream,
// offsets and ids.
func (e *Engine) carry(f *foundSegment) error {
	moved := map[uint64]*blockRef{}
	for _, b := range f.ref.blocks {
		moved[b.seq()] = b.blockRef
	}
	if len(moved) == 0 {
		return nil
	}
	e.log.Warn("the sound blocks of a damaged segment are written again", "segment", f.ref.seg.Dir, "blocks", len(moved))
	var batch []carried
	size := 0
	_, err := segment.Scan(f.ref.seg.Dir, e.comp.Sealer, func(_ int64, h block.Header, payload, _ []byte) error {
		ref := moved[h.Seq]
		if h.Kind != block.Messages || ref == nil {
			return nil
		}
		c := carried{ref: ref, h: h, payload: slices.Clone(payload)}
		if h.Flags&(block.Keyed|block.Cancels) != 0 {
			if raw, err := e.comp.Unpack(h, payload); err == nil {
				if dec, err := decode(h, raw); err == nil {
					c.keys = e.keysIn(dec)
				}
			}
		}
		batch = append(batch, c)
		if size += len(payload); size < carryBytes {
			return nil
		}
		err := e.carryBatch(f.ref, batch)
		batch, size = nil, 0
		return err
	})
	if err == nil {
		err = e.carryBatch(f.ref, batch)
	}
	return err
}

type carried struct {
	ref     *blockRef
	h       block.Header
	payload []byte
	keys    []keyEntry
}

func (e *Engine) carryBatch(from *segmentRef, blocks []carried) error {
	if len(blocks) == 0 {
		return nil
	}
	size := int64(0)
	for _, c := range blocks {
		size += segment.Size(c.payload) + block.Overhead
	}
	if !e.active.seg.Fits(len(blocks), size) {
		b := &batch{group: newGroup(), carriedBlocks: len(blocks), carriedBytes: size}
		err := e.roll(b, false)
		if errors.Is(err, ErrDiskFull) {
			err = e.roll(b, true)
		}
		if err != nil {
			return err
		}
		e.indexBatch(b)
	}
	b := &batch{group: newGroup()}
	for _, c := range blocks {
		e.sealPacked(b, c.h, c.payload)
	}
	if err := e.flush(b); err != nil {
		return err
	}
	for i, c := range blocks {
		s := e.byNum[c.h.Stream]
		c.ref.seg, c.ref.nth, c.ref.at = e.active, uint32(b.heads[i].Seq-e.active.first), b.blocks[i].At
		e.active.hold(s, c.ref)
		e.active.open.add(s.num, 0, c.keys)
		if c.ref.pinned() {
			e.active.live++
			from.live--
		}
	}
	from.blocks = slices.DeleteFunc(from.blocks, func(x segBlock) bool { return x.seg != from })
	e.active.last, e.active.bytes = e.seq, e.active.seg.Bytes()
	e.recovery.Carried += len(blocks)
	return nil
}

// quarantine puts a damaged directory aside for whoever wants to look at it.
func (e *Engine) quarantine(f *foundSegment) error {
	if err := e.file(f.ref); err != nil {
		return err
	}
	e.segments = slices.DeleteFunc(e.segments, func(s *segmentRef) bool { return s == f.ref })
	var gone ops
	gone.op(opGone, f.ref.id)
	b := &batch{group: newGroup(), delta: gone}
	e.encode(b, ops{})
	if err := e.flush(b); err != nil {
		return err
	}
	e.indexBatch(b)
	aside := filepath.Join(e.cfg.Dir, fmt.Sprintf("quarantine-%016x", f.ref.id))
	e.log.Error("a damaged segment was put aside", "dir", aside, "damaged_places", f.Damaged)
	if err := os.Rename(f.ref.seg.Dir, aside); err != nil {
		return fmt.Errorf("put segment aside: %w", err)
	}
	return segment.SyncDir(e.cfg.Dir)
}
