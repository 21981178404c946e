package buffer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// Recovery says what a start found.
type Recovery struct {
	Segments int           // directories with blocks
	Scanned  int           // of them, those that were not sealed and were read whole
	Blocks   int           // of messages
	Messages uint64        // unfinished, summed over the drains
	Damaged  int           // messages that were lost to damage, found at this start
	Carried  int           // blocks written again because their segment is damaged
	Clear    int           // segments that are not encrypted, of a directory that is
	Lost     int           // blocks that had been made durable and are not there: the disk lost what it confirmed
	Duration time.Duration // from the first look to being able to serve
}

// segment found on disk.
type foundSegment struct {
	ref   *segmentRef
	index *index // nil: not sealed
	scan  []scanned
	top   uint64 // the highest seq seen in it
	holes int    // blocks that are missing between the others
	segment.Found
}

// scanned is one block of a segment that was not sealed.
type scanned struct {
	block.Header
	at      uint32 // in the log
	size    uint32
	kept    uint32 // messages
	payload string // of control and snapshot blocks
}

// recover makes the state from what is on disk. Up to the point where the new
// active segment is made it only reads.
func (e *Engine) recover(ctx context.Context) error {
	begin := time.Now()
	for _, sub := range []string{"", outcomeDir, onceDirName} {
		if err := removeTemporary(filepath.Join(e.cfg.Dir, sub)); err != nil {
			return err
		}
	}
	segs, err := e.findSegments(ctx)
	if err != nil {
		return err
	}
	if err := e.checkKey(segs); err != nil {
		return err
	}
	if err := errors.Join(e.loadOutcomes(), e.loadAnswers(), e.loadOnces()); err != nil {
		return err
	}
	if err := e.makeState(segs); err != nil {
		return err
	}
	e.countClear(segs)
	for _, s := range e.streams {
		e.recovery.Damaged += e.buryHoles(s)
	}
	for _, f := range segs {
		e.segments = append(e.segments, f.ref)
	}
	for _, d := range e.drains {
		e.endAttempts(d)
		d.buried = maps.Clone(d.deadBy)
	}
	if err := e.begin(); err != nil {
		return err
	}
	if e.isNew {
		if err := writeFormat(e.cfg.Dir, ""); err != nil {
			return err
		}
	}
	for _, f := range segs {
		if f.index == nil {
			if err := e.adopt(f); err != nil {
				return err
			}
		}
	}
	for _, d := range e.drains {
		if err := e.openKeys(d); err != nil {
			return err
		}
	}
	e.mu.Lock()
	for _, s := range slices.Clone(e.segments) {
		e.dropIfDone(s)
	}
	for _, d := range e.drains {
		e.recovery.Messages += d.unfinished(d.stream.next)
	}
	e.mu.Unlock()
	e.looked = e.active.last
	e.recovery.Segments, e.recovery.Duration = len(segs), time.Since(begin)
	if err := e.holdBallast(); err != nil {
		e.log.Warn("no space is held back for a start on a full disk", "err", err)
	}
	return nil
}

// makeState makes the state and the places of blocks from the segments, and changes
// nothing on disk.
func (e *Engine) makeState(segs []*foundSegment) error {
	damage := e.checkCommits(segs)
	taken := e.takeFrom(segs)
	live, err := e.loadState(segs, damage)
	taken.Wait()
	if err != nil {
		return err
	}
	if err := checkWhole(e.cfg.Dir, segs, live); err != nil {
		if !damage {
			return err
		}
		// The block that said why it is gone may be the one that is damaged.
		e.log.Error("segments are missing, and blocks of changes are damaged; what was in them counts as damaged", "err", err)
	}
	e.placeBlocks(segs)
	for _, s := range e.streams {
		s.settle()
	}
	return nil
}

