package buffer

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"forebay/buffer/block"
)

// A few stuck messages must not keep the whole of an old segment, nor a trickle
// leave a block for every message: what is still needed of such sealed segments is
// rewritten into full blocks of the active one, with the same offsets, and the old
// segments go as any other does once nothing in them is pinned.
//
// A rewritten block covers its predecessors whole, the messages that it leaves out
// too, and is committed with the changes that finished those. So a start after a
// crash at any point finds, for each offset, the newest block that covers it, and
// nothing that is needed is missing there.

const (
	rewriteEvery = 10 * time.Second
	// rewriteBundle is what one commit takes of rewritten blocks, in bytes, so that
	// appends do not wait for long.
	rewriteBundle = 4 << 20
	// A rewrite pauses after so many bytes were read: 32 MiB/s at most, and a quarter
	// of that while much is appended.
	rewriteStride = 8 << 20
	rewritePause  = 250 * time.Millisecond
	busyPause     = 4 * rewritePause
	// maxCover bounds the offsets that one block covers.
	maxCover = 1 << 24
)

// move is a block in the making that takes the place of others.
type move struct {
	stream *stream
	from   []*blockRef // neighbours, in order
	end    uint64      // of the records so far
	base   int64
	raw    []byte
	kept   uint32
	flags  block.Flags
	keys   []keyEntry
	last   lastAdded

	payload []byte
	codec   block.Codec
	done    bool // it is in their place; set under mu
}

// lastAdded is where the message came from that was added last.
type lastAdded struct {
	dec    *decoded
	lender int // place of its head in dec.lent
}

// first is the offset at which the block begins.
func (m *move) first() uint64 { return m.from[0].first }

// span is how many offsets the block covers.
func (m *move) span() uint64 { return m.from[len(m.from)-1].end() - m.first() }

// header is the envelope of the block, but for what the committer knows.
func (m *move) header() block.Header {
	return block.Header{
		Kind: block.Messages, Codec: m.codec, Flags: m.flags | block.Rewritten, First: m.first(), Base: m.base,
		Stream: m.stream.num, Count: uint32(m.span()), RawLen: uint32(len(m.raw)),
	}
}

// add copies the ith message of a block.
func (m *move) add(dec *decoded, i int) {
	offset, at := dec.offset(i), dec.acceptedAt(dec.offset(i))
	if m.kept == 0 {
		m.base, m.end = at, m.first()
	}
	m.raw = binary.AppendUvarint(m.raw, offset-m.end)
	m.raw = binary.AppendUvarint(m.raw, uint64(max(0, at-m.base)))
	m.raw = m.appendRecord(dec, i)
	m.end = offset + 1
	m.kept++
}

// appendRecord copies a record after its time. Where the one that it has its head
// from is left out, it gets the head itself.
func (m *move) appendRecord(dec *decoded, i int) []byte {
	_, head, own := dec.record(i)
	lender, shared := dec.lender(i, head)
	from := lastAdded{dec, lender}
	switch {
	case !shared:
		from = lastAdded{}
	case from == m.last:
		head = ""
	case head == "":
		var whole Message
		_ = dec.readHead(&whole, i, head) // it was read before
		head = asString(appendHead(nil, &whole))
	}
	m.last = from
	raw := binary.AppendUvarint(m.raw, uint64(stringLen(len(head))+own.Len()))
	return append(block.AppendString(raw, head), own.Rest()...)
}

// rewriter looks for segments to rewrite from time to time. First it opens the
// tables of keys.
func (e *Engine) rewriter() {
	if err := e.openTables(); err != nil && e.Err() == nil {
		e.log.Error("a table of keys cannot be opened; look-ups try again", "err", err)
	}
	e.spaced(rewriteEvery, func() {
		if err := e.compactOnces(); err != nil && e.Err() == nil {
			e.log.Error("files of idempotency records stay apart; it is tried again", "err", err)
		}
		if err := e.rewrite(); err != nil && e.Err() == nil {
			e.log.Error("a rewrite of segments ended early; it is tried again", "err", err)
		}
	})
}

