package buffer

import (
	"cmp"
	"slices"

	"forebay/buffer/block"
)

// records are what a segment's changes leave behind once it is sealed: whose messages
// are and how they ended, what sinks answered, and idempotency keys. Each becomes a file.
type records struct {
	outcomes *outcomeSet
	answers  *answerSet
	onces    *onceSet
}

func newRecords() *records {
	return &records{outcomes: newOutcomeSet(), answers: newAnswerSet(), onces: newOnceSet()}
}

// merge adds what was gathered later.
func (r *records) merge(c *block.Coder, later *records) {
	r.outcomes.merge(c, later.outcomes)
	for k, encoded := range later.answers.open {
		r.answers.add(k, later.answers.newest, encoded)
	}
	r.onces.merge(c, later.onces)
}

// take adds what one change says.
func (r *records) take(c *block.Coder, op *operation) {
	switch op.code {
	case opFinish, opBury, opDropDead:
		r.outcomes.add(c, op.num, outcome{
			offset: op.offset, at: int64(op.at), accepted: int64(op.accepted),
			attempts: uint32(op.attempts), status: uint32(op.status), state: uint32(stateCode(op.state)),
		})
	case opOwner:
		r.outcomes.add(c, op.num, ownerEntry(op.offset, Owner(op.accepted)))
	case opAnswer:
		r.answers.add(answerKey{op.num, op.offset}, int64(op.at), op.name)
	case opOnce:
		r.onces.add(op.once())
		r.onces.settle(c, onceRun)
	}
}

// file makes files of the records of a segment, durable when it returns, and
// makes them known in place of what was in memory. A crash may have left files
// of the same names; they are replaced.
func (e *Engine) file(s *segmentRef) error {
	r := s.records
	if r == nil {
		return nil
	}
	e.mu.Lock()
	r.outcomes.packAll(e.comp)
	e.mu.Unlock()
	var outcomes *outcomeSet
	var answers []*answerSet
	var onces *onceTable
	var err error
	if path := outcomePath(e.cfg.Dir, s.id); !r.outcomes.empty() {
		if err = r.outcomes.save(path); err == nil {
			outcomes, err = openOutcomes(path)
		}
	}
	if err == nil {
		answers, err = e.saveAnswers(s.id, r.answers)
	}
	if tables := r.onces.tables(e.comp); err == nil && len(tables) > 0 && !e.merged(s.id) {
		path := oncePath(e.cfg.Dir, s.id, s.id)
		if _, err = saveOnces(path, e.comp, tables, nil); err == nil {
			onces, _, err = openOnces(path, e.comp) // written a moment ago
		}
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.outcomeFiles = replace(e.outcomeFiles, outcomes, func(x *outcomeSet) string { return x.path })
	for _, x := range answers {
		e.answerFiles = replace(e.answerFiles, x, func(x *answerSet) string { return x.path })
	}
	files := replace(e.onceFiles, onces, func(x *onceTable) string { return x.path })
	if onces != nil {
		// A segment that is sealed again is not the newest: in the order of segments the newest
		// record of a key is found, and what is in a row can be merged.
		slices.SortFunc(files, func(a, b *onceTable) int { return cmp.Compare(a.first, b.first) })
	}
	useless := e.setOnces(files, e.outers())
	e.onceMoves++
	s.records = nil
	e.mu.Unlock()
	return e.dropOuters(useless)
}

// merged reports whether a segment's idempotency records are in a file with those of others.
func (e *Engine) merged(id uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.onceFiles, func(t *onceTable) bool { return t.first <= id && id <= t.last && t.first < t.last })
}

// replace returns a new list, for those who still read the old one, with x at
// the end and without an entry of the same path. A nil x changes nothing.
func replace[T any](list []*T, x *T, path func(*T) string) []*T {
	if x == nil {
		return list
	}
	var out []*T
	for _, old := range list {
		if path(old) != path(x) {
			out = append(out, old)
		}
	}
	return append(out, x)
}
