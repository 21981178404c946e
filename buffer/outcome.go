package buffer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"forebay/buffer/block"
)

// The outcome log remembers how messages ended, for receipts, after the
// messages themselves are gone. An outcome is stored with the change that made
// it, in the open segment; when that is sealed, its outcomes become a file of
// their own, which is removed whole after keep_delivered.

// outcome is how one message ended with one drain.
type outcome struct {
	offset       uint64
	at, accepted int64 // Unix ms
	attempts     uint32
	status       uint32
	state        uint32 // index in stateCodes
}

// outcomeDir is where outcomes and answers of sealed segments are.
const outcomeDir = "outcomes"

// outcomesPerChunk bounds what a look-up unpacks. 4,096 take about 3 bytes each.
const outcomesPerChunk = 4096

// chunk is outcomes of one drain in a row, packed, sorted by offset. An
// envelope holds them: its stream is the drain, first and durable are the least
// and the greatest offset, base is the time of the newest.
type chunk struct {
	h    block.Header
	data []byte // sealed block; nil once it is in a file
	pos  int64  // in the file
	size int
}

// outcomeSet is the outcomes that belong to one segment.
type outcomeSet struct {
	open   map[uint32]*[]outcome // by drain, not packed yet; none is empty
	spare  []outcome             // the memory of one that was packed
	chunks []chunk
	path   string // once it is a file
	newest int64  // Unix ms
	// finished is when all that the set says the owners of was first seen to be finished.
	finished time.Time
}

func newOutcomeSet() *outcomeSet { return &outcomeSet{open: map[uint32]*[]outcome{}} }

func (s *outcomeSet) empty() bool { return len(s.open) == 0 && len(s.chunks) == 0 }

func (s *outcomeSet) add(c *block.Coder, drain uint32, o outcome) {
	list := s.open[drain]
	if list == nil {
		list = new([]outcome)
		*list, s.spare = s.spare, nil
		s.open[drain] = list
	}
	*list = append(*list, o)
	s.newest = max(s.newest, o.at)
	if len(*list) == outcomesPerChunk {
		s.pack(c, drain)
	}
}

func (s *outcomeSet) pack(c *block.Coder, drain uint32) {
	list := *s.open[drain]
	byOffset := func(a, b outcome) int { return cmp.Compare(a.offset, b.offset) }
	if !slices.IsSortedFunc(list, byOffset) {
		slices.SortStableFunc(list, byOffset) // of a replayed message the last outcome counts
	}
	raw := make([]byte, 0, 16*len(list))
	h := block.Header{Kind: block.Outcomes, Stream: drain, First: list[0].offset, Durable: list[len(list)-1].offset, Count: uint32(len(list))}
	// By column, as differences: most of them are the same small number.
	last := list[0].offset
	for _, o := range list {
		raw = binary.AppendUvarint(raw, o.offset-last)
		last, h.Base = o.offset, max(h.Base, o.at)
	}
	for _, column := range outcomeColumns {
		last := int64(0)
		for i := range list {
			v := column(&list[i])
			raw = binary.AppendVarint(raw, *v-last)
			last = *v
		}
	}
	for _, o := range list {
		raw = binary.AppendUvarint(raw, uint64(o.attempts))
		raw = binary.AppendUvarint(raw, uint64(o.status))
		raw = binary.AppendUvarint(raw, uint64(o.state))
	}
	h.RawLen = uint32(len(raw))
	var payload []byte
	payload, h.Codec = c.Pack(raw)
	data := c.Seal(nil, &h, payload)
	s.chunks = append(s.chunks, chunk{h: h, data: data, size: len(data)})
	s.spare = list[:0]
	delete(s.open, drain)
}

var outcomeColumns = [...]func(*outcome) *int64{
	func(o *outcome) *int64 { return &o.at },
	func(o *outcome) *int64 { return &o.accepted },
}

func unpackOutcomes(c *block.Coder, sealed []byte) ([]outcome, error) {
	h, payload, err := c.Open(sealed)
	if err != nil {
		return nil, err
	}
	raw, err := c.Unpack(h, payload)
	if err != nil {
		return nil, err
	}
	if uint64(h.Count) > uint64(len(raw)) {
		return nil, fmt.Errorf("%w: %d outcomes in %d bytes", block.ErrDamaged, h.Count, len(raw))
	}
	r, list := block.NewReader(asString(raw)), make([]outcome, h.Count)
	last := h.First
	for i := range list {
		last += r.Uint()
		list[i].offset = last
	}
	for _, column := range outcomeColumns {
		last := int64(0)
		for i := range list {
			last += r.Int()
			*column(&list[i]) = last
		}
	}
	for i := range list {
		list[i].attempts, list[i].status, list[i].state = uint32(r.Uint()), uint32(r.Uint()), uint32(r.Uint())
	}
	return list, r.Err()
}

// look finds the newest outcome of a message, a replayed one has several, as far as
// nothing has to be unpacked: what is packed may have it.
func (s *outcomeSet) look(drain uint32, offset uint64) (o outcome, ok bool, packed packedOutcomes) {
	if list := s.open[drain]; list != nil {
		for _, o := range slices.Backward(*list) {
			if o.offset == offset {
				return o, true, packed
			}
		}
	}
	packed.path = s.path
	for _, x := range slices.Backward(s.chunks) {
		if x.h.Stream == drain && offset >= x.h.First && offset <= x.h.Durable {
			packed.chunks = append(packed.chunks, x)
		}
	}
	return o, false, packed
}

