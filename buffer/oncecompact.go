package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"forebay/buffer/segment"
)

// compactOnces lessens the filters that a look-up asks, as long as there is a row of
// files of which none is larger than the others together: so a record is written again,
// or its key read again, a few times at most. Small files become one, large ones get an
// outer filter.
func (e *Engine) compactOnces() error {
	for e.Err() == nil {
		e.mu.Lock()
		settled := e.settledOnces()
		merge, join := mergeable(settled), joinable(settled, e.outerMost())
		e.mu.Unlock()
		var err error
		switch {
		case merge != nil:
			err = e.mergeRow(merge)
		case join != nil && e.roomFor(outerLen(tablesOf(join))):
			err = e.joinRow(join)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mergeRow makes one file of several.
func (e *Engine) mergeRow(row []*onceTable) error {
	path := rowPath(e.cfg.Dir, row)
	damage, err := saveOnces(path, e.comp, row, e.paced().rest)
	if err != nil {
		return err
	}
	if damage != nil {
		e.forgotten(damage)
	}
	merged, _, err := openOnces(path, e.comp) // written a moment ago
	if err != nil {
		return err
	}
	return e.exchangeOnces(row, merged)
}

// roomFor reports whether the volume has so many bytes beside those that stay free.
func (e *Engine) roomFor(bytes int) bool {
	free, err := segment.Free(e.cfg.Dir)
	return err == nil && free-int64(bytes) >= e.cfg.MinFree
}

// joinRow makes one outer filter for all files of shelves. A file that cannot be read
// whole keeps its own.
func (e *Engine) joinRow(row []onceShelf) error {
	tables := tablesOf(row)
	path := outerPath(rowPath(e.cfg.Dir, tables))
	err := saveOuter(path, e.comp, tables, e.paced().rest)
	if bad, ok := errors.AsType[*unreadable](err); ok {
		e.mu.Lock()
		bad.table.apart = true
		e.mu.Unlock()
		e.log.Error("a file of idempotency records cannot be read whole; until the next start look-ups ask its filter by itself", "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	x, err := openOuter(path, e.comp, tables) // written a moment ago
	if err != nil {
		return err
	}
	e.mu.Lock()
	outers := slices.DeleteFunc(e.outers(), func(old *outerFilter) bool {
		return slices.ContainsFunc(row, func(s onceShelf) bool { return s.outer == old })
	})
	useless := e.setOnces(e.onceFiles, append(outers, x))
	e.mu.Unlock()
	if slices.Contains(useless, x) { // or it would be made again and again
		err = fmt.Errorf("%s is of no use: files are not in the order of their segments", path)
	}
	for i := range row {
		if old := row[i].outer; old != nil {
			useless = append(useless, old)
		}
	}
	return errors.Join(err, e.dropOuters(useless))
}

// rowPath is the file of all segments of a row.
func rowPath(dir string, row []*onceTable) string {
	return oncePath(dir, row[0].first, row[len(row)-1].last)
}

// dropOuters removes outer filters that are of no use any more.
func (e *Engine) dropOuters(useless []*outerFilter) (err error) {
	for _, x := range useless {
		if failed := os.Remove(x.path); failed != nil && !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove an outer filter: %w", failed))
		}
	}
	return err
}

// settledOnces is the shelves before the first with a file that the janitor is to write
// again, as a crash came between it and the end of its segment. The caller holds mu.
func (e *Engine) settledOnces() []onceShelf {
	again := func(t *onceTable) bool {
		return slices.ContainsFunc(e.segments, func(s *segmentRef) bool { return s.id == t.last && s.phase == sealing })
	}
	for i := range e.onceShelves {
		if slices.ContainsFunc(e.onceShelves[i].tables(), again) {
			return e.onceShelves[:i]
		}
	}
	return e.onceShelves
}

// mergeable is the first row of files that is worth merging, or nil.
func mergeable(in []onceShelf) []*onceTable {
	for i := 0; i+onceFan <= len(in); i++ {
		row := in[i : i+onceFan]
		sum, even := weigh(row)
		if sum <= onceMost && even && !slices.ContainsFunc(row, func(s onceShelf) bool { return s.outer != nil }) {
			return tablesOf(row)
		}
	}
	return nil
}

// joinable is the first row of shelves that is worth an outer filter, or nil. The caller
// holds Engine.mu.
func joinable(in []onceShelf, most uint64) []onceShelf {
	for i := range in {
		for j := i + outerFan; j <= min(i+onceFan, len(in)); j++ {
			if sum, even := weigh(in[i:j]); sum > onceMost && sum <= most && even && !anyApart(in[i:j]) {
				return in[i:j]
			}
		}
	}
	return nil
}

// anyApart reports whether a row has a file that could not be read whole.
func anyApart(row []onceShelf) bool {
	return slices.ContainsFunc(tablesOf(row), func(t *onceTable) bool { return t.apart })
}

// weigh counts the records of a row, and says whether none has more than all others.
func weigh(row []onceShelf) (sum uint64, even bool) {
	largest := uint64(0)
	for i := range row {
		n := row[i].records()
		sum, largest = sum+n, max(largest, n)
	}
	return sum, largest <= sum-largest
}

// exchangeOnces puts a file in the place of those that were merged into it, which go.
// Some of them may be gone already, past their last TTL.
func (e *Engine) exchangeOnces(row []*onceTable, merged *onceTable) error {
	e.mu.Lock()
	var files []*onceTable
	placed := false
	for _, t := range e.onceFiles {
		if !slices.Contains(row, t) {
			files = append(files, t)
		} else if !placed {
			files, placed = append(files, merged), true
		}
	}
	useless := e.setOnces(files, e.outers())
	e.onceMoves++ // who looks into the old ones looks again
	e.mu.Unlock()
	old := row
	if !placed {
		old = append(old, merged)
	}
	return errors.Join(e.dropOnces(old), e.dropOuters(useless))
}