// spaced does something again and again until the engine ends, with a pause from the
// end of one to the beginning of the next. A ticker would have ticked meanwhile: two
// looks in a row see no appends between them, and take a busy intake for a quiet one.
func (e *Engine) spaced(pause time.Duration, do func()) {
	for {
		select {
		case <-time.After(pause):
			do()
		case <-e.stop:
			return
		case <-e.failed:
			return
		}
	}
}

// rewrite makes full blocks of what is needed of sparse segments. Where the disk
// has no room for them it gives up, without an error.
func (e *Engine) rewrite() error {
	e.rewriting.Lock()
	defer e.rewriting.Unlock()
	busy := e.busy()
	victims := e.chooseVictims(busy)
	if len(victims) == 0 {
		return nil
	}
	w := &rewrite{e: e, pause: rewritePause}
	if busy {
		w.pause = busyPause
	}
	for _, s := range e.streamsOf(victims) {
		if err := w.stream(s, e.runsOf(s, victims)); err != nil || w.refused {
			e.endRewrite(victims, w)
			return err
		}
	}
	err := w.flush()
	e.endRewrite(victims, w)
	return err
}

func (e *Engine) endRewrite(victims map[*segmentRef]bool, w *rewrite) {
	e.mu.Lock()
	for s := range victims {
		s.rewriting, s.left = false, 0
	}
	e.mu.Unlock()
	e.log.Info("what is needed of sparse segments was rewritten", "segments", len(victims), "read_bytes", w.read, "blocks", w.blocks, "disk_full", w.refused)
}

// streamsOf returns the streams that need something of the victims.
func (e *Engine) streamsOf(victims map[*segmentRef]bool) (streams []*stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	needed := map[*stream]bool{}
	for s := range victims {
		for _, b := range s.blocks {
			if b.pinned() && !needed[b.stream] {
				needed[b.stream] = true
				streams = append(streams, b.stream)
			}
		}
	}
	return streams
}

// runsOf returns the blocks of a stream in the victims, in rows that no other
// block of the stream interrupts.
func (e *Engine) runsOf(s *stream, victims map[*segmentRef]bool) (runs [][]*blockRef) {
	e.mu.Lock()
	blocks := slices.Clone(s.blocks)
	e.mu.Unlock()
	for i := 0; i < len(blocks); i++ {
		begin := i
		for i < len(blocks) && victims[blocks[i].seg] {
			i++
		}
		if i > begin {
			runs = append(runs, blocks[begin:i])
		}
	}
	return runs
}

// rewrite is one under way.
type rewrite struct {
	e       *Engine
	bundle  []*move // for the next commit
	bytes   int     // of it
	read    int64
	blocks  int
	refused bool // the disk has no room
	pause   time.Duration
}

func (w *rewrite) stream(s *stream, runs [][]*blockRef) error {
	for _, run := range runs {
		m := &move{stream: s}
		for _, ref := range run {
			dec, keep, err := w.e.needed(s, ref)
			if err != nil {
				return err
			}
			if m.full(ref, dec, keep) {
				if err := w.put(m); err != nil || w.refused {
					return err
				}
				m = &move{stream: s}
			}
			if len(keep) == 0 && m.kept == 0 {
				continue
			}
			m.from = append(m.from, ref)
			for _, i := range keep {
				m.add(dec, i)
				key, cancel := dec.keys(i)
				m.keys = w.e.keyHash.entries(m.keys, dec.offset(i), key, cancel)
			}
			m.flags |= ref.flags & (block.Keyed | block.Cancels | block.Timed)
			if err := w.pace(ref); err != nil {
				return err
			}
		}
		if err := w.put(m); err != nil || w.refused {
			return err
		}
	}
	return nil
}

