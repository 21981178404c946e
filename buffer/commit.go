package buffer

import (
	"errors"
	"slices"
	"time"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// ackDelay is how long a change waits for an append to ride with. Together
// with the commit that follows it stays under the promised 100 ms.
const ackDelay = 80 * time.Millisecond

// commitLoop is the committer: it takes all that waits, writes it in one
// transaction, syncs once, tells everyone, and repeats. While one sync runs, the next
// group gathers by itself; it lingers only while a crowd comes back.
func (e *Engine) commitLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	waits := false // a change waits for the timer; later ones must not put it off
	for {
		select {
		case <-e.kick:
			if wait := e.linger(time.Now()); wait > 0 {
				timer.Reset(wait)
				waits = true
				continue
			}
		case <-timer.C:
		case do := <-e.between:
			do()
			continue
		case <-e.changed:
			if !waits {
				timer.Reset(ackDelay)
				waits = true
			}
			continue
		case <-e.stop:
			e.commit()
			e.answerAll()
			return
		case <-e.failed:
			e.answerAll()
			return
		}
		waits = false
		e.commit()
	}
}

// answerAll ends the wait of everyone whom no commit will serve.
func (e *Engine) answerAll() {
	e.mu.Lock()
	g, err := e.pending, e.stopped()
	e.pending = newGroup()
	e.mu.Unlock()
	g.answer.give(err)
	g.changes = err
	close(g.done)
}

// batch is one commit under way.
type batch struct {
	group   *group
	parts   []*part // of the group, unless they were refused
	moves   []*move // likewise
	delta   ops
	at      time.Time     // when the delta was cut, as callers say
	answers int           // bytes that wait in memory for the segment's end
	gone    []*segmentRef // which the delta says
	// What recovery is about to write again.
	carriedBlocks int
	carriedBytes  int64
	heads         []block.Header
	blocks        []segment.Block // of heads
	sealable      [][]byte        // the payloads of blocks behind room for their envelopes; nil: there is none
}

// size is how many blocks a batch takes at most, and how many bytes.
func (b *batch) size() (n int, bytes int64) {
	n, bytes = b.delta.size()
	for _, p := range b.parts {
		bytes += segment.Size(p.payload) + block.Overhead
	}
	// The streams that grew since, the idempotency records, whose messages are, and how
	// far their sources are.
	bytes += int64(len(b.group.onces))*2*onceSize + int64(len(b.parts)+1)*growthSize
	for _, p := range b.parts {
		bytes += int64(len(p.owners)) * ownerOpSize
	}
	for _, m := range b.group.marks {
		bytes += m.size()
	}
	for _, m := range b.moves {
		bytes += segment.Size(m.payload) + block.Overhead
	}
	return n + len(b.parts) + len(b.moves) + 2 + b.carriedBlocks, bytes + b.carriedBytes
}

// growthSize bounds what a block of changes says of one stream that grew.
const growthSize = 128

// cut takes the changes so far, and the segments that they give up. The caller
// holds mu.
func (e *Engine) cut(b *batch) {
	b.delta.add(e.delta)
	e.delta = ops{}
	b.at = e.clock
	b.gone = b.gone[:0]
	for _, s := range e.segments {
		if s.phase == dropping {
			b.gone = append(b.gone, s)
		}
	}
}

// commit writes what waits. Any failure but a full disk is final: after one,
// nothing is written any more.
func (e *Engine) commit() {
	e.mu.Lock()
	if err := e.broken; err != nil {
		e.mu.Unlock()
		e.answerAll()
		return
	}
	b := &batch{group: e.pending, parts: e.pending.parts, moves: e.pending.moves, answers: e.records.answers.bytes}
	e.pending = newGroup()
	e.cut(b)
	idle := len(b.parts) == 0 && len(b.moves) == 0 && b.delta.empty()
	if !idle {
		e.beginCommit(b.group)
	}
	e.mu.Unlock()
	if idle {
		close(b.group.done)
		return
	}
	for _, p := range b.parts {
		if !p.closed {
			p.pack(e.packing(b.group.callers))
		}
	}
	begin := time.Now()
	err := e.write(b)
	took := time.Since(begin)
	if err != nil && !errors.Is(err, ErrDiskFull) {
		e.fail(err)
		err = e.Err()
	}
	e.publish(b, err, took)
	e.sortKeys()
	e.sortOnces()
}

// awaitSeals waits until the segment before the active one is sealed. Where appends
// leave the janitor behind they are held up: what it has not done yet takes memory,
// and the time of a start.
func (e *Engine) awaitSeals() {
	for e.sealUnderWay() {
		select {
		case <-e.sealedOne:
		case <-e.stop:
			return
		case <-e.failed:
			return
		}
	}
}

func (e *Engine) sealUnderWay() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.segments, func(s *segmentRef) bool { return s.phase == sealing })
}

