package kafka

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"forebay/drain"
	"forebay/policies"
)

func withLag(k *policies.KafkaSink) {
	k.MaxConsumerLag = &policies.ConsumerLag{Group: "crm", Messages: 100}
}

func TestConsumerLag(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), withLag)
	want := func(when string, want int64) {
		t.Helper()
		if got, err := s.ConsumerLag(t.Context()); got != want || err != nil {
			t.Errorf("%s: lag = %d, %v; want %d", when, got, err, want)
		}
	}
	want("an empty topic", 0)
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		wantAll(t, s.Deliver(t.Context(), []drain.Delivery{message(key, key, "x"), message(key+"2", key+"2", "x")}), drain.Success, 0, "")
	}
	want("a group that has committed nothing", 14)

	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin, left, offsets := kadm.NewClient(client), int64(0), make(kadm.Offsets)
	for i, p := range c.PartitionInfos(topic) {
		if at := p.HighWatermark - 1; at >= 0 && i > 0 {
			offsets.AddOffset(topic, p.Partition, at, -1)
			left++
			continue
		}
		left += p.HighWatermark
	}
	if _, err := admin.CommitOffsets(t.Context(), "crm", offsets); err != nil {
		t.Fatal(err)
	}
	want("a group that has committed all partitions but one, up to the last record", left)
}

func TestConsumerLagCannotBeRead(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), withLag)
	wantError := func(said string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
		defer cancel()
		if _, err := s.ConsumerLag(ctx); err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("ConsumerLag = %v, want an error with %q", err, said)
		}
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Group: "crm", Err: kerr.GroupAuthorizationFailed})
	wantError("not authorized: unable to fetch offsets: GROUP_AUTHORIZATION_FAILED")
	c.Close()
	wantError("connection re") // refused, or reset
	s.CloseIdleConnections()
	wantError("nobody")
	other := newSink(t, newCluster(t).ListenAddrs(), func(k *policies.KafkaSink) { withLag(k); k.Topic = "none" })
	s = other
	wantError("UNKNOWN_TOPIC_OR_PARTITION")
}