// findSegments reads the index of every sealed segment and scans the others.
func (e *Engine) findSegments(ctx context.Context) ([]*foundSegment, error) {
	ids, err := segmentIDs(e.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var segs []*foundSegment
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e.lastID = max(e.lastID, id)
		f, err := e.examine(id)
		if err != nil {
			return nil, err
		}
		segs = append(segs, f)
	}
	return segs, e.scanAll(segs)
}

// segmentIDs are those of a directory, in order.
func segmentIDs(dir string) (ids []uint64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	for _, entry := range entries {
		hex, ok := strings.CutPrefix(entry.Name(), "seg-")
		if id, err := strconv.ParseUint(hex, 16, 64); ok && err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// scanAll reads the segments that are not sealed, each on a goroutine of its own: two
// of them, mostly, the second one about to be sealed when the process ended.
func (e *Engine) scanAll(segs []*foundSegment) error {
	errs := make([]error, len(segs))
	var all sync.WaitGroup
	for i, f := range segs {
		if f.index == nil {
			e.recovery.Scanned++
			all.Go(func() { errs[i] = e.scan(f) })
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

func (e *Engine) examine(id uint64) (*foundSegment, error) {
	dir := e.segmentDir(id)
	f := &foundSegment{ref: &segmentRef{id: id, seg: segment.Sealed(dir), phase: sealed}}
	x, err := readIndex(e.comp, dir)
	if err != nil && !errors.Is(err, block.ErrDamaged) {
		return nil, err
	}
	if err != nil {
		e.log.Error("the index of a segment is damaged; it is made again from the blocks", "segment", dir, "err", err)
	}
	if err := checkFiles(dir, x != nil); err != nil {
		return nil, err
	}
	if f.index = x; x != nil {
		f.ref.first, f.ref.last, f.ref.bytes, f.ref.controls = x.first, x.end, x.bytes, x.controls
		return f, nil
	}
	f.ref.phase = sealing
	return f, nil
}

func (e *Engine) scan(f *foundSegment) (err error) {
	f.Found, err = segment.Scan(f.ref.seg.Dir, e.comp.Sealer, func(at int64, h block.Header, payload, raw []byte) error {
		b := scanned{Header: h, at: uint32(at), size: uint32(len(raw)), kept: h.Count}
		if h.Kind == block.Messages && h.Flags&block.Rewritten == 0 {
			f.scan = append(f.scan, b)
			return nil
		}
		unpacked, err := e.comp.Unpack(h, payload)
		if err != nil {
			return err
		}
		if h.Kind != block.Messages {
			b.payload = asString(unpacked)
		} else if dec, err := decode(h, unpacked); err == nil {
			b.kept = uint32(len(dec.at))
		}
		f.scan = append(f.scan, b)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(f.scan, func(a, b scanned) int { return int(int64(a.Seq - b.Seq)) })
	if n := len(f.scan); n > 0 {
		f.ref.first, f.ref.last = f.scan[0].Seq, f.scan[n-1].Seq
		f.top = f.ref.last
	}
	return nil
}

// checkCommits compares what is there with what was durable: every block says
// up to which one that was when it was written. A commit beyond it that is not
// whole was under way when the process ended; nobody was answered for it, and it
// is left out. It reports whether anything is missing that was durable.
func (e *Engine) checkCommits(segs []*foundSegment) (damage bool) {
	durable := uint64(0)
	for _, f := range segs {
		if f.index != nil {
			durable = max(durable, f.index.end)
		}
		for _, b := range f.scan {
			durable = max(durable, b.Durable)
		}
	}
	for _, f := range segs {
		if f.index != nil {
			continue
		}
		f.dropOpenCommit(durable, e.log)
		damage = damage || f.Damaged > 0
		for i, b := range f.scan {
			if i > 0 {
				f.holes += int(b.Seq - f.scan[i-1].Seq - 1)
			}
			if b.Kind != block.Messages {
				f.ref.controls = append(f.ref.controls, controlBlock{b.Seq, b.at, b.size})
			}
		}
		if n := len(f.scan); n > 0 && f.top >= durable && f.scan[n-1].Seq < durable {
			f.holes += int(durable - f.scan[n-1].Seq)
		}
		if f.holes > 0 {
			damage = true
			e.corrupt += uint64(f.holes)
			e.recovery.Lost += f.holes
			e.log.Error("blocks are missing that had been made durable; this disk lost what it had confirmed", "segment", f.ref.seg.Dir, "blocks", f.holes)
		}
	}
	return damage
}

// dropOpenCommit leaves out what lies beyond the durable blocks, unless it is
// one whole commit.
func (f *foundSegment) dropOpenCommit(durable uint64, log *slog.Logger) {
	i := sort.Search(len(f.scan), func(i int) bool { return f.scan[i].Seq > durable })
	open := f.scan[i:]
	if len(open) == 0 {
		return
	}
	last := open[len(open)-1]
	if last.Flags&block.Last != 0 && last.Seq-durable == uint64(len(open)) {
		return
	}
	log.Warn("a commit was cut short by the end of the process; it was not answered and is left out", "segment", f.ref.seg.Dir, "blocks", len(open))
	f.scan = f.scan[:i]
}

// checkFiles refuses a segment that had blocks and whose files are missing.
func checkFiles(dir string, isSealed bool) error {
	_, err := os.Stat(filepath.Join(dir, usedFile))
	if !isSealed && err != nil {
		return nil // it never had a commit
	}
	missing := "MANIFEST"
	if _, err := os.Stat(filepath.Join(dir, missing)); err == nil {
		if _, err := os.Stat(filepath.Join(dir, segment.LogFile)); err == nil {
			return nil
		}
		missing = "value log"
	}
	return refusal{fmt.Errorf("data directory is half deleted: segment %s has no %s; restore it from a backup, or move the data directory away to start empty", dir, missing)}
}

// control is a control or snapshot block, wherever it is.
type control struct {
	controlBlock
	seg     *foundSegment
	h       block.Header
	payload string
}

// loadState applies the newest snapshot and the changes after it. It returns
// the segments that have to be there.
func (e *Engine) loadState(segs []*foundSegment, damage bool) (live map[uint64]bool, err error) {
	var all []control
	for _, f := range segs {
		if f.index == nil {
			for _, b := range f.scan {
				if b.Kind != block.Messages {
					all = append(all, control{controlBlock{b.Seq, b.at, b.size}, f, b.Header, b.payload})
				}
			}
			continue
		}
		for _, c := range f.index.controls {
			all = append(all, control{controlBlock: c, seg: f})
		}
	}
	slices.SortFunc(all, func(a, b control) int { return int(int64(a.seq - b.seq)) })
	corrupt := e.corrupt
	snapshot, changes, err := e.newestSnapshot(all)
	if err != nil {
		return nil, err
	}
	if snapshot == nil && len(all) > 0 {
		return nil, refusal{fmt.Errorf("data directory %s has no snapshot that can be read; restore it from a backup", e.cfg.Dir)}
	}
	if snapshot != nil {
		e.snapshotSeq = snapshot[0].seq
	}
	live = map[uint64]bool{}
	if err := e.applyAll(snapshot, live); err != nil {
		return nil, err
	}
	if damage || e.corrupt > corrupt {
		if err := e.readNames(droppedBy(changes)); err != nil {
			return nil, err
		}
	}
	return live, e.applyAll(changes, live)
}

func (e *Engine) applyAll(blocks []control, live map[uint64]bool) error {
	for _, c := range blocks {
		if at := fromMillis(uint64(c.h.Base)); at.After(e.clock) {
			e.clock = at
		}
		err := eachOp(c.payload, func(op *operation) error {
			switch op.code {
			case opLive:
				live[op.offset] = true
			case opGone:
				delete(live, op.offset)
			}
			e.apply(op)
			return nil
		})
		if err != nil {
			return fmt.Errorf("recover block %d: %w", c.seq, err)
		}
	}
	return nil
}

// droppedBy is the numbers of the streams and drains that changes drop.
func droppedBy(changes []control) map[uint32]bool {
	dropped := map[uint32]bool{}
	for _, c := range changes {
		// An error is met again where the block is applied.
		_ = eachOp(c.payload, func(op *operation) error {
			if op.code == opDropDrain || op.code == opDropStream {
				dropped[op.num] = true
			}
			return nil
		})
	}
	return dropped
}

// newestSnapshot goes backwards to the newest snapshot of which every part can
// be read, and returns it with the changes after it, both in order.
func (e *Engine) newestSnapshot(all []control) (snapshot, changes []control, err error) {
	for i := len(all) - 1; i >= 0; i-- {
		c := &all[i]
		if c.seg.index != nil {
			if err := e.loadControl(c); errors.Is(err, block.ErrDamaged) {
				e.corrupt++
				e.log.Error("a block of changes is damaged; what it said is forgotten", "segment", c.seg.ref.seg.Dir, "block", c.seq, "err", err)
				snapshot = nil
				continue
			} else if err != nil {
				return nil, nil, err
			}
		}
		if c.h.Kind == block.Control {
			changes = append(changes, *c)
			continue
		}
		snapshot = append(snapshot, *c)
		if want := uint64(c.h.Count) - uint64(len(snapshot)); c.h.First != want {
			snapshot = nil // a part of it is missing
		}
		if len(snapshot) > 0 && c.h.First == 0 {
			slices.Reverse(snapshot)
			slices.Reverse(changes)
			return snapshot, changes, nil
		}
	}
	return nil, nil, nil
}

func (e *Engine) loadControl(c *control) error {
	data := make([]byte, c.size)
	if err := c.seg.ref.seg.Read(data, int64(c.at)); err != nil {
		return err
	}
	h, payload, err := e.comp.Open(data)
	if err == nil && h.Seq != c.seq {
		err = fmt.Errorf("%w: block %d is where the index says %d", block.ErrDamaged, h.Seq, c.seq)
	}
	if err != nil {
		return err
	}
	raw, err := e.comp.Unpack(h, payload)
	if err != nil {
		return err
	}
	c.h, c.payload = h, asString(raw)
	return nil
}

// checkWhole compares the segments with what the state says has to be there.
func checkWhole(dir string, segs []*foundSegment, live map[uint64]bool) error {
	hint := "; restore it from a backup, or move the data directory away to start empty"
	var newest *foundSegment
	for _, f := range segs {
		delete(live, f.ref.id)
		if newest == nil || f.ref.last > newest.ref.last {
			newest = f
		}
	}
	if len(live) > 0 {
		ids := slices.Sorted(maps.Keys(live))
		return refusal{fmt.Errorf("data directory %s is half deleted: seg-%016x is missing, with messages that were not delivered (%d segments in all)%s", dir, ids[0], len(ids), hint)}
	}
	if newest != nil && newest.index != nil && !newest.index.last {
		return refusal{fmt.Errorf("data directory %s is half deleted: the segment after seg-%016x is missing%s", dir, newest.ref.id, hint)}
	}
	return nil
}

// begin removes rubbish and makes the new active segment with a snapshot.
func (e *Engine) begin() error {
	trash, err := filepath.Glob(filepath.Join(e.cfg.Dir, "trash-*"))
	if err != nil {
		return err
	}
	for _, dir := range trash {
		if err := removeTrash(dir); err != nil {
			return err
		}
	}
	if err := e.keepKey(); err != nil {
		return err
	}
	b := &batch{group: newGroup()}
	if err = e.roll(b, false); errors.Is(err, ErrDiskFull) {
		// A start has to write, or what is buffered never drains.
		e.log.Warn("the disk is full; recovery uses the space that is held back", "err", err)
		err = e.roll(b, true)
	}
	if errors.Is(err, ErrDiskFull) {
		if err := e.dropBallast(); err != nil {
			return err
		}
		err = e.roll(b, true)
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.indexBatch(b)
	return nil
}
