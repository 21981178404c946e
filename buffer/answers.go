package buffer

import (
	"cmp"
	"encoding/binary"
	"slices"

	"forebay/buffer/block"
)

// Answers of sinks live as outcomes do, in files of their own, one a segment and
// stream: they are large, and bounded by bytes for each stream.

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

// answerSet is the answers that belong to one segment: of all streams until they
// are files, then of one.
type answerSet struct {
	open   map[answerKey]string // encoded; until they are files
	sizes  map[uint32]int64     // of them, by drain
	bytes  int                  // their sum
	newest int64                // Unix ms
	path   string
	chunks []chunk
}

func newAnswerSet() *answerSet {
	return &answerSet{open: map[answerKey]string{}, sizes: map[uint32]int64{}}
}

func (s *answerSet) add(k answerKey, at int64, encoded string) {
	s.open[k] = encoded
	s.sizes[k.drain] += int64(len(encoded))
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
	for r := range e.openRecords() {
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
