package kafka

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"forebay/buffer"
	"forebay/drain"
	"forebay/limiter"
	"forebay/policies"
)

const topic = "orders"

func newCluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(4, topic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// newSink builds a sink, as a policy has it after some changes.
func newSink(t *testing.T, brokers []string, change func(*policies.KafkaSink)) *Sink {
	t.Helper()
	k := &policies.KafkaSink{
		Topic: topic, Acks: policies.AcksAll, Compression: "none", MaxBatchBytes: 1 << 20, ConnectTimeout: 2 * time.Second, Timeout: 30 * time.Second,
	}
	if change != nil {
		change(k)
	}
	p := policies.Sink{Name: "events", Kafka: k, Budget: policies.Budget{Limit: limiter.Limit{Rate: limiter.Unlimited}, Concurrency: 4}}
	s, err := New(p, []kgo.Opt{kgo.SeedBrokers(brokers...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.CloseIdleConnections)
	return s
}

// message is one with an id and a body.
func message(id, key, body string, fields ...buffer.Field) drain.Delivery {
	return drain.Delivery{ID: id, Delivery: buffer.Delivery{
		Ref:        buffer.Ref{Stream: "registrations"},
		Message:    buffer.Message{Method: "POST", Target: "/v1/registrations?x=1", Key: key, Body: []byte(body), Header: fields},
		AcceptedAt: time.Date(2025, 3, 1, 12, 0, 0, 345e6, time.UTC), // it may have waited for long
	}}
}

func messages(n, bytes int) []drain.Delivery {
	ms := make([]drain.Delivery, n)
	for i := range ms {
		body := make([]byte, bytes)
		for j := range body {
			body[j] = byte(rand.Uint32())
		}
		ms[i] = message(fmt.Sprint(i), "k", string(body))
	}
	return ms
}

// recorded reads what a topic holds.
func recorded(t *testing.T, c *kfake.Cluster) []*kgo.Record {
	t.Helper()
	want := int64(0)
	for _, p := range c.PartitionInfos(topic) {
		want += p.HighWatermark
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []*kgo.Record
	for int64(len(got)) < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		got = append(got, fetches.Records()...)
	}
	return got
}

func idOf(r *kgo.Record) string {
	for _, h := range r.Headers {
		if h.Key == "Forebay-Id" {
			return string(h.Value)
		}
	}
	return ""
}

// wantOnce fails unless a topic has each of the messages once, and nothing else.
func wantOnce(t *testing.T, c *kfake.Cluster, ms []drain.Delivery) {
	t.Helper()
	counts := make(map[string]int)
	for _, r := range recorded(t, c) {
		counts[idOf(r)]++
	}
	for _, m := range ms {
		if counts[m.ID] != 1 {
			t.Errorf("message %s is recorded %d times, want once", m.ID, counts[m.ID])
		}
		delete(counts, m.ID)
	}
	if len(counts) > 0 {
		t.Errorf("also recorded: %v", slices.Collect(maps.Keys(counts)))
	}
}

func wantAll(t *testing.T, outcomes []drain.Outcome, class drain.Class, status int, said string) {
	t.Helper()
	for i, o := range outcomes {
		if o.Class != class || o.Status != status || o.Unsent || !strings.Contains(o.Error, said) {
			t.Fatalf("outcome %d of %d is %+v, want %s with status %d and %q", i, len(outcomes), o, class, status, said)
		}
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), func(k *policies.KafkaSink) { k.Compression = "zstd" })
	m := message("ID", "abc", `{"x":1}`,
		buffer.Field{Name: "Ce-Id", Value: ":AP8=:"}, buffer.Field{Name: "Connection", Value: "close"}, buffer.Field{Name: "Content-Type", Value: "application/json"},
		buffer.Field{Name: "Forebay-Id", Value: "forged"},
		buffer.Field{Name: "Tracestate", Value: "a=b"}, buffer.Field{Name: "X-Many", Value: "1"}, buffer.Field{Name: "X-Many", Value: "2"})
	m.Tries.Attempts = 2
	began := 0
	ctx := drain.WithBegin(t.Context(), func() error { began++; return nil })
	wantAll(t, s.Deliver(ctx, []drain.Delivery{m}), drain.Success, 0, "")
	got := recorded(t, c)[0]
	var headers []string
	for _, h := range got.Headers {
		headers = append(headers, h.Key+": "+string(h.Value))
	}
	want := []string{
		"ce_id: :AP8=:", "Content-Type: application/json", "tracestate: a=b", "X-Many: 1", "X-Many: 2",
		"traceparent: " + m.Traceparent(), "Forebay-Method: POST", "Forebay-Target: /v1/registrations?x=1",
		"Forebay-Id: ID", "Forebay-Attempt: 3", "Forebay-Accepted-At: 2025-03-01T12:00:00.345Z", "Forebay-Stream: registrations",
	}
	if !slices.Equal(headers, want) {
		t.Errorf("headers = %q\nwant %q", headers, want)
	}
	if string(got.Key) != "abc" || string(got.Value) != `{"x":1}` || !got.Timestamp.Equal(m.AcceptedAt) || began != 1 {
		t.Errorf("key %q, value %q at %s, Begin %d times", got.Key, got.Value, got.Timestamp, began)
	}
}

// A message that waited for longer than an attempt may take is delivered like any.
func TestOldMessages(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), nil)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotLeaderForPartition, Count: 1})
	ms := messages(20, 10)
	for i := range ms {
		ms[i].AcceptedAt = time.Now().Add(-72 * time.Hour)
	}
	wantAll(t, s.Deliver(t.Context(), ms), drain.Success, 0, "")
	wantOnce(t, c, ms)
}

