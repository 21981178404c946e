package kafka_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/test/integration/parts"
)

// appended are topic settings with which a record tells when the broker wrote it.
var appended = map[string]string{"message.timestamp.type": "LogAppendTime"}

// pacedPolicy stores orders of a topic and of callers, and delivers them to a topic at a
// rate; more is of the sink.
func pacedPolicy(broker string, rate int, more string) string {
	return fmt.Sprintf(`version: 1
sources: [{ name: legacy, kafka: { brokers: [%[1]q], topics: [%[2]s], group: forebay }, stream: orders, from: oldest }]
streams: [{ name: orders, ordering_key: ["json:/customer"] }]
sinks:
  - { name: events, kafka: { brokers: [%[1]q], topic: %[3]s, timeout: { total: 60s }%[5]s }, breaker: { min_requests: 1, window: 5s, open_for: 500ms }, slow_start: 0s }
drains: [{ name: to-events, stream: orders, sink: events, schedule: { base: %[4]d/s }, retry: { backoff: { initial: 100ms, max: 1s } } }]
routes: [{ name: orders, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders, split: ndjson }]
`, broker, raw, out, rate, more)
}

// written are the times at which the broker wrote the records of a topic, in order.
func written(t *testing.T, k *parts.Kafka, topic string) (at []time.Time) {
	t.Helper()
	read(t, k, topic, func(r *kgo.Record) { at = append(at, r.Timestamp) })
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// most is how many of the times lie within some stretch of that length.
func most(at []time.Time, within time.Duration) (n int) {
	from := 0
	for i := range at {
		for at[i].Sub(at[from]) >= within {
			from++
		}
		n = max(n, i-from+1)
	}
	return n
}

// post accepts one order over HTTP, and says how long that took.
func post(t *testing.T, f *parts.Forebay, o order) time.Duration {
	t.Helper()
	began := time.Now()
	if status, answer, err := f.Post("/v1/orders", "application/x-ndjson", o.bytes()); err != nil || status != 202 {
		t.Fatalf("POST = %d, %v: %s", status, err, answer)
	}
	return time.Since(began)
}

// TestBrokerGone: while the broker is away orders are accepted, and source and drain say
// what is wrong; once it is back both go on by themselves, at the pace that there was.
// FOREBAY_AWAY_SECONDS=60 makes it a minute.
func TestBrokerGone(t *testing.T) {
	const rate, before, after = 200, 3000, 500
	away := time.Duration(fromEnv(t, "FOREBAY_AWAY_SECONDS", 15)) * time.Second
	k := parts.StartKafka(t, parts.KafkaOptions{})
	k.CreateTopic(raw, partitions, nil)
	k.CreateTopic(out, partitions, appended)
	f := parts.StartForebay(t, pacedPolicy(k.Addr, rate, ""), parts.ForebayOptions{})
	writer := producer(k, raw)
	<-produce(t, writer, 0, before, customers)
	parts.Until(t, time.Minute, "all is stored, and some is delivered", func() bool {
		return f.Stream("orders").Accepted == before && f.Drain("to-events").Delivered > rate
	})

	k.Kill()
	orders, slowest, failing, told := before, time.Duration(0), false, false
	for back := time.Now().Add(away); time.Now().Before(back); orders++ {
		slowest = max(slowest, post(t, f, orderOf(orders, customers)))
		if s := f.Source("legacy"); s.State == "failing" && strings.Contains(s.LastError, "connection refused") {
			failing = true
		}
		if w := f.Why("to-events"); w.Binding == "breaker" && strings.Contains(fmt.Sprint(w.Constraints), "connection re") { // refused, or reset
			told = true
		}
		<-time.After(50 * time.Millisecond) // the pace of a caller
	}
	if !failing || !told {
		t.Errorf("the source failed: %v, why said so: %v; source %+v, why %+v", failing, told, f.Source("legacy"), f.Why("to-events"))
	}
	stored := f.Stream("orders").Accepted
	if stored != int64(orders) {
		t.Errorf("%d orders are stored, want %d", stored, orders)
	}
	lines := strings.Count(string(f.Said()), "\n")
	k.Restart()
	<-produce(t, writer, orders, orders+after, customers)
	parts.Until(t, 2*time.Minute, "the source goes on", func() bool {
		return f.Stream("orders").Accepted == int64(orders+after) && f.Source("legacy").State == "running"
	})
	if a := f.Settle("to-events", 5*time.Minute); a.Delivered != int64(orders+after) || a.Dead != 0 || a.Imbalance != 0 {
		t.Errorf("audit = %+v, want %d delivered", a, orders+after)
	}
	at := written(t, k, out)
	if len(at) != orders+after {
		t.Errorf("%d records, want %d", len(at), orders+after)
	}
	if n := most(at, 5*time.Second); n > 5*rate*3/2 {
		t.Errorf("%d records in 5 s at %d/s, so many came at once", n, rate)
	}
	t.Logf("away for %v: %d orders accepted, the slowest in %v; %d lines in the log; at %d/s at most %d records in 1 s, %d in 5 s",
		away, orders-before, slowest.Round(time.Millisecond), lines, rate, most(at, time.Second), most(at, 5*time.Second))
	if lines > 30+4*int(away/time.Second) { // the breaker opens twice a second
		t.Errorf("%d lines in the log", lines)
	}
}

// crm reads a topic as a group until it is stopped.
func crm(t *testing.T, k *parts.Kafka) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	client := k.Client(kgo.ConsumeTopics(out), kgo.ConsumerGroup("crm"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			client.PollFetches(ctx)
			if err := client.CommitUncommittedOffsets(t.Context()); err != nil {
				t.Errorf("commit: %v", err)
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		client.Close()
	}
}

// committed is how many records the group has read.
func committed(t *testing.T, k *parts.Kafka) (n int64) {
	t.Helper()
	offsets, err := kadm.NewClient(k.Client()).FetchOffsets(t.Context(), "crm")
	if err != nil {
		t.Fatal(err)
	}
	offsets.Each(func(o kadm.OffsetResponse) { n += o.At })
	return n
}

// TestGroupStops: a group that stops reading holds the drain at the bound, and lets it go on
// as it catches up.
func TestGroupStops(t *testing.T) {
	const orders, rate, bound = 8000, 500, 1000
	k := parts.StartKafka(t, parts.KafkaOptions{})
	k.CreateTopic(raw, partitions, nil)
	k.CreateTopic(out, partitions, appended)
	f := parts.StartForebay(t, pacedPolicy(k.Addr, rate, fmt.Sprintf(", max_consumer_lag: { group: crm, messages: %d }", bound)), parts.ForebayOptions{})
	<-produce(t, producer(k, raw), 0, orders, customers)
	stop := crm(t, k)
	parts.Until(t, time.Minute, "twice the bound is delivered while the group reads", func() bool { return count(t, k, out) > 2*bound })
	stop()
	had := committed(t, k)
	parts.Until(t, time.Minute, "the drain is held", func() bool { return f.Why("to-events").Binding == "kafka-lag" })
	held := int64(0)
	for _, end := range settled(t, k, out) {
		held += end
	}
	if held < had+bound {
		t.Errorf("held at %d records, the group has %d and may be %d behind", held, had, bound)
	}
	stop = crm(t, k)
	parts.Until(t, time.Minute, "the drain goes on", func() bool { return count(t, k, out) > held+rate })
	if a := f.Settle("to-events", 5*time.Minute); a.Delivered != orders || a.Dead != 0 {
		t.Errorf("audit = %+v, want %d delivered", a, orders)
	}
	stop()
	at := written(t, k, out)
	over := at[held-1].Sub(at[had+bound-1])
	t.Logf("the drain stopped %v after the bound, %d records over it", over, held-had-bound)
	if over > 4*time.Second { // 2 s, on a machine with nothing else to do
		t.Errorf("the drain went on for %v over the bound", over)
	}
}
