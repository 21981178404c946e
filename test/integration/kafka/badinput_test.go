package kafka_test

import (
	"bytes"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/test/integration/parts"
)

// hangsUp listens where a broker would be, and counts who comes.
func hangsUp(t *testing.T) (addr string, came *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	came = new(atomic.Int64)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			conn.Close()
		}
	}()
	return ln.Addr().String(), came
}

// badPolicy reads from and writes to what is not there: of k a topic for refused records and
// one for orders, and a cluster that is none.
func badPolicy(k *parts.Kafka, nowhere string) string {
	return strings.NewReplacer("BROKER", k.Addr, "NOWHERE", nowhere, "RAW", raw, "OUT", out).Replace(`version: 1
sources:
  - { name: legacy, kafka: { brokers: ["BROKER"], topics: [RAW], group: forebay }, stream: orders, from: oldest, on_refused: { topic: orders.refused } }
  - { name: lost, kafka: { brokers: ["NOWHERE"], topics: [RAW], group: forebay }, stream: others, from: oldest }
streams: [{ name: orders, max_message_bytes: 1KiB, ordering_key: ["json:/customer"] }, { name: others }]
sinks:
  - { name: events, kafka: { brokers: ["BROKER"], topic: OUT }, slow_start: 0s }
  - { name: nobody, kafka: { brokers: ["NOWHERE"], topic: OUT } }
drains:
  - { name: to-events, stream: orders, sink: events, retry: { max_attempts: 100, backoff: { initial: 1s, max: 2s } } }
  - { name: to-nobody, stream: others, sink: nobody }
routes:
  - { name: others, match: { methods: [POST], path: /v1/others }, mode: buffer, stream: others }
  - { name: orders, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders }
`)
}

// TestNothingIsThere: topics and clusters that are not there are told, and tried at a pace;
// what can be mended goes on by itself and has lost nothing.
func TestNothingIsThere(t *testing.T) {
	const orders, seconds = 100, 15
	k := parts.StartKafka(t, parts.KafkaOptions{})
	k.CreateTopic(raw, 1, nil)
	nowhere, came := hangsUp(t)
	f := parts.StartForebay(t, badPolicy(k, nowhere), parts.ForebayOptions{})
	writer := producer(k, raw)
	<-produce(t, writer, 0, orders, customers)
	parts.Until(t, time.Minute, "the first orders are stored", func() bool { return f.Stream("orders").Accepted == orders })
	huge := &kgo.Record{Key: []byte("c0"), Value: bytes.Repeat([]byte("x"), 2000)}
	if err := writer.ProduceSync(t.Context(), huge).FirstErr(); err != nil {
		t.Fatal(err)
	}
	<-produce(t, writer, orders, 2*orders, customers)
	for range 10 {
		if status, answer, err := f.Post("/v1/others", "application/json", []byte(`{}`)); err != nil || status != 202 {
			t.Fatalf("POST = %d, %v: %s", status, err, answer)
		}
	}
	parts.Until(t, time.Minute, "all is told", func() bool {
		legacy, lost := f.Source("legacy"), f.Source("lost")
		return legacy.State == "failing" && strings.Contains(legacy.LastError, "orders.refused") && lost.State == "failing" && lost.LastError != "" &&
			f.Why("to-nobody").Binding == "breaker"
	})
	<-time.After(seconds * time.Second) // to count what is tried meanwhile
	attempts := 0.0
	for _, sink := range []string{"events", "nobody"} {
		for _, outcome := range []string{"retry", "timeout"} {
			n, _ := f.Metric(`forebay_drain_attempts_total{drain="to-` + sink + `",outcome="` + outcome + `",sink="` + sink + `"}`)
			attempts += n
		}
	}
	lines := strings.Count(string(f.Said()), "\n")
	legacy, _ := f.Metric(`forebay_source_errors_total{source="legacy"}`)
	lost, _ := f.Metric(`forebay_source_errors_total{source="lost"}`)
	t.Logf("in over %d s: %d connections to nowhere, %v attempts, %v and %v errors of sources, %d lines in the log", seconds, came.Load(), attempts, legacy, lost, lines)
	if came.Load() > 20*seconds || attempts > 4*orders*seconds || legacy+lost > 20*seconds || lines > 60 || attempts == 0 || legacy == 0 || lost == 0 || came.Load() == 0 {
		t.Errorf("it is tried too often, or never")
	}

	k.CreateTopic("orders.refused", 1, nil)
	parts.Until(t, 3*time.Minute, "the source goes on", func() bool { return f.Stream("orders").Accepted == 2*orders })
	if n := count(t, k, "orders.refused"); n != 1 {
		t.Errorf("%d refused records, want one", n)
	}
	k.CreateTopic(out, 1, nil)
	if a := f.Settle("to-events", 2*time.Minute); a.Delivered != 2*orders || a.Dead != 0 {
		t.Errorf("audit = %+v, want %d delivered", a, 2*orders)
	}

	// Of the sink's topic another is made under the same name.
	admin := kadm.NewClient(k.Client())
	if _, err := admin.DeleteTopic(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	parts.Until(t, time.Minute, "the topic is gone", func() bool {
		topics, err := admin.ListTopics(t.Context(), out)
		return err == nil && !topics.Has(out)
	})
	<-produce(t, writer, 2*orders, 3*orders, customers)
	parts.Until(t, time.Minute, "the drain says that there is no topic", func() bool {
		n, _ := f.Metric(`forebay_drain_attempts_total{drain="to-events",outcome="retry",sink="events"}`)
		return n > attempts
	})
	k.CreateTopic(out, 1, nil)
	if a := f.Settle("to-events", 2*time.Minute); a.Delivered != 3*orders || a.Dead != 0 {
		t.Errorf("audit = %+v, want %d delivered", a, 3*orders)
	}
	if n := count(t, k, out); n != orders {
		t.Errorf("%d records in the topic that was made again, want %d", n, orders)
	}
}