// write puts a batch into the active segment, or into a new one where it has
// no room. On ErrDiskFull the messages are refused. The changes are written all
// the same: first into the reserve for them, then into a small segment that may
// take from min_free; only without any space at all they wait, and the janitor asks
// for them again.
func (e *Engine) write(b *batch) error {
	aged := e.count > maxSegmentMessages || b.answers > answerMemory ||
		(e.active.seg.Blocks() > 0 && time.Since(e.started) > maxSegmentAge)
	var full error
	if n, size := b.size(); aged || !e.active.seg.Fits(n, size) {
		e.awaitSeals()
		err := e.roll(b, false)
		if !errors.Is(err, ErrDiskFull) {
			return err
		}
		// An aged segment with room left goes on; there is none to follow it.
		if n, size := b.size(); !e.active.seg.Fits(n, size) {
			full, b.parts = err, nil
		}
	}
	if full != nil && len(b.moves) > 0 {
		// They free more than they take.
		err := e.roll(b, true)
		if err == nil {
			return full
		}
		if !errors.Is(err, ErrDiskFull) {
			return err
		}
		b.moves = nil
	}
	if n, size := b.size(); full != nil && !e.active.seg.FitsControl(n, size) {
		err := e.rollAnyway(b)
		if errors.Is(err, ErrDiskFull) {
			e.mu.Lock()
			b.delta.add(e.delta)
			e.delta, b.delta = b.delta, ops{}
			e.mu.Unlock()
		} else if err != nil {
			return err
		}
		return full
	}
	e.encode(b, ops{})
	if err := e.flush(b); err != nil {
		return err
	}
	return full
}

// encode gives what the batch holds sequence numbers and offsets, and seals it
// into blocks: changes, then a snapshot if there is one, then messages and the
// records of their owners, idempotency keys and sources.
func (e *Engine) encode(b *batch, snapshot ops) {
	if !b.delta.empty() {
		// So that a block of messages that is lost leaves a hole and not a shorter stream.
		e.mu.Lock()
		for s := range e.grown {
			if e.byNum[s.num] == s { // or it would be back, behind the change that drops it
				b.delta.stream(s)
			}
		}
		e.mu.Unlock()
		clear(e.grown)
	}
	at := int64(millis(b.at))
	for _, part := range b.delta.parts {
		e.sealRaw(b, block.Header{Kind: block.Control, Base: at, Count: 1}, part)
	}
	// Twice: the state must not hang on one bit.
	for range 2 {
		for i, part := range snapshot.parts {
			e.sealRaw(b, block.Header{Kind: block.Snapshot, Base: at, First: uint64(i), Count: uint32(len(snapshot.parts))}, part)
		}
	}
	next := map[*stream]uint64{}
	for _, p := range b.parts {
		first, ok := next[p.stream]
		if !ok {
			first = p.stream.next // changed by this goroutine alone
		}
		p.first = first
		next[p.stream] = first + uint64(p.count)
		e.sealPacked(b, block.Header{
			Kind: block.Messages, Codec: p.codec, Flags: p.flags, First: first, Base: p.base,
			Stream: p.stream.num, Count: uint32(p.count), RawLen: uint32(p.rawLen),
		}, p.payload)
		b.sealable[len(b.sealable)-1] = p.sealable
	}
	for _, m := range b.moves {
		e.sealPacked(b, m.header(), m.payload)
	}
	if len(b.parts) > 0 {
		e.mu.Lock() // who asks for a key copies its entry
		records := b.onceOps()
		e.mu.Unlock()
		b.ownerOps(&records)
		for _, m := range b.group.marks {
			records.bookmark(m.source, m.Bookmark)
		}
		for _, part := range records.parts {
			e.sealRaw(b, block.Header{Kind: block.Control, Count: 1}, part)
		}
	}
}

func (e *Engine) sealRaw(b *batch, h block.Header, raw []byte) {
	payload, codec := e.comp.Pack(raw)
	h.Codec, h.RawLen = codec, uint32(len(raw))
	e.sealPacked(b, h, payload)
}

// sealPacked adds a block to the batch. Its envelope is sealed by flush, which
// knows which is the last.
func (e *Engine) sealPacked(b *batch, h block.Header, payload []byte) {
	h.Seq, h.Durable = e.seq+uint64(len(b.heads))+1, e.seq
	b.heads = append(b.heads, h)
	b.blocks = append(b.blocks, segment.Block{Seq: h.Seq, Data: payload})
	b.sealable = append(b.sealable, nil)
}

