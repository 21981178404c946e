// Package sink_test delivers to real servers.
package sink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/test/integration/parts"
)

const topic = "orders.v1"

// policy delivers orders to the topic, by customer; more is of the sink.
func policy(broker, rate, more string) string {
	return fmt.Sprintf(`version: 1
sinks:
  - name: events
    kafka: { brokers: ["%s"], topic: %s, timeout: { total: 60s }%s }
    breaker: { min_requests: 1, window: 5s, open_for: 500ms }
    slow_start: 0s
streams: [{ name: orders, ordering_key: ["json:/customer"] }]
drains:
  - { name: to-events, stream: orders, sink: events, schedule: { base: %s }, retry: { backoff: { initial: 100ms, max: 1s } } }
routes:
  - { name: orders, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders, split: ndjson, max_body: 16MiB }
`, broker, topic, more, rate)
}

type order struct {
	Customer string `json:"customer"`
	N        int    `json:"n"`
}

// post accepts orders of so many customers, each with the numbers from … from+each−1.
func post(t *testing.T, f *parts.Forebay, customers, from, each int) {
	t.Helper()
	var body bytes.Buffer
	for n := range each {
		for c := range customers {
			fmt.Fprintf(&body, "{\"customer\":\"c%d\",\"n\":%d}\n", c, from+n)
		}
	}
	if status, answer, err := f.Post("/v1/orders", "application/x-ndjson", body.Bytes()); err != nil || status != 202 {
		t.Fatalf("POST = %d, %v: %s", status, err, answer)
	}
}

func count(t *testing.T, k *parts.Kafka) (n int64) {
	t.Helper()
	ends, err := kadm.NewClient(k.Client()).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range ends[topic] {
		n += end.Offset
	}
	return n
}

// verify reads the topic: each message once, and those of a customer in order.
func verify(t *testing.T, k *parts.Kafka, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	client := k.Client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	next, ids := make(map[string]int), make(map[string]bool)
	for total := count(t, k); int64(len(ids)) < total; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			var o order
			if err := json.Unmarshal(r.Value, &o); err != nil || string(r.Key) != o.Customer {
				t.Fatalf("record %q: %q, %v", r.Key, r.Value, err)
			}
			i := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "Forebay-Id" })
			if id := string(r.Headers[i].Value); ids[id] {
				t.Fatalf("order %+v is there twice: %s", o, id)
			} else {
				ids[id] = true
			}
			if o.N != next[o.Customer] {
				t.Fatalf("order %d of %s came when it was the turn of %d", o.N, o.Customer, next[o.Customer])
			}
			next[o.Customer]++
		}
	}
	if len(ids) != want {
		t.Errorf("%d records, want %d", len(ids), want)
	}
}

// The broker is killed twice amid, and is away for a while: accepting goes on, why says so,
// and each order arrives once and in its customer's turn.
func TestKafkaIsKilled(t *testing.T) {
	const customers, each = 3000, 4 // most of them untried at a kill
	k := parts.StartKafka(t, parts.KafkaOptions{})
	k.CreateTopic(topic, 3, nil)
	f := parts.StartForebay(t, policy(k.Addr, "1000/s", ""), parts.ForebayOptions{})
	for kill := range 2 {
		post(t, f, customers, kill*each, each)
		sent := count(t, k)
		parts.Until(t, time.Minute, "some are delivered", func() bool { return count(t, k) > sent+500 })
		k.Kill()
		parts.Until(t, 2*time.Minute, "why says that the broker is away", func() bool {
			return strings.Contains(fmt.Sprint(f.Why("to-events").Constraints), "connection re") // refused, or reset
		})
		k.Restart()
	}
	if got := f.Settle("to-events", 3*time.Minute); got.Delivered != 2*customers*each || got.Dead != 0 {
		t.Errorf("audit = %+v, want all delivered", got)
	}
	verify(t, k, 2*customers*each)
}

// A group that stands holds the drain back within two seconds of the bound, and lets it go
// on as it catches up.
func TestKafkaLag(t *testing.T) {
	const customers, each, bound, rate = 500, 10, 1000, 500
	k := parts.StartKafka(t, parts.KafkaOptions{})
	k.CreateTopic(topic, 3, nil)
	f := parts.StartForebay(t, policy(k.Addr, fmt.Sprintf("%d/s", rate), fmt.Sprintf(", max_consumer_lag: { group: crm, messages: %d }", bound)), parts.ForebayOptions{})
	post(t, f, customers, 0, each)
	parts.Until(t, time.Minute, "held by the lag", func() bool { return f.Why("to-events").Binding == "kafka-lag" && count(t, k) >= bound })
	at := count(t, k)
	if at > bound+2*rate+rate/2 { // what is under way lands too
		t.Errorf("%d records before it stopped at %d", at, bound)
	}
	consumer := k.Client(kgo.ConsumeTopics(topic), kgo.ConsumerGroup("crm"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for read := 0; read < customers*each; {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d: %v", read, customers*each, err)
		}
		read += fetches.NumRecords()
		if err := consumer.CommitUncommittedOffsets(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.Settle("to-events", time.Minute); got.Delivered != customers*each {
		t.Errorf("audit = %+v", got)
	}
	verify(t, k, customers*each)
}

// A sink gets in by TLS and each mechanism; check --online tells who does not, and why.
func TestKafkaUsers(t *testing.T) {
	const password = "her secret"
	k := parts.StartKafka(t, parts.KafkaOptions{Users: map[string]string{"alice": password}})
	k.CreateTopic(topic, 3, nil)
	dir := t.TempDir()
	for name, text := range map[string]string{"right": password, "wrong": "a guess"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	of := func(mechanism, secret, ca string) string {
		return policy(k.SecureAddr, "unlimited", fmt.Sprintf(`, tls: { ca_file: %s }, sasl: { mechanism: %s, username: alice, password: "${file:%s/%s}" }`, ca, mechanism, dir, secret))
	}
	f := parts.StartForebay(t, of("plain", "right", k.CAFile), parts.ForebayOptions{})
	for i, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		f.Reload(of(mechanism, "right", k.CAFile))
		post(t, f, 10, i, 1)
		if got := f.Settle("to-events", time.Minute); got.Delivered != int64(10*(i+1)) {
			t.Errorf("%s: audit = %+v", mechanism, got)
		}
		check := filepath.Join(dir, "policy.yaml")
		for _, tt := range []struct{ secret, want string }{{"right", ""}, {"wrong", "refuses sasl: SASL_AUTHENTICATION_FAILED"}} {
			if err := os.WriteFile(check, []byte(of(mechanism, tt.secret, k.CAFile)), 0o600); err != nil {
				t.Fatal(err)
			}
			out, code := f.Command("check", "--online", check)
			if (code == 0) != (tt.want == "") || !strings.Contains(out, tt.want) || strings.Contains(out, password) || strings.Contains(out, "a guess") {
				t.Errorf("%s with the %s password: check --online = %d\n%s", mechanism, tt.secret, code, out)
			}
		}
	}
	verify(t, k, 30)
}
