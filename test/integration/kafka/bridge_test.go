package kafka_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/test/integration/parts"
)

// TestBridge runs the example: records become records again at the pace of the calendar,
// each once and in its key's order, and one that is too large is put aside.
func TestBridge(t *testing.T) {
	const path, crm, refused = "../../../examples/kafka-bridge/policy.yaml", "orders.crm", "orders.refused"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	k := parts.StartKafka(t, parts.KafkaOptions{})
	policy := strings.ReplaceAll(string(text), "127.0.0.1:9092", k.Addr)
	k.CreateTopic(raw, partitions, nil)
	k.CreateTopic(crm, partitions, map[string]string{"message.timestamp.type": "LogAppendTime"})
	k.CreateTopic(refused, 1, nil)
	f := parts.StartForebay(t, policy, parts.ForebayOptions{})
	if said, code := f.Command("check", "--online", f.Dir+"/policy.yaml"); code != 0 {
		t.Errorf("check --online = %d\n%s", code, said)
	}

	// What the calendar says depends on when the test runs.
	const permitted = `forebay_drain_permitted_rate{drain="orders-to-crm"}`
	var rate float64
	parts.Until(t, time.Minute, "a rate is permitted", func() bool {
		rate, _ = f.Metric(permitted)
		return rate > 0
	})
	orders := int(5 * rate)
	writer := producer(k, raw)
	huge := &kgo.Record{Key: []byte("c0"), Value: bytes.Repeat([]byte("x"), 300<<10)}
	if err := writer.ProduceSync(t.Context(), huge).FirstErr(); err != nil {
		t.Fatal(err)
	}
	<-produce(t, writer, 0, orders, customers)
	tombstone := &kgo.Record{Key: []byte("c0"), Headers: []kgo.RecordHeader{{Key: "whyGone", Value: []byte("\x00gone")}}}
	if err := writer.ProduceSync(t.Context(), tombstone).FirstErr(); err != nil {
		t.Fatal(err)
	}
	parts.Until(t, 2*time.Minute, "all records are stored", func() bool { return f.Stream("orders").Accepted == int64(orders)+1 })
	if a := f.Settle("orders-to-crm", 5*time.Minute); a.Delivered != int64(orders)+1 || a.Dead != 0 {
		t.Errorf("audit = %+v, want %d delivered", a, orders+1)
	}
	after, _ := f.Metric(permitted)

	got := newLedger(orders)
	var first, last time.Time
	gone := 0
	read(t, k, crm, func(r *kgo.Record) {
		if first.IsZero() || r.Timestamp.Before(first) {
			first = r.Timestamp
		}
		if r.Timestamp.After(last) {
			last = r.Timestamp
		}
		if r.Value == nil {
			if gone++; string(r.Key) != "c0" || header(r, "whyGone") != "\x00gone" {
				t.Errorf("a tombstone of %q, %q", r.Key, r.Headers)
			}
			return
		}
		if _, once := got.came(header(r, "Forebay-Id"), string(r.Key), r.Value); !once {
			got.faults.add("%q came twice", r.Value)
		}
		if !strings.HasPrefix(header(r, "Forebay-Source"), raw+"/") {
			t.Errorf("a record from %q", header(r, "Forebay-Source"))
		}
	})
	got.check(t, "the topic")
	if gone != 1 {
		t.Errorf("%d tombstones, want one", gone)
	}
	if took := last.Sub(first); took.Seconds() < 0.6*float64(orders)/max(rate, after) {
		t.Errorf("%d records came in %v, at a rate of %v", orders, took, rate)
	} else {
		t.Logf("%d records in %v, at a rate of %v", orders, took, rate)
	}
	read(t, k, refused, func(r *kgo.Record) {
		if len(r.Value) != len(huge.Value) || header(r, "forebay-reason") != "too-large" || !strings.HasPrefix(header(r, "forebay-source"), raw+"/") {
			t.Errorf("refused: %d bytes, %q from %q", len(r.Value), header(r, "forebay-reason"), header(r, "forebay-source"))
		}
	})
	if n := count(t, k, refused); n != 1 {
		t.Errorf("%d refused records, want one", n)
	}
}
