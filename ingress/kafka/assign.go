package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"forebay/buffer"
)

// assign is told which partitions the group gives the source, and at which offsets the
// group is with them; it answers where to begin. What the buffer says holds. A
// partition that it does not know begins where the group is, or else where the policy says,
// and that is written down before anything is read: so a crash finds the same place.
func (s *session) assign(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	<-s.made
	s.storing.Lock()
	defer s.storing.Unlock()
	topics := make([]string, 0, len(offsets))
	for topic := range offsets {
		topics = append(topics, topic)
	}
	if len(topics) == 0 {
		return offsets, nil
	}
	a, err := s.look(ctx, topics)
	if err != nil {
		s.fail("assignment", s.dials.why(err))
		return nil, err
	}
	var parts []*assigned
	for topic, of := range offsets {
		for n, committed := range of {
			p, err := a.begin(partition{topic: topic, id: topicID(a.details[topic].ID), n: n}, committed.EpochOffset())
			if err != nil {
				s.fail("assignment", err.Error())
				return nil, err
			}
			parts = append(parts, p)
			of[n] = kgo.NewOffset().At(p.next).WithEpoch(p.epoch)
		}
	}
	if len(a.marks) > 0 {
		if _, err := s.buf.AppendFrom(ctx, s.source.Stream, time.Now(), nil, s.source.Name, a.marks); err != nil {
			s.fail("assignment", err.Error())
			return nil, err
		}
	}
	for _, e := range a.events {
		s.log.Warn("source", "event", e.kind, "detail", e.detail)
		s.cfg.Event(e.kind, s.source.Name, e.detail)
	}
	s.mu.Lock()
	for _, p := range parts {
		s.parts[p.partition.String()] = p
	}
	s.mu.Unlock()
	for _, p := range parts {
		s.well(p.partition.String())
	}
	s.well("assignment")
	s.well("group " + s.source.Kafka.Group)
	return offsets, nil
}

// assignment is what has to be known to begin.
type assignment struct {
	from        func(start, end, since kadm.ListedOffset) kadm.ListedOffset
	details     kadm.TopicDetails
	first, last kadm.ListedOffsets
	since       kadm.ListedOffsets // nil: the policy names no time
	places      map[partition]place
	old         map[string][]partition // of topics that had the name before, by topic and partition

	marks  []buffer.Bookmark
	events []event
	told   map[string]bool // of which topics events tell
}

type event struct{ kind, detail string }

func (s *session) look(ctx context.Context, topics []string) (a *assignment, err error) {
	a = &assignment{places: map[partition]place{}, old: map[string][]partition{}, told: map[string]bool{}}
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	if a.details, err = s.admin.ListTopics(ctx, topics...); err != nil {
		return nil, err
	}
	if err := a.details.Error(); err != nil {
		return nil, err
	}
	if a.first, err = s.admin.ListStartOffsets(ctx, topics...); err != nil {
		return nil, err
	}
	if a.last, err = s.admin.ListEndOffsets(ctx, topics...); err != nil {
		return nil, err
	}
	if !s.source.Since.IsZero() {
		if a.since, err = s.admin.ListOffsetsAfterMilli(ctx, s.source.Since.UnixMilli(), topics...); err != nil {
			return nil, err
		}
	}
	marks, err := s.buf.Bookmarks(ctx, s.source.Name)
	if err != nil {
		return nil, err
	}
	for _, m := range marks {
		p, at, ok := readPlace(m)
		if !ok {
			continue
		}
		a.places[p] = at
		if d, known := a.details[p.topic]; known && topicID(d.ID) != p.id {
			a.old[p.String()] = append(a.old[p.String()], p)
		}
	}
	a.from = s.from
	return a, nil
}

// from is where the policy says that a source begins.
func (r *reader) from(start, end, since kadm.ListedOffset) kadm.ListedOffset {
	switch {
	case r.source.FromOldest:
		return start
	case !r.source.Since.IsZero():
		return since
	default:
		return end
	}
}

