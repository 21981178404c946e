package buffer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// Whose a message is goes with the outcomes of the segment that the message is
// appended to: for each an entry in the place of a drain's, under the number of its
// stream, which no drain has. So it is known for as long as there is a receipt,
// long after the message itself is gone.

// Owner tells whose receipt a message has; 0: whoever has its id. It is a digest of
// a principal's name, with 1 in 2^63 that two are the same.
type Owner uint64

// OwnerOf returns the owner that a principal is; 0 for the empty name.
func OwnerOf(principal string) Owner {
	if principal == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(principal))
	return Owner(max(1, binary.BigEndian.Uint64(sum[:])>>1))
}

// ownerRun is messages of one part in a row that have one owner.
type ownerRun struct {
	index, count int
	owner        Owner
}

// ownerOpSize bounds what a run takes in the changes, in bytes.
const ownerOpSize = 32

// own adds messages to the last run, or begins another.
func own(runs []ownerRun, index, count int, owner Owner) []ownerRun {
	if owner == 0 {
		return runs
	}
	if n := len(runs); n > 0 {
		if last := &runs[n-1]; last.owner == owner && last.index+last.count == index {
			last.count += count
			return runs
		}
	}
	return append(runs, ownerRun{index, count, owner})
}

// ownerOps say whose the messages of a batch are, once its offsets are known.
func (b *batch) ownerOps(o *ops) {
	for _, p := range b.parts {
		for _, r := range p.owners {
			o.op(opOwner, uint64(p.stream.num), p.first+uint64(r.index), uint64(r.count), uint64(r.owner))
		}
	}
}

// keepOwners makes whose the messages of a part are known. The caller holds mu.
func (e *Engine) keepOwners(p *part) {
	for _, r := range p.owners {
		for i := range r.count {
			e.records.outcomes.add(e.comp, p.stream.num, ownerEntry(p.first+uint64(r.index+i), r.owner))
		}
	}
}

// ownerEntry says whose a message is in the place of attempts and status: those are
// stored as they are, so that the same owner is the same bytes each time.
func ownerEntry(offset uint64, owner Owner) outcome {
	return outcome{offset: offset, attempts: uint32(owner >> 32), status: uint32(owner)}
}

func (o *outcome) owner() Owner { return Owner(o.attempts)<<32 | Owner(o.status) }

// Owner implements [Receipts].
func (e *Engine) Owner(ref Ref) (Owner, error) {
	e.mu.Lock()
	s := e.streams[ref.Stream]
	known := s != nil && ref.Offset < s.next
	e.mu.Unlock()
	if !known {
		return 0, ErrNoMessage
	}
	o, _, err := e.recorded(s.num, ref.Offset)
	if err != nil {
		return 0, fmt.Errorf("whose a message is: %w", err)
	}
	return o.owner(), nil
}

// oldestDead is the first offset that is dead with each drain, as far as it was asked for.
type oldestDead map[*drain]uint64

func (m oldestDead) of(d *drain) uint64 {
	oldest, known := m[d]
	if !known {
		oldest = ^uint64(0)
		for offset := range d.dead {
			oldest = min(oldest, offset)
		}
		m[d] = oldest
	}
	return oldest
}

// owned reports whether a file says whose messages are that may have a receipt yet. When
// the last of them was finished is not stored: it counts as finished when that is
// first seen, which is later. The caller holds mu.
func (e *Engine) owned(s *outcomeSet, now time.Time, dead oldestDead) bool {
	last, longest := map[*stream]uint64{}, time.Duration(0)
	for _, x := range s.chunks {
		// Other chunks are of drains, or of streams that were given up.
		if st := e.byNum[x.h.Stream]; st != nil {
			last[st], longest = max(last[st], x.h.Durable), max(longest, st.KeepDelivered)
		}
	}
	for st, offset := range last {
		if len(st.drains) == 0 {
			return true // it waits for its first
		}
		for _, d := range st.drains {
			if d.low <= offset || dead.of(d) <= offset { // what is dead may be brought back
				s.finished = time.Time{}
				return true
			}
		}
	}
	if len(last) > 0 && s.finished.IsZero() {
		s.finished = now
	}
	return len(last) > 0 && now.Sub(s.finished) <= longest
}
