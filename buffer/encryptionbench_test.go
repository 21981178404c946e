package buffer_test

import (
	"sync/atomic"
	"testing"
	"time"

	"forebay/buffer"
)

// BenchmarkEncrypted is what encryption costs: single appends from 256 callers, appends
// of 1,000 orders, and reading these back from disk, each without and with it.
func BenchmarkEncrypted(b *testing.B) {
	for name, masters := range map[string][]buffer.MasterKey{"clear": nil, "encrypted": {masterKey(b)}} {
		b.Run("append/"+name, func(b *testing.B) {
			e := benchEngine(b, masters...)
			var n atomic.Int64
			b.SetParallelism(128)
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
		b.Run("batch/"+name, func(b *testing.B) {
			e, orders := benchEngine(b, masters...), realOrders(b)
			b.ResetTimer()
			for n := 0; n < b.N; n += readBatch {
				if _, err := e.Append(b.Context(), "orders", noon, orders(n)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
		b.Run("read/"+name, func(b *testing.B) {
			e := reopened(b, stored(b, b.N, masters...), masters...)
			b.ResetTimer()
			for n := 0; n < b.N; {
				n += len(takeSome(b, e, min(200_000, b.N-n)))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
