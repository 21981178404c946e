package buffer

import (
	"bytes"
	"iter"
	"maps"
	"slices"
)

// onceRun is how many records are sorted at once.
const onceRun = 1 << 16

// onceSet is the idempotency records of a segment that is not sealed, about 58 bytes
// each: the newest by key, the others in sorted runs, each with a filter. The
// committer alone adds to it, under mu.
type onceSet struct {
	fresh   map[[16]byte]onceRecord
	sorting map[[16]byte]onceRecord // a run in the making
	runs    []onceSorted
}

type onceSorted struct {
	records []onceRecord
	filter  bloom
}

func newOnceSet() *onceSet { return &onceSet{fresh: map[[16]byte]onceRecord{}} }

func (s *onceSet) add(r onceRecord) { s.fresh[r.Key] = r }

// len is how many records there are, those of a key that was used again included.
func (s *onceSet) len() int {
	n := len(s.fresh) + len(s.sorting)
	for _, run := range s.runs {
		n += len(run.records)
	}
	return n
}

// find returns the newest record of a key.
func (s *onceSet) find(key [16]byte) (r onceRecord, ok bool) {
	if r, ok = s.fresh[key]; ok {
		return r, true
	}
	if r, ok = s.sorting[key]; ok {
		return r, true
	}
	a, b := halves(key)
	for _, run := range slices.Backward(s.runs) {
		if !run.filter.has(a, b, filterProbes) {
			continue
		}
		if i, found := slices.BinarySearchFunc(run.records, key, compareKey); found {
			return run.records[i], true
		}
	}
	return r, false
}

func compareKey(r onceRecord, key [16]byte) int { return bytes.Compare(r.Key[:], key[:]) }

func sortedOnces(from map[[16]byte]onceRecord) onceSorted {
	run := onceSorted{make([]onceRecord, 0, len(from)), make(bloom, len(from)*filterBits/8+8)}
	for _, r := range from {
		run.records = append(run.records, r)
		a, b := halves(r.Key)
		run.filter.add(a, b, filterProbes)
	}
	slices.SortFunc(run.records, func(a, b onceRecord) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	return run
}

// settle makes a run of what gathered, where nobody else looks.
func (s *onceSet) settle() {
	if len(s.fresh) >= onceRun {
		s.runs = append(s.runs, sortedOnces(s.fresh))
		s.fresh = map[[16]byte]onceRecord{}
	}
}

// sortOnces is settle for the active segment, without holding mu meanwhile. It is
// the committer's.
func (e *Engine) sortOnces() {
	e.mu.Lock()
	s := e.records.onces
	if len(s.fresh) < onceRun {
		e.mu.Unlock()
		return
	}
	s.sorting, s.fresh = s.fresh, map[[16]byte]onceRecord{}
	e.mu.Unlock()
	run := sortedOnces(s.sorting)
	e.mu.Lock()
	s.runs, s.sorting = append(s.runs, run), nil
	e.mu.Unlock()
}

// merge adds what was gathered later.
func (s *onceSet) merge(later *onceSet) {
	s.settle()
	s.runs = append(s.runs, later.runs...)
	maps.Copy(s.fresh, later.fresh)
}

// sorted returns the newest record of each key, by key. Nothing is added any more.
func (s *onceSet) sorted() iter.Seq[onceRecord] {
	lists := make([][]onceRecord, 0, len(s.runs)+1)
	for _, run := range s.runs {
		lists = append(lists, run.records)
	}
	lists = append(lists, sortedOnces(s.fresh).records)
	return func(yield func(onceRecord) bool) {
		for {
			newest := -1
			for i, list := range lists {
				if len(list) > 0 && (newest < 0 || bytes.Compare(list[0].Key[:], lists[newest][0].Key[:]) <= 0) {
					newest = i
				}
			}
			if newest < 0 {
				return
			}
			r := lists[newest][0]
			for i, list := range lists {
				if len(list) > 0 && list[0].Key == r.Key {
					lists[i] = list[1:]
				}
			}
			if !yield(r) {
				return
			}
		}
	}
}
