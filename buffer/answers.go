package buffer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"forebay/buffer/block"
)

// Answers of sinks live as outcomes do, in files of their own, since they are
// large and bounded by bytes: the oldest file goes first.

const (
	// answerMemory is how much of them the open segment may hold before it ends.
	answerMemory    = 64 << 20
	answerChunk     = 64 << 10 // bytes that a look-up unpacks, or one answer
	answerExtension = ".ans"
)

// answerKey says whose an answer is.
type answerKey struct {
	drain  uint32
	offset uint64
}

// answerSet is the answers that belong to one segment.
type answerSet struct {
	open   map[answerKey]string // encoded; until they are a file
	bytes  int
	newest int64 // Unix ms
	path   string
	chunks []chunk
}

func newAnswerSet() *answerSet { return &answerSet{open: map[answerKey]string{}} }

func (s *answerSet) add(k answerKey, at int64, encoded string) {
	s.open[k] = encoded
	s.bytes += len(encoded)
	s.newest = max(s.newest, at)
}

func encodeAnswer(a *Answer) string {
	b := binary.AppendUvarint(nil, b2u(a.Truncated))
	b = binary.AppendUvarint(b, uint64(len(a.Header)))
	for _, f := range a.Header {
		b = block.AppendString(b, f.Name)
		b = block.AppendString(b, f.Value)
	}
	return string(block.AppendString(b, a.Body))
}

func decodeAnswer(encoded string) (*Answer, error) {
	if encoded == "" {
		return nil, nil
	}
	r := block.NewReader(encoded)
	a := &Answer{Truncated: r.Uint() == 1}
	for range r.Count(2) {
		a.Header = append(a.Header, Field{Name: r.String(), Value: r.String()})
	}
	a.Body = []byte(r.String())
	return a, r.Err()
}

// forgetAnswer makes the answer that buried a message not that of its next
// attempt. The caller holds mu.
func (e *Engine) forgetAnswer(d *drain, offset uint64, at int64) {
	e.storeAnswer(d, offset, at, "")
}

// keepAnswer stores what a sink said of a message. The caller holds mu.
func (e *Engine) keepAnswer(d *drain, offset uint64, at int64, a *Answer) {
	if a == nil {
		return
	}
	e.storeAnswer(d, offset, at, encodeAnswer(a))
}

func (e *Engine) storeAnswer(d *drain, offset uint64, at int64, encoded string) {
	e.delta.op(opAnswer, uint64(d.num), offset, uint64(at))
	e.delta.text(encoded)
	e.records.answers.add(answerKey{d.num, offset}, at, encoded)
}

// save makes a file of the set, durable when it returns.
func (s *answerSet) save(c *block.Coder, path string) error {
	keys := make([]answerKey, 0, len(s.open))
	for k := range s.open {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b answerKey) int {
		return cmp.Or(cmp.Compare(a.drain, b.drain), cmp.Compare(a.offset, b.offset))
	})
	var file []byte
	for len(keys) > 0 {
		h := block.Header{Kind: block.Answers, Stream: keys[0].drain, First: keys[0].offset, Base: s.newest}
		var raw []byte
		for len(keys) > 0 && keys[0].drain == h.Stream && (len(raw) == 0 || len(raw)+len(s.open[keys[0]]) <= answerChunk) {
			raw = binary.AppendUvarint(raw, keys[0].offset)
			raw = block.AppendString(raw, s.open[keys[0]])
			h.Durable = keys[0].offset
			h.Count++
			keys = keys[1:]
		}
		payload, codec := c.Pack(raw)
		h.Codec, h.RawLen = codec, uint32(len(raw))
		file = c.Seal(file, &h, payload)
	}
	return writeFile(path, file)
}

// find returns what the set says of a message: found without an answer is one
// that was forgotten. It may read the file.
func (s *answerSet) find(c *block.Coder, k answerKey) (a *Answer, found bool, err error) {
	if encoded, ok := s.open[k]; ok {
		a, err = decodeAnswer(encoded)
		return a, true, err
	}
	for _, x := range s.chunks {
		if x.h.Stream != k.drain || k.offset < x.h.First || k.offset > x.h.Durable {
			continue
		}
		sealed, err := x.load(s.path)
		if err != nil {
			return nil, false, err
		}
		h, payload, err := c.Open(sealed)
		if err != nil {
			return nil, false, err
		}
		raw, err := c.Unpack(h, payload)
		if err != nil {
			return nil, false, err
		}
		r := block.NewReader(asString(raw))
		for r.Len() > 0 {
			if offset, encoded := r.Uint(), r.String(); offset == k.offset && r.Err() == nil {
				a, err = decodeAnswer(encoded)
				return a, true, err
			}
		}
		if err := r.Err(); err != nil {
			return nil, false, err
		}
	}
	return nil, false, nil
}

// answer looks up what a sink said of a message. It may read the disk.
func (e *Engine) answer(drain uint32, offset uint64) *Answer {
	k := answerKey{drain, offset}
	e.mu.Lock()
	for _, r := range e.openRecords() {
		if a, found, err := r.answers.find(e.comp, k); found || err != nil {
			e.mu.Unlock()
			return a
		}
	}
	files := e.answerFiles
	e.mu.Unlock()
	for _, s := range slices.Backward(files) {
		a, found, err := s.find(e.comp, k)
		if err != nil {
			e.log.Error("a sink's answer cannot be read", "err", err)
			return nil
		}
		if found {
			return a
		}
	}
	return nil
}

func answerPath(dir string, id uint64) string {
	return filepath.Join(dir, "outcomes", fmt.Sprintf("%016x%s", id, answerExtension))
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
		s.bytes += x.size
	}
	return s, err
}

// loadAnswers opens every file of answers, oldest first.
func (e *Engine) loadAnswers() error {
	paths, err := filepath.Glob(filepath.Join(e.cfg.Dir, "outcomes", "*"+answerExtension))
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

// dropOldAnswers removes files past every keep_delivered, and the oldest while
// one stream has more than its bound.
func (e *Engine) dropOldAnswers(now time.Time) error {
	e.mu.Lock()
	bytes := map[*stream]int64{}
	var old []string
	kept := make([]*answerSet, 0, len(e.answerFiles))
	for _, s := range slices.Backward(e.answerFiles) {
		if e.keepsAnswers(s, now, bytes) {
			kept = append(kept, s)
		} else {
			old = append(old, s.path)
		}
	}
	slices.Reverse(kept)
	e.answerFiles = kept
	e.mu.Unlock()
	var errs []error
	for _, path := range old {
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}

func (e *Engine) keepsAnswers(s *answerSet, now time.Time, bytes map[*stream]int64) bool {
	young := false
	for _, x := range s.chunks {
		d := e.drainNums[x.h.Stream]
		if d == nil {
			continue
		}
		bytes[d.stream] += int64(x.size)
		if bytes[d.stream] > d.stream.KeepResultsBytes {
			return false
		}
		young = young || now.Sub(time.UnixMilli(s.newest)) <= d.stream.KeepDelivered
	}
	return young
}
