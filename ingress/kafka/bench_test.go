package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
)

// BenchmarkStore is what a source does between a poll and the next, a record, on a real
// buffer: orders of 300 bytes with a key each.
func BenchmarkStore(b *testing.B) {
	engine, err := buffer.Open(b.Context(), buffer.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	if err := engine.Configure([]buffer.Stream{{Name: "orders", Drains: []string{"d"}}}); err != nil {
		b.Fatal(err)
	}
	set := parsed(b, onePolicy, "127.0.0.1:1")
	sources := New(Config{Closed: func(string) (string, bool) { return "", false }}, engine, discard(), nil)
	s := newSession(sources.reader(set, &set.Sources[0]))
	p := &assigned{partition: partition{topic: "orders.raw"}}
	s.parts[p.partition.String()] = p
	const batch = 10_000
	var records []*kgo.Record
	for i := range batch {
		records = append(records, &kgo.Record{
			Topic: "orders.raw", Offset: int64(i), Timestamp: time.UnixMilli(1_800_000_000_000 + int64(i)), Key: fmt.Appendf(nil, "%d", i%997),
			Value: fmt.Appendf(nil, `{"order_id":"%012d","customer_id":"%d","lines":[{"sku":"8512%dA","quantity":6,"price":"2.55","name":"WHITE HANGING HEART T-LIGHT HOLDER"},{"sku":"7105%d","quantity":8,"price":"3.39","name":"WHITE METAL LANTERN"}],"country":"United Kingdom","placed_at":"2027-11-11T08:26:00Z","note":"%d"}`, i*7919, i%997, i%7, i%11, i*104729),
		})
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		p.pending = append(p.pending, records...)
		s.storeOn(b.Context())
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