// begin is where a partition begins.
func (a *assignment) begin(p partition, committed kgo.EpochOffset) (*assigned, error) {
	start, okStart := a.first.Lookup(p.topic, p.n)
	end, okEnd := a.last.Lookup(p.topic, p.n)
	since, okSince := a.since.Lookup(p.topic, p.n)
	if a.since == nil {
		okSince = true
	}
	if err := errors.Join(start.Err, end.Err, since.Err); err != nil || !okStart || !okEnd || !okSince {
		if err == nil {
			err = kerr.UnknownTopicOrPartition
		}
		return nil, fmt.Errorf("offsets of %s: %w", p, err)
	}
	at, known := a.places[p]
	if !known {
		at = a.anew(p, committed, a.from(start, end, since))
		a.marks = append(a.marks, p.bookmark(at))
	}
	if moved, ok := a.within(p, at, start.Offset, end.Offset); !ok {
		at = moved
		a.marks = append(a.marks, p.bookmark(at))
	}
	return &assigned{partition: p, place: at, want: at.next, end: end.Offset, produced: at.next}, nil
}

// anew is where a partition begins that the buffer does not know. Offsets of the group
// that are those of a topic which had the same name before do not hold.
func (a *assignment) anew(p partition, committed kgo.EpochOffset, from kadm.ListedOffset) place {
	for _, old := range a.old[p.String()] {
		a.marks = append(a.marks, buffer.Bookmark{Part: old.part()})
	}
	if len(a.old[p.String()]) > 0 {
		a.tell(p.topic, event{"source-topic-made-again", fmt.Sprintf("topic %s was deleted and made again: what was read of it before does not hold, it is read from %s on", p.topic, fromText(from))})
	} else if committed.Offset >= 0 {
		return place{committed.Offset, committed.Epoch}
	}
	return place{from.Offset, -1}
}

func fromText(from kadm.ListedOffset) string { return fmt.Sprintf("offset %d", from.Offset) }

// within moves a place that the topic does not have any more, or not yet.
func (a *assignment) within(p partition, at place, start, end int64) (place, bool) {
	switch {
	case at.next < start:
		a.tell(p.String(), event{"source-records-gone", fmt.Sprintf("topic %s partition %d: %d records from offset %d on were removed by the cluster before they were read", p.topic, p.n, start-at.next, at.next)})
		return place{start, -1}, false
	case at.next > end:
		a.tell(p.String(), event{"source-records-gone", fmt.Sprintf("topic %s partition %d ends at offset %d and was read up to %d: the cluster has lost records that it had; it is read on from its end", p.topic, p.n, end, at.next)})
		return place{end, -1}, false
	}
	return at, true
}

func (a *assignment) tell(of string, e event) {
	if !a.told[of] {
		a.told[of] = true
		a.events = append(a.events, e)
	}
}

// revoked is called when the group takes partitions away: what was stored of them is
// told the group first, for whoever gets them.
func (s *session) revoked(ctx context.Context, _ *kgo.Client, lost map[string][]int32) {
	<-s.made
	s.storing.Lock()
	defer s.storing.Unlock()
	if at := s.remove(lost); !s.leaving.Load() {
		s.commit(ctx, at)
	}
}

// lost is called when the group has given them to others already, or may have.
func (s *session) lost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	s.storing.Lock()
	defer s.storing.Unlock()
	s.remove(lost)
}

// remove forgets partitions, and returns how far they were read.
func (r *reader) remove(lost map[string][]int32) map[string]map[int32]kgo.EpochOffset {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := map[string]map[int32]kgo.EpochOffset{}
	for topic, ns := range lost {
		for _, n := range ns {
			name := partition{topic: topic, n: n}.String()
			if p := r.parts[name]; p != nil {
				put(at, p)
				delete(r.parts, name)
			}
		}
	}
	return at
}

// places are how far all partitions were read.
func (r *reader) places() map[string]map[int32]kgo.EpochOffset {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := map[string]map[int32]kgo.EpochOffset{}
	for _, p := range r.parts {
		put(at, p)
	}
	return at
}

func put(at map[string]map[int32]kgo.EpochOffset, p *assigned) {
	if at[p.topic] == nil {
		at[p.topic] = map[int32]kgo.EpochOffset{}
	}
	at[p.topic][p.n] = kgo.EpochOffset{Epoch: p.epoch, Offset: p.next}
}

// commit tells the group how far partitions were read. It is for others to look at: that
// it fails costs nothing.
func (s *session) commit(ctx context.Context, at map[string]map[int32]kgo.EpochOffset) {
	if len(at) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s.client.CommitOffsetsSync(ctx, at, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			s.log.Debug("the group was not told how far it is", "err", err)
		}
	})
}
