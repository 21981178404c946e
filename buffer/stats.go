package buffer

import (
	"context"
	"time"

	"forebay/buffer/segment"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// Stats implements [Inspector]. How old the oldest message of a rewritten block is
// says the message alone.
func (e *Engine) Stats() Stats {
	st, heads := e.tally()
	for i, x := range heads {
		if x.ref == nil {
			continue
		}
		// Where it cannot be read, the block's own time has to do.
		if dec, err := e.load(x.s, x.ref); err == nil {
			st.Drains[i].Oldest = time.UnixMilli(dec.acceptedAt(x.low))
		}
	}
	for i, d := range st.Drains {
		x := &st.Streams[heads[i].in]
		if !d.Oldest.IsZero() && (x.Oldest.IsZero() || d.Oldest.Before(x.Oldest)) {
			x.Oldest = d.Oldest
		}
	}
	return st
}

// head is where the oldest message of a drain is, if that is in a rewritten block.
type head struct {
	in  int // the stream's place in Stats.Streams
	s   *stream
	ref *blockRef
	low uint64
}

// tally is Stats but for what is not in memory.
func (e *Engine) tally() (st Stats, heads []head) {
	// What is free is asked of the file system, not of the disk; 0 where it does not say.
	free, _ := segment.Free(e.cfg.Dir)
	e.mu.Lock()
	defer e.mu.Unlock()
	st = Stats{Bytes: e.usedLocked(), Free: free, Segments: map[string]int{"open": 0, "sealed": 0}, Corrupt: e.corrupt}
	st.Room = e.roomLeft(free)
	st.ReadOnly = e.full != nil || e.broken != nil
	for _, s := range e.segments {
		if s.phase <= sealing {
			st.Segments["open"]++
		} else {
			st.Segments["sealed"]++
		}
	}
	for _, s := range e.sortedStreams() {
		x := StreamStats{Stream: s.Name, Orphaned: s.orphaned, Messages: s.unfinished(), Bytes: s.bytes, MaxBytes: s.MaxBytes, Accepted: s.next}
		for _, d := range s.drains {
			h := head{in: len(st.Streams), s: s, low: d.low}
			if b := s.block(d.low); b != nil && b.rewritten() {
				h.ref = b
			}
			st.Drains, heads = append(st.Drains, d.stats()), append(heads, h)
		}
		if !s.read && len(s.blocks) > 0 {
			x.Oldest = time.UnixMilli(s.blocks[0].base)
		}
		st.Streams = append(st.Streams, x)
	}
	return st, heads
}

// roomLeft is Stats.Room: what the segments there are still take, and those that
// fit on the disk after them. One that is sealed gives back what it reserved beyond
// its capacity, so that only the last needs that. The caller holds mu.
func (e *Engine) roomLeft(free int64) (room int64) {
	if e.full != nil || e.broken != nil {
		return 0
	}
	for _, s := range e.segments {
		if s.phase == open {
			room += max(0, e.cfg.SegmentBytes-s.bytes)
		}
	}
	left := free - e.cfg.MinFree
	if e.cfg.MaxBytes > 0 {
		left = min(left, e.cfg.MaxBytes-e.usedLocked())
	}
	// The standby is one that is reserved already: when it is begun, the one before
	// gives back what the next needs.
	if e.standby != nil {
		left += e.cfg.SegmentBytes
	} else {
		left += e.cfg.SegmentBytes - segment.Reserved(e.cfg.SegmentBytes)
	}
	return room + max(0, left)/e.cfg.SegmentBytes*e.cfg.SegmentBytes
}

// unfinished counts the messages that at least one drain has not finished.
func (s *stream) unfinished() uint64 {
	switch len(s.drains) {
	case 0:
		if !s.read && len(s.blocks) > 0 {
			return s.next - s.blocks[0].first
		}
		return 0
	case 1:
		return s.drains[0].unfinished(s.next)
	}
	low := s.next
	for _, d := range s.drains {
		low = min(low, d.low)
	}
	var all *roaring64.Bitmap // finished by every drain, from low on
	for _, d := range s.drains {
		done := d.done.Clone()
		done.AddRange(low, d.low)
		if all == nil {
			all = done
		} else {
			all.And(done)
		}
	}
	return s.next - low - all.GetCardinality()
}

// Audit implements [Inspector]. What is buffered is counted from the blocks
// that are stored and the finished bits, never by subtraction.
func (e *Engine) Audit(ctx context.Context) ([]Account, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var accounts []Account
	for _, s := range e.sortedStreams() {
		for _, d := range s.drains {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			a := Account{Stream: s.Name, Drain: d.name, Accepted: s.next - d.from, Delivered: d.delivered, Expired: d.expired, Cancelled: d.cancelled}
			for _, n := range d.deadBy {
				a.Dead += n
			}
			a.Buffered = s.stored(d)
			accounts = append(accounts, a)
		}
	}
	return accounts, nil
}

// stored counts the messages in blocks that a drain has not finished.
func (s *stream) stored(d *drain) (n uint64) {
	done := d.done.Iterator()
	for _, b := range s.blocks {
		first := max(b.first, d.low)
		if first >= b.end() {
			continue
		}
		n += b.end() - first
		for done.AdvanceIfNeeded(first); done.HasNext() && done.PeekNext() < b.end(); done.Next() {
			n--
		}
	}
	return n
}
