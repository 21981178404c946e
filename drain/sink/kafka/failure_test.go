package kafka

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"forebay/drain"
	"forebay/policies"
)

// A batch that is refused for one of its records fails that one alone.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	if err := c.CreateTopic("small", 1, map[string]string{"max.message.bytes": "4000"}); err != nil {
		t.Fatal(err)
	}
	s := newSink(t, c.ListenAddrs(), func(k *policies.KafkaSink) { k.Topic = "small" })
	ms := messages(50, 30)
	for _, large := range []int{7, 31} {
		ms[large] = messages(1, 4000)[0]
	}
	for i, o := range s.Deliver(t.Context(), ms) {
		if large := i == 7 || i == 31; large && (o.Class != drain.Permanent || o.Status != 413) || !large && o.Class != drain.Success {
			t.Errorf("message %d of %d bytes: %+v", i, len(ms[i].Body), o)
		}
	}
	if got := c.PartitionInfo("small", 0).HighWatermark; got != 48 {
		t.Errorf("%d records, want each of the 48 others once", got)
	}
}

// What is over max_batch_bytes is never sent.
func TestLargerThanABatch(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), func(k *policies.KafkaSink) { k.MaxBatchBytes = 2000 })
	ms := messages(3, 100)
	ms[1] = messages(1, 2000)[0]
	ms[1].ID = "large"
	got := s.Deliver(t.Context(), ms)
	wantAll(t, got[1:2], drain.Permanent, 413, "MESSAGE_TOO_LARGE")
	wantAll(t, []drain.Outcome{got[0], got[2]}, drain.Success, 0, "")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    *kerr.Error
		class  drain.Class
		status int
		said   string
	}{
		{kerr.InvalidRecord, drain.Permanent, 400, "record refused: INVALID_RECORD"},
		{kerr.InvalidTimestamp, drain.Permanent, 400, "record refused: INVALID_TIMESTAMP"},
		{kerr.TopicAuthorizationFailed, drain.Retry, 0, "not authorized: TOPIC_AUTHORIZATION_FAILED"},
		{kerr.ClusterAuthorizationFailed, drain.Retry, 0, "not authorized: CLUSTER_AUTHORIZATION_FAILED"},
		{kerr.PolicyViolation, drain.Retry, 0, "kafka: POLICY_VIOLATION"},
		{kerr.InvalidRequiredAcks, drain.Retry, 0, "kafka: INVALID_REQUIRED_ACKS"},
	} {
		c := newCluster(t)
		s := newSink(t, c.ListenAddrs(), nil)
		ms := messages(5, 10)
		fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: tt.err, Count: -1})
		wantAll(t, s.Deliver(t.Context(), ms), tt.class, tt.status, tt.said)
		fault.Remove()
		wantAll(t, s.Deliver(t.Context(), ms), drain.Success, 0, "")
		wantOnce(t, c, ms)
	}
}

// A right that is given later is enough: no restart.
func TestNoRightToProduceIdempotently(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), nil)
	ms := messages(3, 10)
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: kerr.ClusterAuthorizationFailed, Count: -1})
	wantAll(t, s.Deliver(t.Context(), ms), drain.Retry, 0, "not authorized: CLUSTER_AUTHORIZATION_FAILED")
	fault.Remove()
	wantAll(t, s.Deliver(t.Context(), ms), drain.Success, 0, "")
	wantOnce(t, c, ms)
}

func TestUnknownTopic(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), func(k *policies.KafkaSink) { k.Topic = "later" })
	ms := messages(3, 10)
	wantAll(t, s.Deliver(t.Context(), ms), drain.Retry, 404, "no topic later: UNKNOWN_TOPIC_OR_PARTITION")
	if err := c.CreateTopic("later", 1, nil); err != nil {
		t.Fatal(err)
	}
	wantAll(t, s.Deliver(t.Context(), ms), drain.Success, 0, "")
}

// A topic that was deleted and made again has another id, and takes records as before.
func TestTopicIsMadeAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), nil)
	wantAll(t, s.Deliver(t.Context(), messages(3, 10)), drain.Success, 0, "")
	if err := errors.Join(c.DeleteTopic(topic), c.CreateTopic(topic, 4, nil)); err != nil {
		t.Fatal(err)
	}
	ms := messages(5, 10)
	for tries := 0; ; tries++ {
		outcomes := s.Deliver(t.Context(), ms)
		if outcomes[0].Class == drain.Success {
			break
		}
		if tries == 20 {
			t.Fatalf("after 20 attempts: %+v", outcomes[0])
		}
	}
	wantOnce(t, c, ms)
}

// What a broker has and did not say so is not doubled within an attempt.
func TestAnswersThatAreLost(t *testing.T) {
	t.Parallel()
	for _, err := range []*kerr.Error{kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.NotEnoughReplicas, kerr.NotLeaderForPartition} {
		c := newCluster(t)
		s := newSink(t, c.ListenAddrs(), nil)
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: err, Count: 2})
		ms := messages(20, 10)
		wantAll(t, s.Deliver(t.Context(), ms), drain.Success, 0, "")
		wantOnce(t, c, ms)
	}
}

