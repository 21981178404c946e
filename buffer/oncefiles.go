package buffer

import (
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

// A file of idempotency records is named by the first and the last segment whose
// records are in it. Eight in a row become one, so that a look-up asks few filters.

const (
	onceFan = 8
	// onceMost bounds the records of a file that others were merged into. Larger ones stay
	// as they are: an outer filter of them takes a seventh of what merging them would.
	onceMost = 1 << 22
)

func oncePath(dir string, first, last uint64) string {
	return filepath.Join(dir, onceDirName, fmt.Sprintf("%016x-%016x.once", first, last))
}

// onceSpan is the segments whose records are in a file, or which a filter is of.
func onceSpan(path string) (first, last uint64, ok bool) {
	kind := ""
	_, err := fmt.Sscanf(filepath.Base(path), "%016x-%016x.%s", &first, &last, &kind)
	return first, last, err == nil && first <= last && slices.Contains([]string{"once", "filter", "outer"}, kind)
}

// saveOnces makes a file of the records of tables, oldest first, and its filter,
// durable when it returns. Of a key that was used again after its TTL the later
// record counts. Between chunks it calls rest, which may end it; nil: it does not.
func saveOnces(path string, c *block.Coder, tables []*onceTable, rest func() error) (damage, err error) {
	most := 0
	for _, t := range tables {
		most += int(t.dir.records)
	}
	var w *onceWriter
	err = writeFileFrom(path, func(to io.Writer) (err error) {
		w = newOnceWriter(to, c, most)
		damage, err = mergeOnces(tables, func(r onceRecord) error {
			if rest != nil && len(w.list) == 0 {
				if err := rest(); err != nil {
					return err
				}
			}
			return w.add(r)
		})
		if err != nil {
			return err
		}
		return w.flush()
	})
	if err != nil {
		return damage, err
	}
	return damage, saveFilter(path, c, w.dir, w.size, w.sum)
}

// openOnces opens a file of records. Its filter is made again where it is missing
// or damaged. What cannot be read is returned as damage beside a file that can be
// used; the records concerned are forgotten.
func openOnces(path string, c *block.Coder) (t *onceTable, damage, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open idempotency records: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("open idempotency records: %w", err)
	}
	t = &onceTable{path: path, file: f, coder: c, size: info.Size()}
	t.first, t.last, _ = onceSpan(path)
	err = t.mapFilter()
	if errors.Is(err, block.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		damage, err = t.rebuildFilter()
		if err == nil && t.dir.chunks() > 0 {
			err = t.mapFilter()
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open idempotency records: %w", err)
	}
	return t, damage, nil
}

// findOnceFile looks for a key in the files. It may read the disk, where a
// filter says that it is probably there.
func (e *Engine) findOnceFile(in onceFiles, key [16]byte, now time.Time) (r onceRecord, found bool, err error) {
	for _, t := range probably(in.shelves, key) {
		r, found, err := t.read(key)
		if errors.Is(err, block.ErrDamaged) {
			e.forgotten(err)
			continue
		}
		if errors.Is(err, fs.ErrClosed) {
			if e.oncesMoved(in.moves) {
				return r, false, errFilesMoved
			}
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

func (e *Engine) oncesMoved(since int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.onceMoves != since
}

// hasStream reports whether a stream was not given up since.
func (e *Engine) hasStream(num uint32) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byNum[num] != nil
}

// loadOnces opens every file of records, oldest first. What a merge has put into
// another file, and had no time to remove, is removed.
func (e *Engine) loadOnces() error {
	paths, err := filepath.Glob(filepath.Join(e.cfg.Dir, onceDirName, "*.once"))
	if err != nil {
		return err
	}
	paths = slices.DeleteFunc(paths, func(path string) bool { _, _, ok := onceSpan(path); return !ok })
	var files []*onceTable
	for _, path := range paths {
		if slices.ContainsFunc(paths, func(other string) bool { return covers(other, path) }) {
			if err := e.removeOnces(path); err != nil {
				return err
			}
			continue
		}
		t, damage, err := openOnces(path, e.comp)
		if err != nil {
			return err
		}
		if damage != nil {
			e.forgotten(damage)
		}
		files = append(files, t)
	}
	outers, err := e.loadOuters(files)
	if err != nil {
		return err
	}
	e.mu.Lock()
	useless := e.setOnces(files, outers)
	e.mu.Unlock()
	return e.dropOuters(useless)
}

// setOnces says which files of records there are, and which outer filters may be before
// them. It returns those that are of no use. The caller holds mu.
func (e *Engine) setOnces(files []*onceTable, outers []*outerFilter) (useless []*outerFilter) {
	e.onceFiles = files
	e.onceShelves, useless = shelve(files, outers)
	return useless
}

// outers are the outer filters in use. The caller holds mu.
func (e *Engine) outers() (all []*outerFilter) {
	for i := range e.onceShelves {
		if x := e.onceShelves[i].outer; x != nil {
			all = append(all, x)
		}
	}
	return all
}

// covers reports whether a file has all the segments of another, and more.
func covers(path, other string) bool {
	first, last, _ := onceSpan(path)
	of, ol, _ := onceSpan(other)
	return first <= of && last >= ol && last-first > ol-of
}

// forgotten says that records cannot be read.
func (e *Engine) forgotten(damage error) {
	e.log.Error("idempotency records are damaged; requests sent again may be stored again", "err", damage)
}

// removeOnces removes a file of records and its filter.
func (e *Engine) removeOnces(path string) error { return e.removeRecords(filterPath(path), path) }

// dropOldOnces removes the files of which every key's TTL is over.
func (e *Engine) dropOldOnces(now time.Time) error {
	e.mu.Lock()
	var old []*onceTable
	kept := make([]*onceTable, 0, len(e.onceFiles))
	for _, t := range e.onceFiles {
		if t.dir.until <= now.UnixMilli() {
			old = append(old, t)
		} else {
			kept = append(kept, t)
		}
	}
	if len(old) == 0 {
		e.mu.Unlock()
		return nil
	}
	useless := e.setOnces(kept, e.outers())
	e.mu.Unlock()
	return errors.Join(e.dropOnces(old), e.dropOuters(useless))
}

// dropOnces removes files that a look-up may be about to read: it is told that they are
// closed, and the disk has them back at once.
func (e *Engine) dropOnces(tables []*onceTable) error {
	for _, t := range tables {
		_ = t.file.Close() // it was read alone
		if err := e.removeOnces(t.path); err != nil {
			return err
		}
	}
	return nil
}