// flush seals the blocks of a batch and commits them: they are durable when it
// returns nil.
func (e *Engine) flush(b *batch) error {
	if len(b.blocks) == 0 {
		return nil
	}
	if e.active.seg.Blocks() == 0 {
		if err := markUsed(e.active.seg.Dir); err != nil {
			return err
		}
		e.started = time.Now()
	}
	begin, chain := time.Now(), e.chain
	b.heads[len(b.heads)-1].Flags |= block.Last
	for i := range b.heads {
		h, payload := &b.heads[i], b.blocks[i].Data
		h.Chain = chain
		if b.sealable[i] != nil {
			b.blocks[i].Data = e.comp.SealIn(b.sealable[i], h)
		} else {
			b.blocks[i].Data = e.comp.Seal(make([]byte, 0, block.Overhead+len(payload)), h, payload)
		}
		chain = h.Sum
	}
	if err := e.commitBlocks(e.active.seg, b.blocks); err != nil {
		return err
	}
	for _, m := range b.sealable {
		e.comp.Free(m)
	}
	last := b.heads[len(b.heads)-1]
	e.seq, e.chain = last.Seq, last.Sum
	messages := 0 // fewer than the group's where they were refused
	for _, p := range b.parts {
		e.grown[p.stream] = true
		messages += p.count
	}
	e.count += messages
	e.metrics.committed(messages, time.Since(begin))
	return nil
}

// publish makes a batch visible after its commit and answers its callers.
func (e *Engine) publish(b *batch, err error, took time.Duration) {
	e.mu.Lock()
	e.crowd.answered(time.Now(), b.group.callers, took)
	e.release(b.group)
	e.settleOnces(b.group, err == nil)
	failed := err != nil && !errors.Is(err, ErrDiskFull)
	if !failed && len(b.heads) > 0 {
		e.indexBatch(b)
	}
	if err != nil && !failed && e.full == nil && e.standby == nil {
		e.full = err
		signal(e.sweep) // the janitor tries until there is space
		e.log.Warn("appends are refused until there is space", "err", err)
	}
	e.endCommit(err)
	if failed || b.delta.empty() {
		b.group.changes = err
	}
	idle := e.standby == nil && !e.reserving
	if e.reserving = e.reserving || (idle && e.active.seg.Bytes() > e.cfg.SegmentBytes/2); e.reserving || len(b.gone) > 0 {
		signal(e.sweep)
	}
	e.mu.Unlock()
	b.group.answer.give(err)
	close(b.group.done)
}

// indexBatch adds durable blocks to what can be read. The caller holds mu.
func (e *Engine) indexBatch(b *batch) {
	if e.active.first == 0 {
		e.active.first = b.heads[0].Seq
	}
	parts, moves := b.parts, b.moves
	for i, h := range b.heads {
		at, size := b.blocks[i].At, uint32(len(b.blocks[i].Data))
		if h.Kind != block.Messages {
			e.active.controls = append(e.active.controls, controlBlock{h.Seq, at, size})
			continue
		}
		ref := &blockRef{
			first: h.First, base: h.Base, seg: e.active, nth: uint32(h.Seq - e.active.first), at: at, size: size,
			count: h.Count, kept: h.Count, flags: h.Flags,
		}
		if ref.rewritten() {
			e.replace(moves[0], ref)
			moves = moves[1:]
		} else {
			e.index(parts[0], ref)
			parts = parts[1:]
		}
	}
	if len(b.parts) > 0 {
		for _, m := range b.group.marks {
			e.setBookmark(m.source, m.Bookmark)
		}
	}
	e.active.last = b.heads[len(b.heads)-1].Seq
	e.active.bytes = e.active.seg.Bytes()
	for _, s := range b.gone {
		s.phase = removable
	}
	for _, p := range b.parts {
		for _, d := range p.stream.drains {
			d.signal()
		}
	}
}

// index adds one block of messages to its stream. The caller holds mu.
func (e *Engine) index(p *part, ref *blockRef) {
	s := p.stream
	if !p.closed {
		s.lastRaw = max(len(p.raw)+len(p.raw)/8, s.lastRaw-s.lastRaw/16)
		s.lastCount = max(len(p.at)+len(p.at)/8, s.lastCount-s.lastCount/16)
	}
	s.next = ref.end()
	s.blocks = append(s.blocks, ref)
	for _, d := range s.drains {
		if d.from <= ref.first {
			ref.owed += ref.count
		}
	}
	if !s.read {
		ref.owed = ref.count // to the first drain that will come
	}
	e.active.hold(s, ref)
	e.active.open.add(s.num, ref.first, p.keys)
	e.keepOwners(p)
	if ref.owed > 0 {
		e.active.live++
		s.bytes += int64(ref.size)
	}
	if p.raw == nil {
		return
	}
	dec := &decoded{first: ref.first, base: ref.base, data: asString(p.raw), places: p.places, spare: cap(p.raw) - len(p.raw)}
	if dec.readHeads() == nil { // as it was written here
		e.remember(ref, dec)
	}
}
