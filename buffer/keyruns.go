package buffer

import (
	"iter"
	"maps"
	"slices"
	"sort"
)

// keyRun is how many entries are sorted at once. A look-up goes through as many that
// are not.
const keyRun = 1 << 16

// openKeys is the table of a segment that is not sealed, in memory, by stream. The
// committer alone adds to it, under mu; what is there does not change, so that readers
// take a copy of it and let go of mu.
type openKeys map[uint32]keyRuns

type keyRuns struct {
	runs  [][]keyEntry // sorted
	fresh []keyEntry
}

func (k openKeys) add(stream uint32, first uint64, list []keyEntry) {
	if len(list) == 0 {
		return
	}
	r := k[stream]
	for _, x := range list {
		r.fresh = append(r.fresh, keyEntry{x.hash, first + x.offset})
	}
	k[stream] = r
}

// gather is add where nobody else looks: what is enough for a run is sorted.
func (k openKeys) gather(stream uint32, list []keyEntry) {
	k.add(stream, 0, list)
	if r := k[stream]; len(r.fresh) >= keyRun {
		k[stream] = r.sort()
	}
}

// find appends the offsets of a hash.
func (r keyRuns) find(dst []uint64, hash uint64) []uint64 {
	for _, run := range r.runs {
		i := sort.Search(len(run), func(i int) bool { return run[i].hash >= hash })
		for ; i < len(run) && run[i].hash == hash; i++ {
			dst = append(dst, run[i].offset)
		}
	}
	for _, x := range r.fresh {
		if x.hash == hash {
			dst = append(dst, x.offset)
		}
	}
	return dst
}

// sort makes a run of what gathered.
func (r keyRuns) sort() keyRuns {
	if len(r.fresh) == 0 {
		return r
	}
	return keyRuns{runs: append(slices.Clip(r.runs), sortedEntries(r.fresh))}
}

// allRuns is every entry in sorted runs, by stream.
func allRuns(k openKeys) map[uint32][][]keyEntry {
	all := map[uint32][][]keyEntry{}
	for stream, r := range k {
		all[stream] = r.sort().runs
	}
	return all
}

// sortedKeys merges runs.
func sortedKeys(runs [][]keyEntry) iter.Seq[keyEntry] {
	return func(yield func(keyEntry) bool) {
		heap := slices.DeleteFunc(slices.Clone(runs), func(run []keyEntry) bool { return len(run) == 0 })
		for i := len(heap)/2 - 1; i >= 0; i-- {
			sift(heap, i)
		}
		for len(heap) > 0 {
			if !yield(heap[0][0]) {
				return
			}
			if heap[0] = heap[0][1:]; len(heap[0]) == 0 {
				heap[0] = heap[len(heap)-1]
				heap = heap[:len(heap)-1]
			}
			sift(heap, 0)
		}
	}
}

// sift puts the ith run where none below begins with a lesser entry.
func sift(heap [][]keyEntry, i int) {
	for {
		least := 2*i + 1
		if least >= len(heap) {
			return
		}
		if right := least + 1; right < len(heap) && compareEntries(heap[right][0], heap[least][0]) < 0 {
			least = right
		}
		if compareEntries(heap[i][0], heap[least][0]) <= 0 {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

// sortKeys sorts what gathered in the active segment, without holding mu. It is the
// committer's.
func (e *Engine) sortKeys() {
	for stream, r := range e.active.open {
		if len(r.fresh) < keyRun {
			continue
		}
		sorted := r.sort()
		e.mu.Lock()
		e.active.open[stream] = sorted
		e.mu.Unlock()
	}
}

// fileKeys makes the table of a segment that is being sealed. Where the disk does
// not take it, it stays in memory, or is made when somebody asks.
func (e *Engine) fileKeys(s *segmentRef) {
	e.mu.Lock()
	keyed, open := s.keyed, maps.Clone(s.open)
	e.mu.Unlock()
	if !keyed {
		e.dropOpenKeys(s)
		return
	}
	var err error
	if open != nil { // where a start could not read the blocks it is made at its first use
		err = e.saveKeys(s.seg.Dir, allRuns(open))
	}
	if err == nil {
		_, err = e.keyTableOf(s) // not at the first look-up: checking it reads all of it
	}
	if err != nil {
		e.log.Warn("a table of keys cannot be stored", "segment", s.seg.Dir, "err", err)
		return
	}
	e.dropOpenKeys(s)
}

func (e *Engine) dropOpenKeys(s *segmentRef) {
	e.mu.Lock()
	s.open = nil
	e.mu.Unlock()
}
