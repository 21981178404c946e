package kafka

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
)

// share is what a batch has of one partition.
type share struct {
	*assigned
	records []*kgo.Record // that it may take
	behind  *unread       // what comes after them; nil: nothing that is known
	to      place         // where the partition is when the batch is stored
	due     int64         // bytes of records, about
	taken   int           // of records
	size    int64         // of what is taken, in bytes
	count   int           // of messages
	stop    *refusal      // of the record behind them; nil: none
	skip    bool          // to is behind what cannot be read
}

// batch is what is stored in one commit.
type batch struct {
	msgs    []buffer.Message // that are not in the draft yet, a run at most
	origins []buffer.Origin  // of msgs
	draft   buffer.Draft     // nil: there is no more than a run
	count   int              // of all messages
	making  *making
	shares  []share
	refused []*kgo.Record // to be written to their topic before
	bytes   int
}

// pick takes about a batch of what is pending, of partitions that are in no other one.
func (s *session) pick(b *batch) {
	clear(b.shares) // or the records of the last batch would be kept
	*b = batch{msgs: b.msgs[:0], origins: b.origins, shares: b.shares[:0]}
	s.mu.Lock()
	defer s.mu.Unlock()
	var records int
	var bytes int64
	for _, p := range s.parts {
		if len(p.pending) == 0 && p.unread == nil || p.stopped != nil || p.storing {
			continue
		}
		if records >= maxBatch || bytes >= maxBatchBytes {
			break
		}
		x := share{assigned: p, to: p.place, records: p.pending, behind: p.unread, due: p.bytes}
		if most := maxBatch - records; len(x.records) > most {
			x.records, x.behind = x.records[:most], nil
			x.due = p.bytes * int64(most) / int64(len(p.pending))
		}
		p.storing = true
		records, bytes = records+len(x.records), bytes+x.due
		b.shares = append(b.shares, x)
	}
}

// busy reports whether anything is being stored.
func (s *session) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.storing {
			return true
		}
	}
	return false
}

func (b *batch) full() bool { return b.count >= maxBatch || b.bytes >= maxBatchBytes }

// fill makes messages of what was picked, each partition in order.
func (s *session) fill(b *batch) {
	if b.msgs == nil {
		b.msgs, b.origins = make([]buffer.Message, 0, run), make([]buffer.Origin, run)
	}
	b.making = s.make.batch()
	for i := range b.shares {
		s.fillFrom(b, &b.shares[i])
	}
}

func (s *session) fillFrom(b *batch, x *share) {
	for _, r := range x.records {
		if b.full() {
			return
		}
		if !r.Attrs.IsControl() {
			if len(b.msgs) == run {
				s.draft(b)
			}
			i := len(b.msgs)
			b.msgs = b.msgs[:i+1]
			why := b.making.message(r, &b.msgs[i], &b.origins[i])
			if why != nil {
				b.msgs = b.msgs[:i]
			}
			switch {
			case why == nil:
				b.bytes += int(sizeOf(r)) - recordBytes
				x.count++
				b.count++
			case s.source.RefusedTopic == "":
				x.stop, x.to.next = why, r.Offset
				return
			default:
				s.refuse(b, x, r, why)
			}
		}
		x.to = place{r.Offset + 1, r.LeaderEpoch}
		x.taken++
		x.size += sizeOf(r)
	}
	if u := x.behind; u != nil {
		if s.source.RefusedTopic == "" {
			x.stop, x.to.next = u.why, u.first.Offset
			return
		}
		s.refuse(b, x, u.first, u.why)
		x.to, x.skip = place{u.next, -1}, true
	}
}

// draft moves the messages so far into the draft.
func (s *session) draft(b *batch) {
	if b.draft == nil {
		n, size := 0, int64(0)
		for _, x := range b.shares {
			n, size = n+len(x.records), size+x.due-recordBytes*int64(len(x.records))
		}
		b.draft = s.buf.Draft(s.source.Stream, n, size)
	}
	b.draft.Add(b.msgs)
	b.msgs = b.msgs[:0]
}

// recycle gives the memory of stored records back: nothing of them is looked at any more.
func (b *batch) recycle() {
	for _, x := range b.shares {
		for _, r := range x.records[:x.taken] {
			r.Recycle()
		}
	}
}

// refuse puts a record among those that are written to their topic, unless it is there.
func (s *session) refuse(b *batch, x *share, r *kgo.Record, why *refusal) {
	if r.Offset >= x.produced {
		b.refused = append(b.refused, refusedRecord(r, s.source.RefusedTopic, why, time.Now()))
	}
}
