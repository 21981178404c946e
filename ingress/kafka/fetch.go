package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	maxPending  = 64 << 20 // bytes of records that are read and not stored, before another poll
	recordBytes = 200      // of one beside key and value, about
)

// absorb takes over what was fetched. The group takes no partition away meanwhile.
func (s *session) absorb(fetches kgo.Fetches) {
	for _, f := range fetches {
		for i := range f.Topics {
			t := &f.Topics[i]
			for j := range t.Partitions {
				s.take(t, &t.Partitions[j])
			}
		}
	}
	for range storers {
		signal(s.came)
	}
}

// signal leaves a token, unless there are enough.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// awaitRoom waits until the buffer takes messages and what is pending leaves room for
// more. The group may take partitions away meanwhile.
func (s *session) awaitRoom(ctx context.Context) {
	for ctx.Err() == nil && !s.hasRoom() {
		select {
		case <-ctx.Done():
		case <-s.room:
		}
	}
}

func (s *session) hasRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bytes int64
	for _, p := range s.parts {
		bytes += p.bytes
	}
	return s.paused == "" && bytes < maxPending
}

// sizeOf is what a record takes in memory, in bytes, about.
func sizeOf(r *kgo.Record) int64 {
	n := len(r.Key) + len(r.Value) + recordBytes
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return int64(n)
}

// add takes over what was not there before. Records come in order.
func (p *assigned) add(records []*kgo.Record) {
	for len(records) > 0 && records[0].Offset < p.want {
		records = records[1:]
	}
	if len(records) == 0 {
		return
	}
	p.want = records[len(records)-1].Offset + 1
	for _, r := range records {
		p.bytes += sizeOf(r)
	}
	if len(p.pending) == 0 {
		p.pending = records
	} else {
		p.pending = append(p.pending, records...)
	}
}

func (s *session) take(t *kgo.FetchTopic, f *kgo.FetchPartition) {
	name := partition{topic: t.Topic, n: f.Partition}.String()
	s.mu.Lock()
	p := s.parts[name]
	if p == nil || p.stopped != nil {
		s.mu.Unlock()
		if p == nil && f.Err != nil {
			s.fetchFailed(t.Topic, f)
		}
		return
	}
	if id := topicID(t.TopicID); id != (topicID{}) && id != p.id {
		s.mu.Unlock()
		s.end(errAgain) // it is another topic now
		return
	}
	if f.LastStableOffset >= 0 {
		p.end = max(p.end, f.LastStableOffset)
	}
	p.add(f.Records)
	s.mu.Unlock()
	switch lost, ok := errors.AsType[*kgo.ErrDataLoss](f.Err); {
	case ok:
		s.dataLost(p, lost)
	case s.unreadable(p, f.Err):
	case f.Err != nil:
		s.fetchFailed(t.Topic, f)
	case len(f.Records) > 0:
		s.well(name)
	}
}

// unreadable reports whether the error is a batch that is too large, which is refused in its
// turn: the client does not go past it.
func (s *session) unreadable(p *assigned, err error) bool {
	large, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err)
	if !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.unread = &unread{
		first: &kgo.Record{Topic: p.topic, Partition: p.n, Offset: max(large.Offset, p.want)},
		next:  large.NextOffset,
		why:   &refusal{"batch-too-large", fmt.Sprintf("the compressed batch up to offset %d holds more than %d bytes", large.NextOffset-1, inflatedMax)},
	}
	return true
}

// dataLost goes on where the cluster says that it lost what it had.
func (s *session) dataLost(p *assigned, lost *kgo.ErrDataLoss) {
	s.mu.Lock()
	p.want, p.end = lost.ResetTo, -1
	s.mu.Unlock()
	s.log.Error("the cluster has lost records that it had", "topic", lost.Topic, "partition", lost.Partition, "read_to", lost.ConsumedTo, "goes_on_at", lost.ResetTo)
	s.cfg.Event("source-records-gone", s.source.Name, lost.Error())
}

// fetchFailed takes an error that the client does not mend by itself: it fetches the
// partition no more. Another session does, after a while.
func (s *session) fetchFailed(topic string, f *kgo.FetchPartition) {
	if errors.Is(f.Err, context.Canceled) || errors.Is(f.Err, kgo.ErrClientClosed) {
		return
	}
	if _, lost := errors.AsType[*kgo.ErrGroupSession](f.Err); lost {
		return // OnGroupManageError tells it, and the client joins again
	}
	at, text := "topic "+topic, f.Err.Error()
	if f.Partition >= 0 && topic != "" {
		at = partition{topic: topic, n: f.Partition}.String()
		s.mu.Lock()
		if p := s.parts[at]; p != nil {
			text = fmt.Sprintf("topic %s partition %d, at or behind offset %d: %v", topic, f.Partition, p.want, f.Err)
		}
		s.mu.Unlock()
	}
	s.fail(at, text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.again.IsZero() {
		s.again = time.Now().Add(s.retry)
	}
}
