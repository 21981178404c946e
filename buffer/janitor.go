package buffer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"forebay/buffer/segment"
)

// janitor seals segments that are full, removes those that are done, and
// reserves the next, so that the committer does not wait for any of it.
func (e *Engine) janitor() {
	const often, seldom = time.Second, time.Minute
	retry := time.NewTicker(often) // where the disk was full
	defer retry.Stop()
	retry.Stop()
	house := time.NewTicker(seldom)
	defer house.Stop()
	for wasFull := false; ; {
		select {
		case <-e.sweep:
		case <-retry.C:
		case now := <-house.C:
			e.keepHouse(now)
		case <-e.stop:
			return
		case <-e.failed:
			return
		}
		if err := e.sweepOnce(); err != nil {
			e.fail(err)
			return
		}
		e.mu.Lock()
		full := e.full != nil
		e.mu.Unlock()
		switch {
		case full && !wasFull:
			retry.Reset(often)
		case !full:
			retry.Stop()
		}
		wasFull = full
	}
}

// keepHouse drops what was kept long enough.
func (e *Engine) keepHouse(now time.Time) {
	e.expireDead(now)
	if err := errors.Join(e.dropOldOutcomes(now), e.dropOldAnswers(now), e.dropOldOnces(now)); err != nil {
		e.log.Error("what is past its time stays", "err", err)
	}
}

func (e *Engine) sweepOnce() error {
	e.mu.Lock()
	var full, done []*segmentRef
	for _, s := range e.segments {
		switch s.phase {
		case sealing:
			full = append(full, s)
		case removable:
			if !s.held {
				done = append(done, s)
			}
		}
	}
	if e.standby != nil {
		e.takeAgain()
	}
	if e.full != nil && !e.delta.empty() {
		e.noteChange() // changes that found no space
	}
	reserve := (e.reserving || e.full != nil) && e.standby == nil
	e.mu.Unlock()
	for _, s := range full {
		if err := e.sealSegment(s, false); err != nil {
			return err
		}
	}
	for _, s := range done {
		if err := e.removeSegment(s); err != nil {
			return err
		}
	}
	if len(done) > 0 {
		_ = e.holdBallast() // mostly it is there; without space the next removal tries again
	}
	if reserve {
		return e.reserveStandby()
	}
	return nil
}

// reserveStandby makes the next segment ahead of its use.
func (e *Engine) reserveStandby() error {
	e.mu.Lock()
	e.lastID++
	id := e.lastID
	e.mu.Unlock()
	err := e.room(e.cfg.SegmentBytes)
	var seg *segment.Segment
	if err == nil {
		seg, err = e.create(id, e.cfg.SegmentBytes)
	}
	if err != nil && !errors.Is(err, ErrDiskFull) {
		return err
	}
	e.mu.Lock()
	e.reserving = false
	passed := e.lastID > id // the committer did not wait: see nextSegment
	if err == nil && !passed {
		e.standby, e.standbyID = seg, id
		e.takeAgain()
	}
	e.mu.Unlock()
	if passed {
		return giveUp(seg)
	}
	return nil // where there is no space, the committer says so when it needs it
}

// takeAgain ends the refusal of appends. The caller holds mu.
func (e *Engine) takeAgain() {
	if e.full != nil {
		e.full = nil
		e.log.Info("appends are taken again")
	}
}

// sealSegment makes files of the records that belong to a segment, closes it
// for writing and gives it an index. last says that no segment follows it.
func (e *Engine) sealSegment(s *segmentRef, last bool) error {
	if err := e.file(s); err != nil {
		return err
	}
	if err := s.seg.Seal(); err != nil {
		return err
	}
	e.fileKeys(s)
	size := dirSize(s.seg.Dir)
	if err := e.writeIndex(s, last, size); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.phase, s.bytes, s.controls = sealed, size, nil
	signal(e.sealedOne)
	e.dropIfDone(s)
	return nil
}

// sealAll is the end of a clean stop.
func (e *Engine) sealAll() error {
	e.mu.Lock()
	e.active.records = e.records
	var open []*segmentRef
	for _, s := range e.segments {
		if s.phase <= sealing {
			open = append(open, s)
		}
	}
	e.mu.Unlock()
	for _, s := range open {
		if err := e.sealSegment(s, s == e.active); err != nil {
			return err
		}
	}
	return nil
}

// removeSegment takes a directory away. Under its new name it is rubbish, and
// what a crash leaves of it is removed at the next start.
func (e *Engine) removeSegment(s *segmentRef) error {
	e.mu.Lock()
	e.segments = slices.DeleteFunc(e.segments, func(x *segmentRef) bool { return x == s })
	touched := map[*stream]bool{}
	for _, b := range s.blocks {
		e.forget(b.blockRef)
		touched[b.stream] = true
	}
	for st := range touched {
		st.blocks = slices.DeleteFunc(st.blocks, func(b *blockRef) bool { return b.seg == s })
	}
	e.mu.Unlock()
	s.keysOnce.Lock() // whoever makes its table of keys writes into the directory
	defer s.keysOnce.Unlock()
	return e.discard(s)
}

// discard renames a directory, durable when it returns, and then removes it.
func (e *Engine) discard(s *segmentRef) error {
	trash := filepath.Join(e.cfg.Dir, fmt.Sprintf("trash-%016x", s.id))
	if err := os.Rename(s.seg.Dir, trash); err != nil {
		return fmt.Errorf("remove segment: %w", err)
	}
	if err := segment.SyncDir(e.cfg.Dir); err != nil {
		return err
	}
	return removeTrash(trash)
}

// trashStep bounds how much one truncation frees: on a volume that discards
// what is freed, unlinking a large file at once holds up everyone's writes.
const trashStep = 64 << 20

func removeTrash(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("remove segment: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if info, err := entry.Info(); err == nil && strings.HasSuffix(path, ".vlog") {
			for size := info.Size() - trashStep; size > 0; size -= trashStep {
				if err := os.Truncate(path, size); err != nil {
					return fmt.Errorf("remove segment: %w", err)
				}
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove segment: %w", err)
	}
	return nil
}

// dirSize is what the files of a directory take on disk, in bytes.
func dirSize(dir string) int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0 // the directory is gone, and so are its bytes
	}
	sum := int64(0)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			sum += segment.DiskBytes(info)
		}
	}
	return sum
}