// full reports whether a block is to be ended before another is added to it.
func (m *move) full(ref *blockRef, dec *decoded, keep []int) bool {
	if m.kept == 0 {
		return false
	}
	size := len(m.raw)
	for _, i := range keep {
		_, head, own := dec.record(i)
		size += len(head) + own.Len()
	}
	return size > blockTarget || ref.end()-m.first() > maxCover
}

// needed reads a block and says which of its messages have to be kept. A block
// that is not pinned any more has none, and neither has a damaged one.
func (e *Engine) needed(s *stream, ref *blockRef) (dec *decoded, keep []int, err error) {
	if !e.pinned(ref) {
		return nil, nil, nil
	}
	dec, err = e.fetch(s, ref)
	switch {
	case err == nil:
	case !e.pinned(ref):
		return nil, nil, nil // it went meanwhile
	case errors.Is(err, block.ErrDamaged):
		e.reportDamage(s, ref.first, ref.end(), err)
		return nil, nil, nil
	default:
		return nil, nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range dec.at {
		if s.needs(dec.offset(i)) {
			keep = append(keep, i)
		}
	}
	return dec, keep, nil
}

// needs reports whether anyone may still want to read a message.
func (s *stream) needs(offset uint64) bool {
	for _, d := range s.drains {
		if !d.finished(offset) {
			return true
		}
		if x := d.dead[offset]; x != nil && x.reason != ReasonDamaged {
			return true
		}
	}
	return !s.read
}

// put adds a block to the next commit.
func (w *rewrite) put(m *move) error {
	if m.kept == 0 {
		return nil
	}
	m.payload, m.codec = w.e.comp.Pack(m.raw)
	w.bundle = append(w.bundle, m)
	if w.bytes += len(m.payload); w.bytes < rewriteBundle {
		return nil
	}
	return w.flush()
}

// flush hands blocks to the committer and waits until they are in their place.
func (w *rewrite) flush() error {
	if len(w.bundle) == 0 {
		return nil
	}
	w.e.mu.Lock()
	g, err := w.e.join()
	if err == nil {
		g.moves = append(g.moves, w.bundle...)
	}
	w.e.mu.Unlock()
	if err != nil {
		return err
	}
	<-g.done
	w.e.mu.Lock()
	w.refused = !w.bundle[0].done
	w.e.mu.Unlock()
	w.blocks += len(w.bundle)
	w.bundle, w.bytes = nil, 0
	if err := g.changes; err != nil && !errors.Is(err, ErrDiskFull) {
		return err
	}
	return nil
}

// pace keeps a rewrite from taking the disk from everyone else.
func (w *rewrite) pace(ref *blockRef) error {
	before := w.read / rewriteStride
	if w.read += int64(ref.size); w.read/rewriteStride == before {
		return nil
	}
	select {
	case <-time.After(w.pause):
	case <-w.e.stop:
	case <-w.e.failed:
	}
	return w.e.Err()
}

// replace puts a block that is durable in the place of its predecessors. What
// became of their messages since it was made is in their counts. The caller holds mu.
func (e *Engine) replace(m *move, ref *blockRef) {
	s := m.stream
	i, j := s.covered(ref.first, ref.end())
	ref.kept = m.kept
	for _, old := range s.blocks[i:j] {
		ref.owed, ref.dead = ref.owed+old.owed, ref.dead+old.dead
		e.forget(old)
		if old.owed > 0 {
			s.bytes -= int64(old.size)
		}
		if old.pinned() {
			old.owed, old.dead = 0, 0
			old.seg.live--
			e.dropIfDone(old.seg)
		}
	}
	m.done = true
	if i == j {
		return // all of it was finished, and is gone
	}
	s.blocks = slices.Replace(s.blocks, i, j, ref)
	e.active.hold(s, ref)
	e.active.open.add(s.num, 0, m.keys)
	if ref.owed > 0 {
		s.bytes += int64(ref.size)
	}
	if ref.pinned() {
		e.active.live++
	}
}
