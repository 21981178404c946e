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
	timer := time.NewTimer(seldom)
	defer timer.Stop()
	for {
		select {
		case <-e.sweep:
		case now := <-timer.C:
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
		if full {
			timer.Reset(often)
		} else {
			timer.Reset(seldom)
		}
	}
}

// keepHouse drops what was kept long enough.
func (e *Engine) keepHouse(now time.Time) {
	e.expireDead(now)
	if err := errors.Join(e.dropOldOutcomes(now), e.dropOldOnces(now)); err != nil {
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
			done = append(done, s)
		}
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
	seg, err := e.create(id, e.cfg.SegmentBytes)
	if err != nil && !errors.Is(err, ErrDiskFull) {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reserving = false
	if err != nil {
		return nil // the committer says so when it needs the space
	}
	e.standby, e.standbyID = seg, id
	if e.full != nil {
		e.full = nil
		e.log.Info("appends are taken again")
	}
	return nil
}

// sealSegment writes the outcomes that belong to a segment, closes it for
// writing and gives it an index. last says that no segment follows it.
func (e *Engine) sealSegment(s *segmentRef, last bool) error {
	var outcomes *outcomeSet
	if s.outcomes != nil && !s.outcomes.empty() {
		path := outcomePath(e.cfg.Dir, s.id)
		e.mu.Lock()
		s.outcomes.packAll(e.comp)
		e.mu.Unlock()
		err := s.outcomes.save(path)
		if err == nil {
			outcomes, err = openOutcomes(path)
		}
		if err != nil {
			return err
		}
	}
	onces, err := e.fileOnces(s)
	if err != nil {
		return err
	}
	if err := s.seg.Seal(); err != nil {
		return err
	}
	if err := e.writeIndex(s, last); err != nil {
		return err
	}
	size := dirSize(s.seg.Dir)
	e.mu.Lock()
	defer e.mu.Unlock()
	if outcomes != nil {
		e.outcomeFiles = append(e.outcomeFiles, outcomes)
	}
	if onces != nil {
		e.onceFiles = append(e.onceFiles, onces)
		e.onceMoves++
		for _, r := range s.onces {
			if x := e.onces[r.Key]; x != nil && x.group == nil && x.at == r.at {
				delete(e.onces, r.Key)
			}
		}
	}
	s.outcomes, s.onces, s.phase, s.bytes = nil, nil, sealed, size
	e.dropIfDone(s)
	return nil
}

// fileOnces makes a file of a segment's idempotency records.
func (e *Engine) fileOnces(s *segmentRef) (*onceFile, error) {
	if len(s.onces) == 0 {
		return nil, nil
	}
	path := oncePath(e.cfg.Dir, s.id)
	if err := saveOnces(path, s.onces); err != nil {
		return nil, err
	}
	return openOnces(path)
}

// sealAll is the end of a clean stop.
func (e *Engine) sealAll() error {
	e.mu.Lock()
	e.active.outcomes, e.active.onces = e.outcomes, e.onceList
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
	e.opened = slices.DeleteFunc(e.opened, func(x *segmentRef) bool { return x == s })
	touched := map[*stream]bool{}
	for _, b := range s.blocks {
		e.forget(b.blockRef)
		touched[b.stream] = true
	}
	for st := range touched {
		st.blocks = slices.DeleteFunc(st.blocks, func(b *blockRef) bool { return b.seg == s })
	}
	e.mu.Unlock()
	if err := s.seg.Drop(); err != nil {
		return err
	}
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
