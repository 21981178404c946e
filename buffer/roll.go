package buffer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"forebay/buffer/segment"
)

// roll ends the active segment: the next one takes the state and the batch in
// one commit, and only then may the old one be sealed. What has to be written on
// a full disk is written anyway: into a segment of just its size, without regard
// to min_free and max_bytes.
func (e *Engine) roll(b *batch, anyway bool) error {
	if !anyway && !e.standbyReady() {
		// Before the state is cut, which is not free.
		if err := e.room(e.cfg.SegmentBytes); err != nil {
			return err
		}
	}
	e.mu.Lock()
	// Changes and state are cut at the same instant, so that none is in both. What
	// belongs to the old segment stays where receipts find it.
	e.cut(b)
	snapshot, err := e.snapshot()
	old, records := e.active, e.records
	e.records = newRecords()
	if old != nil {
		old.records = records
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	n, size := b.size()
	more, bytes := snapshot.size()
	next, err := e.nextSegment(n+2*more, size+2*bytes, anyway)
	e.mu.Lock()
	if err != nil || old == nil {
		records.merge(e.comp, e.records) // of what recovery ended, or as if nothing had been tried
		e.records = records
	}
	if err != nil {
		if old != nil {
			old.records = nil
		}
		e.mu.Unlock()
		return err
	}
	e.active, e.count = next, 0
	e.segments = append(e.segments, next)
	e.mu.Unlock()
	e.encode(b, snapshot)
	if err := e.flush(b); err != nil || old == nil {
		return err
	}
	e.mu.Lock()
	old.phase = sealing
	e.mu.Unlock()
	signal(e.sweep)
	return nil
}

// rollAnyway is roll for changes alone on a full disk. Those that give segments
// up free more than they take: for them the ballast goes, until the janitor holds
// it again.
func (e *Engine) rollAnyway(b *batch) error {
	err := e.roll(b, true)
	if !errors.Is(err, ErrDiskFull) || len(b.gone) == 0 {
		return err
	}
	if err := e.dropBallast(); err != nil {
		return err
	}
	return e.roll(b, true)
}

func (e *Engine) standbyReady() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.standby != nil
}

// nextSegment returns the standby, or a segment made now where there is none
// or the commit needs a larger one. Segments are used in the order of their ids:
// by those a start knows which file of records is newer. So a standby that was
// passed over is given up.
func (e *Engine) nextSegment(n int, size int64, anyway bool) (*segmentRef, error) {
	e.mu.Lock()
	seg, id := e.standby, e.standbyID
	if seg != nil && seg.Fits(n, size) {
		e.standby = nil
		e.mu.Unlock()
		return &segmentRef{id: id, seg: seg, open: openKeys{}}, nil
	}
	e.lastID++
	id = e.lastID
	e.mu.Unlock()
	capacity := max(e.cfg.SegmentBytes, segment.CapacityFor(n, size))
	var err error
	if anyway {
		capacity = max(minSegmentBytes, segment.CapacityFor(n, size))
	} else if err = e.room(capacity); err != nil {
		return nil, err
	}
	seg, err = e.create(id, capacity)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	var passed *segment.Segment
	if e.standby != nil && e.standbyID < id {
		passed, e.standby = e.standby, nil
	}
	e.mu.Unlock()
	return &segmentRef{id: id, seg: seg, open: openKeys{}}, giveUp(passed)
}

// giveUp removes a segment that was never used; nil is none.
func giveUp(seg *segment.Segment) error {
	if seg == nil {
		return nil
	}
	if err := errors.Join(seg.Drop(), os.RemoveAll(seg.Dir)); err != nil {
		return fmt.Errorf("give up a segment: %w", err)
	}
	return nil
}

func (e *Engine) segmentDir(id uint64) string {
	return filepath.Join(e.cfg.Dir, fmt.Sprintf("seg-%016x", id))
}

// room says whether a segment may be made within the bounds of the disk:
// ErrDiskFull.
func (e *Engine) room(capacity int64) error {
	need := segment.Reserved(capacity)
	free, err := segment.Free(e.cfg.Dir)
	if err != nil {
		return err
	}
	if free-need < e.cfg.MinFree {
		return fmt.Errorf("%w: %d bytes are free, a segment takes %d, min_free keeps %d", ErrDiskFull, free, need, e.cfg.MinFree)
	}
	if used := e.used(); e.cfg.MaxBytes > 0 && used+need > e.cfg.MaxBytes {
		return fmt.Errorf("%w: %d bytes are used, a segment takes %d, max_bytes is %d", ErrDiskFull, used, need, e.cfg.MaxBytes)
	}
	return nil
}

// create reserves a segment, or fails with ErrDiskFull.
func (e *Engine) create(id uint64, capacity int64) (*segment.Segment, error) {
	e.mu.Lock()
	create := e.createSegment
	e.mu.Unlock()
	seg, err := create(e.segmentDir(id), capacity, e.log)
	if errors.Is(err, segment.ErrNoSpace) {
		return nil, fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return seg, err
}

// used is what the segments take on disk, in bytes.
func (e *Engine) used() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.usedLocked()
}

func (e *Engine) usedLocked() int64 {
	sum := int64(0)
	for _, s := range e.segments {
		if s.phase <= sealing {
			sum += max(s.bytes, segment.Reserved(e.cfg.SegmentBytes))
		} else {
			sum += s.bytes
		}
	}
	if e.standby != nil {
		sum += segment.Reserved(e.cfg.SegmentBytes)
	}
	return sum
}

// markUsed says that a directory holds blocks, so that one whose files were
// deleted is not taken for one that was never used.
func markUsed(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, usedFile), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("mark segment: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("mark segment: %w", err)
	}
	return segment.SyncDir(dir)
}