// A body of no bytes is a value; without one a record would delete its key.
func TestEmptyBody(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), nil)
	traced := message("1", "", "", buffer.Field{Name: "Traceparent", Value: "00-1-2-01"})
	wantAll(t, s.Deliver(t.Context(), []drain.Delivery{traced}), drain.Success, 0, "")
	got := recorded(t, c)[0]
	if got.Value == nil || got.Key != nil || string(got.Headers[0].Value) != "00-1-2-01" {
		t.Errorf("value %v, key %v, headers %v; want an empty value, no key and the caller's trace", got.Value, got.Key, got.Headers)
	}
}

// What was a record becomes that record again.
func TestBridgedRecord(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), nil)
	source := buffer.Field{Name: "Forebay-Source", Value: "raw/0/7"}
	keyed := message("1", "customer", "x", buffer.Field{Name: "Bytes", Value: ":AP8=:"}, buffer.Field{Name: "My%20type", Value: "order"}, source,
		buffer.Field{Name: "Forebay-Source-Names", Value: "x-other, my%20Type"}, buffer.Field{Name: "Forebay-Source-Key", Value: ":AP8=:"})
	word := message("2", "", "", source, buffer.Field{Name: "Forebay-Source-Key", Value: ":no base64:"}, buffer.Field{Name: "Forebay-Source-Tombstone", Value: "true"})
	wantAll(t, s.Deliver(t.Context(), []drain.Delivery{keyed, word}), drain.Success, 0, "")
	for _, r := range recorded(t, c) {
		want := &kgo.Record{Key: []byte{0, 255}, Value: []byte("x")}
		if idOf(r) == "2" {
			want = &kgo.Record{Key: []byte(":no base64:")}
		}
		if string(r.Key) != string(want.Key) || (r.Value == nil) != (want.Value == nil) || string(r.Value) != string(want.Value) {
			t.Errorf("record %q: %v, want %q: %v", r.Key, r.Value, want.Key, want.Value)
		}
		for _, h := range r.Headers {
			if strings.HasPrefix(h.Key, "Forebay-Source-") || h.Key == "Bytes" && string(h.Value) != "\x00\xff" {
				t.Errorf("header %s: %q is left", h.Key, h.Value)
			}
		}
		if idOf(r) == "1" && !slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "my Type" }) {
			t.Errorf("headers %q, want one named as it was", r.Headers)
		}
	}
}

// Java's producer puts keys where we do: its murmur2 of these is known.
func TestPartitions(t *testing.T) {
	t.Parallel()
	const partitions = 12
	c := newCluster(t, kfake.SeedTopics(partitions, "spread"))
	s := newSink(t, c.ListenAddrs(), func(k *policies.KafkaSink) { k.Topic = "spread" })
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "abc": 479470107} {
		wantAll(t, s.Deliver(t.Context(), []drain.Delivery{message(key, key, "x")}), drain.Success, 0, "")
		at := (hash & 0x7fffffff) % partitions
		if p := c.PartitionInfo("spread", at); p.HighWatermark == 0 {
			t.Errorf("key %q is not in partition %d", key, at)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	s := newSink(t, c.ListenAddrs(), func(k *policies.KafkaSink) { k.Compression = "lz4" })
	ms := messages(2000, 100)
	done := make(chan []drain.Outcome)
	for part := range slices.Chunk(ms, 100) {
		go func() { done <- s.Deliver(t.Context(), part) }()
	}
	for range len(ms) / 100 {
		wantAll(t, <-done, drain.Success, 0, "")
	}
	wantOnce(t, c, ms)
}

func TestPolicyIsChecked(t *testing.T) {
	t.Parallel()
	good := policies.KafkaSink{Topic: topic, Compression: "gzip", MaxBatchBytes: 1 << 20, Timeout: time.Second, Acks: policies.AcksLeader}
	for name, change := range map[string]func(*policies.Sink){
		"no kafka":    func(p *policies.Sink) { p.Kafka = nil },
		"compression": func(p *policies.Sink) { p.Kafka.Compression = "br" },
		"batch":       func(p *policies.Sink) { p.Kafka.MaxBatchBytes = 1 },
		"good":        func(*policies.Sink) {},
	} {
		k := good
		p := policies.Sink{Kafka: &k}
		change(&p)
		s, err := New(p, []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")})
		if (err == nil) != (name == "good") {
			t.Errorf("%s: New = %v", name, err)
		}
		if err == nil {
			s.CloseIdleConnections()
		}
	}
}
