package buffer_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"forebay/buffer"
)

// order is a message as a shop sends it.
func order(n int) buffer.Message {
	return buffer.Message{
		Method: "POST", Target: "/v1/orders",
		Header: []buffer.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "X-Request-Id", Value: fmt.Sprintf("%016x", n)}},
		Body: fmt.Appendf(nil, `{"order_id":"%d","customer_id":"17850","country":"United Kingdom","placed_at":"2010-12-01T08:26:00Z",`+
			`"items":[{"sku":"85123A","description":"WHITE HANGING HEART T-LIGHT HOLDER","quantity":6,"unit_price":2.55}]}`, n),
	}
}

func benchEngine(b *testing.B, masters ...buffer.MasterKey) *buffer.Engine {
	b.Helper()
	e, err := buffer.Open(b.Context(), buffer.Config{Dir: b.TempDir(), SegmentBytes: 64 * mib, MasterKeys: masters})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	configure(b, e, "mail")
	return e
}

// BenchmarkAppend is one message a call, from as many callers at once.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			e := benchEngine(b)
			var n atomic.Int64
			b.SetParallelism((callers + 1) / 2) // times GOMAXPROCS, which is 2 here
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				msgs := []buffer.Message{order(int(n.Add(1)))}
				for pb.Next() {
					if _, err := e.Append(b.Context(), "orders", time.Now(), msgs); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkTakeAck reads what was appended and finishes it.
func BenchmarkTakeAck(b *testing.B) {
	e := benchEngine(b)
	msgs := make([]buffer.Message, 1000)
	for i := range msgs {
		msgs[i] = order(i)
	}
	for n := 0; n < b.N; n += len(msgs) {
		if _, err := e.Append(b.Context(), "orders", noon, msgs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		ds, _, err := e.Take("mail", noon, 100)
		if err != nil || len(ds) == 0 {
			b.Fatal(len(ds), err)
		}
		for _, d := range ds {
			e.Ack("mail", d.Offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
		}
		n += len(ds)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