// A broker that says nothing is waited for until the time-out, and no longer.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), func(k *policies.KafkaSink) { k.Timeout = 300 * time.Millisecond })
	warm := messages(1, 10)
	warm[0].ID = "warm"
	wantAll(t, s.Deliver(t.Context(), warm), drain.Success, 0, "")
	var silent atomic.Bool
	silent.Store(true)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, nil, silent.Load() // the broker goes on reading
	})
	ms := messages(5, 10)
	for range 3 {
		began := time.Now()
		wantAll(t, s.Deliver(t.Context(), ms), drain.Timeout, 0, "timeout: ")
		if took := time.Since(began); took > 9*time.Second {
			t.Errorf("an attempt with a time-out of 300 ms took %s", took)
		}
	}
	// What was given up does not hold up what comes when the broker speaks again.
	silent.Store(false)
	for tries := 0; s.Deliver(t.Context(), ms)[0].Class != drain.Success; tries++ {
		if tries == 50 {
			t.Fatal("50 attempts in vain since the broker speaks again")
		}
	}
}

// While no broker can be reached nothing is begun, and the reason is said at once.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	s := newSink(t, []string{ln.Addr().String()}, nil)
	begun := 0
	ctx := drain.WithBegin(t.Context(), func() error { begun++; return nil })
	ms := messages(3, 10)
	wantAll(t, s.Deliver(ctx, ms), drain.Retry, 0, "connection refused: ")
	if begun > 0 {
		t.Error("Begin was called without a broker")
	}
	c := newCluster(t, kfake.Ports(port))
	wantAll(t, s.Deliver(ctx, ms), drain.Success, 0, "")
	wantOnce(t, c, ms)
}

// What is under way when a broker goes away waits for it, and is not doubled. What
// comes later is told at once.
func TestBrokerGoesAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCluster(t, kfake.DataDir(dir))
	addrs := c.ListenAddrs()
	s := newSink(t, addrs, nil)
	first, second := messages(3, 10), messages(3, 10)
	for i := range second {
		second[i].ID += "-second"
	}
	wantAll(t, s.Deliver(t.Context(), first), drain.Success, 0, "")
	begun, away := make(chan struct{}), make(chan struct{})
	ctx := drain.WithBegin(t.Context(), func() error {
		close(begun)
		<-away
		return nil
	})
	under := make(chan []drain.Outcome)
	go func() { under <- s.Deliver(ctx, second) }()
	<-begun
	c.Close()
	close(away)
	for sure := true; sure; sure, _ = s.reach.known() { // until it is noticed
		<-time.After(time.Millisecond)
	}
	wantAll(t, s.Deliver(t.Context(), messages(1, 10)), drain.Retry, 0, "connection re") // refused, or reset
	_, port, _ := net.SplitHostPort(addrs[0])
	c = newCluster(t, kfake.DataDir(dir), kfake.Ports(portOf(t, port)))
	wantAll(t, <-under, drain.Success, 0, "")
	wantOnce(t, c, append(first, second...))
}

func portOf(t *testing.T, s string) int {
	t.Helper()
	n, err := net.LookupPort("tcp", s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What Begin does not let through is not produced.
func TestBeginRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), nil)
	ctx := drain.WithBegin(t.Context(), func() error { return errors.New("not now") })
	for _, o := range s.Deliver(ctx, messages(3, 10)) {
		if !o.Unsent {
			t.Errorf("outcome %+v, want unsent", o)
		}
	}
	if got := recorded(t, c); len(got) > 0 {
		t.Errorf("%d records", len(got))
	}
}

func TestCutOff(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cancel()
		return nil, nil, true
	})
	for _, o := range s.Deliver(ctx, messages(3, 10)) {
		if o.Class == drain.Success || o.Class == drain.Permanent {
			t.Errorf("outcome %+v of an attempt that was cut off", o)
		}
	}
}

// A sink that is replaced ends what is under way, and makes no attempt after that.
func TestReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), nil)
	held, release := make(chan struct{}), make(chan struct{})
	ctx := drain.WithBegin(t.Context(), func() error {
		close(held)
		<-release
		return nil
	})
	done := make(chan []drain.Outcome)
	ms := messages(3, 10)
	go func() { done <- s.Deliver(ctx, ms) }()
	<-held
	s.CloseIdleConnections()
	for _, o := range s.Deliver(t.Context(), messages(1, 10)) {
		if !o.Unsent || !strings.Contains(o.Error, "replaced") {
			t.Errorf("outcome %+v of a sink that was replaced, want unsent", o)
		}
	}
	close(release)
	wantAll(t, <-done, drain.Success, 0, "")
	wantOnce(t, c, ms)
}

// A broker that accepts and says nothing is waited for until the time-out, too.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := newSink(t, []string{ln.Addr().String()}, func(k *policies.KafkaSink) { k.Timeout = 100 * time.Millisecond })
	began := time.Now()
	for range 3 {
		wantAll(t, s.Deliver(t.Context(), messages(2, 10)), drain.Timeout, 0, "timeout: ")
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("three attempts with a time-out of 100 ms took %s", took)
	}
}