// packedOutcomes are chunks that may have an outcome, the newest first. They are read
// and unpacked without a lock.
type packedOutcomes struct {
	path   string
	chunks []chunk
}

func (p packedOutcomes) find(c *block.Coder, offset uint64) (outcome, bool, error) {
	for _, x := range p.chunks {
		sealed, err := x.load(p.path)
		if err != nil {
			return outcome{}, false, err
		}
		list, err := unpackOutcomes(c, sealed)
		if err != nil {
			return outcome{}, false, fmt.Errorf("%s: %w", p.path, err)
		}
		i := sort.Search(len(list), func(i int) bool { return list[i].offset > offset }) - 1
		if i >= 0 && list[i].offset == offset && list[i].state < uint32(len(stateCodes)) {
			return list[i], true, nil
		}
	}
	return outcome{}, false, nil
}

// load returns the sealed block of a chunk, from memory or from its file.
func (x chunk) load(path string) ([]byte, error) {
	if x.data != nil {
		return x.data, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read outcome: %w", err)
	}
	defer f.Close()
	b := make([]byte, x.size)
	if _, err := f.ReadAt(b, x.pos); err != nil {
		return nil, fmt.Errorf("read outcome: %w", err)
	}
	return b, nil
}

func outcomePath(dir string, id uint64) string {
	return filepath.Join(dir, outcomeDir, fmt.Sprintf("%016x.out", id))
}

// packAll packs what is still open.
func (s *outcomeSet) packAll(c *block.Coder) {
	drains := make([]uint32, 0, len(s.open))
	for drain := range s.open {
		drains = append(drains, drain)
	}
	slices.Sort(drains)
	for _, drain := range drains {
		s.pack(c, drain)
	}
}

// save makes a file of a packed set, durable when it returns. The set itself
// stays as it is; openOutcomes reads it back with its chunks on disk.
func (s *outcomeSet) save(path string) error {
	var b []byte
	for _, x := range s.chunks {
		b = append(b, x.data...)
	}
	return writeFile(path, b)
}

// openOutcomes reads the directory of an outcome file. Damage ends it early:
// the outcomes behind it count as forgotten.
func openOutcomes(path string) (*outcomeSet, error) {
	chunks, err := openChunks(path)
	if chunks == nil && err != nil {
		return nil, err
	}
	s := newOutcomeSet()
	s.path, s.chunks = path, chunks
	for _, x := range chunks {
		s.newest = max(s.newest, x.h.Base)
	}
	return s, err
}

// openChunks reads the envelopes of a file of sealed blocks. What comes before
// damage is returned with the error.
func openChunks(path string) ([]chunk, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open outcomes: %w", err)
	}
	defer f.Close()
	chunks := []chunk{}
	var head [block.HeaderSize]byte
	for pos := int64(0); ; {
		if _, err := f.ReadAt(head[:], pos); errors.Is(err, io.EOF) {
			return chunks, nil
		} else if err != nil {
			return nil, fmt.Errorf("open outcomes: %w", err)
		}
		size, ok := block.Length(head[:])
		if !ok {
			return chunks, fmt.Errorf("%s: %w at byte %d", path, block.ErrDamaged, pos)
		}
		chunks = append(chunks, chunk{h: block.Peek(head[:]), pos: pos, size: size})
		pos += int64(size)
	}
}

// loadOutcomes opens every outcome file, oldest first.
func (e *Engine) loadOutcomes() error {
	entries, err := os.ReadDir(filepath.Join(e.cfg.Dir, outcomeDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open outcomes: %w", err)
	}
	for _, entry := range entries {
		hex, ok := strings.CutSuffix(entry.Name(), ".out")
		if _, err := strconv.ParseUint(hex, 16, 64); err != nil || !ok {
			continue
		}
		s, err := openOutcomes(filepath.Join(e.cfg.Dir, outcomeDir, entry.Name()))
		if s == nil {
			return err
		}
		if err != nil {
			e.log.Error("outcomes are damaged; receipts of the messages concerned are gone", "err", err)
		}
		e.outcomeFiles = append(e.outcomeFiles, s)
	}
	return nil
}

// dropOldOutcomes removes the files whose newest outcome is past every
// stream's keep_delivered, and whose messages every drain has finished.
func (e *Engine) dropOldOutcomes(now time.Time) error {
	e.mu.Lock()
	var old []string
	dead := oldestDead{}
	e.outcomeFiles = slices.DeleteFunc(e.outcomeFiles, func(s *outcomeSet) bool {
		if e.owned(s, now, dead) || !e.outlived(s, now) {
			return false
		}
		old = append(old, s.path)
		return true
	})
	e.mu.Unlock()
	return e.removeRecords(old...)
}

func (e *Engine) outlived(s *outcomeSet, now time.Time) bool {
	for _, x := range s.chunks {
		d := e.drainNums[x.h.Stream]
		if d == nil {
			continue // a stream, or a drain that was removed
		}
		if now.Sub(time.UnixMilli(s.newest)) <= d.stream.KeepDelivered {
			return false
		}
		for _, other := range d.stream.drains {
			if other.low <= x.h.Durable {
				return false
			}
		}
	}
	return true
}

// merge adds what o gathered after s was cut.
func (s *outcomeSet) merge(c *block.Coder, o *outcomeSet) {
	for drain, list := range o.open {
		for _, x := range *list {
			s.add(c, drain, x)
		}
	}
	s.chunks = append(s.chunks, o.chunks...)
	s.newest = max(s.newest, o.newest)
}
