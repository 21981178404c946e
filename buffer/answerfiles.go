package buffer

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func answerPath(dir string, id uint64, stream uint32) string {
	return filepath.Join(dir, outcomeDir, fmt.Sprintf("%016x-%06x%s", id, stream, answerExtension))
}

// saveAnswers makes a file of each stream's answers, durable when it returns.
// Those of a drain that was dropped meanwhile are nobody's.
func (e *Engine) saveAnswers(id uint64, all *answerSet) (saved []*answerSet, err error) {
	streamOf := map[uint32]uint32{}
	e.mu.Lock()
	for drain := range all.sizes {
		if d := e.drainNums[drain]; d != nil {
			streamOf[drain] = d.stream.num
		}
	}
	e.mu.Unlock()
	sets := map[uint32]*answerSet{}
	for k, encoded := range all.open {
		stream, ok := streamOf[k.drain]
		if !ok {
			continue
		}
		if sets[stream] == nil {
			sets[stream] = newAnswerSet()
		}
		sets[stream].add(k, all.newest, encoded)
	}
	for stream, s := range sets {
		path := answerPath(e.cfg.Dir, id, stream)
		if err := s.save(e.comp, path); err != nil {
			return nil, err
		}
		file, err := openAnswers(path)
		if err != nil {
			return nil, err
		}
		saved = append(saved, file)
	}
	return saved, nil
}

func openAnswers(path string) (*answerSet, error) {
	chunks, err := openChunks(path)
	if chunks == nil && err != nil {
		return nil, err
	}
	s := newAnswerSet()
	s.path, s.chunks = path, chunks
	for _, x := range chunks {
		s.newest = max(s.newest, x.h.Base)
	}
	return s, err
}

// loadAnswers opens every file of answers, oldest first.
func (e *Engine) loadAnswers() error {
	paths, err := filepath.Glob(filepath.Join(e.cfg.Dir, outcomeDir, "*"+answerExtension))
	if err != nil {
		return err
	}
	slices.SortFunc(paths, strings.Compare)
	for _, path := range paths {
		s, err := openAnswers(path)
		if s == nil {
			return err
		}
		if err != nil {
			e.log.Error("answers of sinks are damaged; receipts show their status alone", "err", err)
		}
		e.answerFiles = append(e.answerFiles, s)
	}
	return nil
}

// dropOldAnswers forgets what is past keep_delivered, and the oldest of each
// stream that has more than its bound. A file goes once all of it is forgotten.
func (e *Engine) dropOldAnswers(now time.Time) error {
	e.mu.Lock()
	held := map[*stream]int64{}
	for r := range e.openRecords() {
		for drain, size := range r.answers.sizes {
			if d := e.drainNums[drain]; d != nil {
				held[d.stream] += size
			}
		}
	}
	var old []string
	kept := make([]*answerSet, 0, len(e.answerFiles))
	for _, s := range slices.Backward(e.answerFiles) {
		if s = e.trimAnswers(s, now, held); len(s.chunks) > 0 {
			kept = append(kept, s)
		} else {
			old = append(old, s.path)
		}
	}
	slices.Reverse(kept)
	e.answerFiles = kept
	e.mu.Unlock()
	return e.removeRecords(old...)
}

// trimAnswers returns a set without the chunks that are too old or, with what is
// held of their stream already, too much; the newest are kept. The caller holds mu.
func (e *Engine) trimAnswers(s *answerSet, now time.Time, held map[*stream]int64) *answerSet {
	trimmed := *s // a copy, for those who look into the old one
	trimmed.chunks = nil
	byOffset := slices.SortedFunc(slices.Values(s.chunks), func(a, b chunk) int { return cmp.Compare(b.h.Durable, a.h.Durable) })
	for _, x := range byOffset {
		d := e.drainNums[x.h.Stream]
		if d == nil || now.Sub(time.UnixMilli(s.newest)) > d.stream.KeepDelivered {
			continue
		}
		if held[d.stream] += int64(x.size); held[d.stream] <= d.stream.KeepResultsBytes {
			trimmed.chunks = append(trimmed.chunks, x)
		}
	}
	return &trimmed
}
