package buffer

import (
	"cmp"
	"slices"

	"forebay/buffer/block"
)

// placeBlocks makes the streams' directories. A block that was carried into a
// later segment before a crash may be there twice; one of them is used. One that
// was rewritten is covered whole by its successor, which came with the changes
// that say what may be missing in it: the successor is used.
func (e *Engine) placeBlocks(segs []*foundSegment) {
	for _, f := range segs {
		if f.index != nil {
			for _, b := range f.index.blocks {
				e.place(f.ref, b)
			}
			if f.ref.last > e.seq {
				e.seq, e.chain = f.ref.last, f.index.chain
			}
			continue
		}
		for _, b := range f.scan {
			if b.Kind == block.Messages {
				e.place(f.ref, indexedBlock{b.Stream, b.First, b.Count, b.kept, b.at, b.size, b.Seq, b.Base, b.Flags})
			}
			if b.Seq > e.seq {
				e.seq, e.chain = b.Seq, b.Sum
			}
		}
		e.seq = max(e.seq, f.top) // the numbers of a commit that is left out are not used again
	}
	for _, s := range e.streams {
		slices.SortFunc(s.blocks, func(a, b *blockRef) int {
			return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(b.end(), a.end()), cmp.Compare(b.seq(), a.seq()))
		})
		end := uint64(0)
		s.blocks = slices.DeleteFunc(s.blocks, func(b *blockRef) bool {
			if b.first < end {
				return true
			}
			end = b.end()
			return false
		})
		s.next = max(s.next, end)
		e.recovery.Blocks += len(s.blocks)
		for _, b := range s.blocks {
			b.seg.hold(s, b)
		}
	}
}

func (e *Engine) place(seg *segmentRef, b indexedBlock) {
	s := e.byNum[b.stream]
	if s == nil && b.stream > e.lastNum {
		e.log.Error("a block belongs to a stream that is not known; its messages cannot be delivered", "stream", b.stream, "segment", seg.seg.Dir, "messages", b.count)
		e.corrupt++
	}
	if s != nil {
		s.blocks = append(s.blocks, &blockRef{
			first: b.first, base: b.base, seg: seg, nth: uint32(b.seq - seg.first), at: b.at, size: b.size,
			count: b.count, kept: b.kept, flags: b.flags,
		})
		s.lastAt = max(s.lastAt, b.base)
	}
}

// settle counts for every block what is still owed, after a start.
func (s *stream) settle() {
	for _, d := range s.drains {
		done := d.done.Iterator()
		for _, b := range s.blocks {
			first := max(b.first, d.low)
			if first >= b.end() {
				continue
			}
			owed := uint32(b.end() - first)
			for done.AdvanceIfNeeded(first); done.HasNext() && done.PeekNext() < b.end(); done.Next() {
				owed--
			}
			b.owed += owed
		}
		for offset, x := range d.dead {
			if b := s.block(offset); b != nil && x.reason != ReasonDamaged {
				b.dead++
			}
		}
	}
	for _, b := range s.blocks {
		if !s.read {
			b.owed = b.count
		}
		if b.owed > 0 {
			s.bytes += int64(b.size)
		}
		if b.pinned() {
			b.seg.live++
		}
	}
}

// buryHoles ends what should be there and is not: messages of blocks that
// damage took. The caller holds mu.
func (e *Engine) buryHoles(s *stream) (lost int) {
	s.eachHole(func(from, end uint64) {
		n := e.buryDamaged(s, from, end)
		if lost += n; n > 0 {
			e.corrupt++
			e.log.Error("messages are missing; they are dead as damaged", "stream", s.Name, "first_offset", from, "count", end-from, "ended", n)
		}
	})
	return lost
}

// eachHole calls fn with the ranges of offsets that no block has, of those that a
// drain may not have finished. Without a drain it is counted when one comes.
func (s *stream) eachHole(fn func(from, end uint64)) {
	if len(s.drains) == 0 {
		return
	}
	at := slices.MinFunc(s.drains, func(a, b *drain) int { return int(int64(a.low - b.low)) }).low
	for _, b := range s.blocks {
		if at < b.first {
			fn(at, b.first)
		}
		at = max(at, b.end())
	}
	if at < s.next {
		fn(at, s.next)
	}
}
