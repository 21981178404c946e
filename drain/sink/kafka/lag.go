package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// ConsumerLag is how many records of the topic the group of max_consumer_lag has not
// committed yet: of a partition without a commit, all that it holds. It blocks until
// the brokers have answered or ctx is done.
func (s *Sink) ConsumerLag(ctx context.Context) (int64, error) {
	bound := s.policy.MaxConsumerLag
	p := s.producers.enter()
	if p == nil || bound == nil {
		return 0, errors.New("nobody is to be asked")
	}
	defer s.producers.leave(p)
	behind, err := lagOf(ctx, kadm.NewClient(p.Client), bound.Group, s.policy.Topic)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", category(err), s.reach.explain(err))
	}
	return behind, nil
}

func lagOf(ctx context.Context, admin *kadm.Client, group, topic string) (int64, error) {
	commits, err := admin.FetchOffsetsForTopics(ctx, group, topic)
	if errors.Is(err, kerr.GroupIDNotFound) { // it has not come yet
		commits, err = nil, nil
	}
	if err = cmp.Or(err, commits.Error()); err != nil {
		return 0, err
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err = cmp.Or(err, ends.Error()); err != nil {
		return 0, err
	}
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err = cmp.Or(err, starts.Error()); err != nil {
		return 0, err
	}
	if len(ends[topic]) == 0 {
		return 0, fmt.Errorf("topic %s: %w", topic, kerr.UnknownTopicOrPartition)
	}
	var behind int64
	for partition, end := range ends[topic] {
		from := int64(-1)
		if c, ok := commits.Lookup(topic, partition); ok {
			from = c.At
		}
		if start, ok := starts.Lookup(topic, partition); ok {
			from = max(from, start.Offset) // what was deleted is not waited for
		}
		behind += max(0, end.Offset-max(0, from))
	}
	return behind, nil
}
