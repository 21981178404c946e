package buffer

import (
	"bytes"
	"maps"
	"slices"

	"forebay/buffer/block"
)

const (
	// onceRun is how many records are sorted at once.
	onceRun = 1 << 16
	// onceFew is how many are looked through without a filter before them all.
	onceFew = 1 << 12
)

// onceSet is the idempotency records of a segment that is not sealed, about 33 bytes
// each: the newest by key, the others in tables. The committer alone adds to it,
// under mu.
type onceSet struct {
	fresh   map[[16]byte]onceRecord
	sorting map[[16]byte]onceRecord // a table in the making
	spare   map[[16]byte]onceRecord // empty, but as large as the next fresh will be; the committer's
	runs    []*onceTable            // oldest first
	seen    bloom                   // of all keys; nil: any may be there
}

func newOnceSet() *onceSet { return &onceSet{fresh: map[[16]byte]onceRecord{}} }

func (s *onceSet) add(r onceRecord) {
	s.fresh[r.Key] = r
	switch {
	case s.seen != nil:
		s.see(r.Key)
	case len(s.fresh) == onceFew && s.sorting == nil && s.runs == nil:
		s.seen = onceFilter(maxSegmentMessages)
		for key := range s.fresh {
			s.see(key)
		}
	}
}

func (s *onceSet) see(key [16]byte) {
	a, b := halves(key)
	s.seen.add(a, b, filterProbes)
}

// mayHave is cheap, and mostly false for a key that is not there.
func (s *onceSet) mayHave(key [16]byte) bool {
	a, b := halves(key)
	return s.seen == nil || s.seen.has(a, b, filterProbes)
}

// find returns the newest record of a key.
func (s *onceSet) find(key [16]byte) (r onceRecord, ok bool) {
	if !s.mayHave(key) {
		return r, false
	}
	if r, ok = s.fresh[key]; ok {
		return r, true
	}
	if r, ok = s.sorting[key]; ok {
		return r, true
	}
	for _, run := range probably(shelvesOf(s.runs), key) {
		// What is in memory is as it was made.
		if r, found, err := run.read(key); found && err == nil {
			return r, true
		}
	}
	return r, false
}

// onceRunOf makes a table in memory.
func onceRunOf(c *block.Coder, from map[[16]byte]onceRecord) *onceTable {
	list := slices.AppendSeq(make([]onceRecord, 0, len(from)), maps.Values(from))
	slices.SortFunc(list, func(a, b onceRecord) int { return compareKeys(a.Key, b.Key) })
	var data bytes.Buffer
	data.Grow(len(list) * 34)
	w := newOnceWriter(&data, c, len(list))
	for _, r := range list {
		_ = w.add(r) // a buffer takes all
	}
	_ = w.flush()
	return &onceTable{data: data.Bytes(), size: w.size, coder: c, dir: w.dir}
}

// settle makes a table of what gathered, where nobody else looks.
func (s *onceSet) settle(c *block.Coder, least int) {
	if len(s.fresh) >= least {
		s.runs = append(s.runs, onceRunOf(c, s.fresh))
		clear(s.fresh)
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
	full := s.fresh
	s.sorting, s.fresh, s.spare = full, s.spare, nil
	if s.fresh == nil {
		s.fresh = make(map[[16]byte]onceRecord, len(full))
	}
	e.mu.Unlock()
	run := onceRunOf(e.comp, full)
	e.mu.Lock()
	s.runs, s.sorting = append(s.runs, run), nil
	e.mu.Unlock()
	clear(full) // nobody looks into it any more
	s.spare = full
}

// merge adds what was gathered later.
func (s *onceSet) merge(c *block.Coder, later *onceSet) {
	if len(later.runs) > 0 {
		s.settle(c, 1)
		s.runs = append(s.runs, later.runs...)
		s.seen = nil
	}
	for _, r := range later.fresh {
		s.add(r)
	}
}

// tables are all records, as tables, oldest first. Nothing is added any more.
func (s *onceSet) tables(c *block.Coder) []*onceTable {
	s.spare = nil
	if len(s.fresh) == 0 {
		return s.runs
	}
	return append(slices.Clip(s.runs), onceRunOf(c, s.fresh))
}
