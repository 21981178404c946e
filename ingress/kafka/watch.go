package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lookEvery is how often a source looks at its cluster, and tells its group how far it is.
const lookEvery = 5 * time.Second

// watch looks at the cluster until ctx is done: whether it can be reached, whether the
// topics are there and still the same, and where they end.
func (s *session) watch(ctx context.Context) {
	var told map[string]map[int32]kgo.EpochOffset
	for ctx.Err() == nil {
		s.lookAt(ctx)
		if at := s.places(); !equalPlaces(at, told) {
			s.commit(ctx, at)
			told = at
		}
		s.pool.trim()
		sleep(ctx, s.every/2+rand.N(s.every/2))
		if s.over() {
			s.end(errAgain)
		}
	}
}

// over reports whether it is time for another session.
func (s *session) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.again.IsZero() && time.Now().After(s.again)
}

func equalPlaces(a, b map[string]map[int32]kgo.EpochOffset) bool {
	return maps.EqualFunc(a, b, func(x, y map[int32]kgo.EpochOffset) bool { return maps.Equal(x, y) })
}

// lookAt looks once.
func (s *session) lookAt(ctx context.Context) {
	wide := ctx
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	topics := s.source.Kafka.Topics
	found, err := s.admin.ListTopics(ctx, topics...)
	if wide.Err() != nil {
		return
	}
	const cluster = "cluster"
	if err != nil {
		s.fail(cluster, fmt.Sprintf("%s: %s", strings.Join(s.source.Kafka.Brokers, ", "), s.dials.why(err)))
		return
	}
	s.well(cluster)
	s.mu.Lock()
	s.connected = true
	s.mu.Unlock()
	var there []string
	for _, topic := range topics {
		switch err := found[topic].Err; {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			s.fail("topic "+topic, fmt.Sprintf("topic %s is not there", topic))
		case err != nil:
			s.fail("topic "+topic, fmt.Sprintf("topic %s: %v", topic, err))
		default:
			s.well("topic " + topic)
			there = append(there, topic)
		}
	}
	if s.madeAgain(func(topic string) topicID { return topicID(found[topic].ID) }) {
		s.end(errAgain)
		return
	}
	if len(there) > 0 {
		s.lookAtEnds(ctx, there)
	}
}

// madeAgain reports whether a topic is not the one whose partitions the source has.
func (r *reader) madeAgain(now func(topic string) topicID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.parts {
		if id := now(p.topic); id != (topicID{}) && id != p.id {
			return true
		}
	}
	return false
}

// lookAtEnds asks where the partitions end, for the lag.
func (s *session) lookAtEnds(ctx context.Context, topics []string) {
	ends, err := s.admin.ListCommittedOffsets(ctx, slices.Clone(topics)...)
	if err != nil {
		return // the next look says why
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if end, ok := ends.Lookup(p.topic, p.n); ok && end.Err == nil {
			p.end = end.Offset
		}
	}
}
