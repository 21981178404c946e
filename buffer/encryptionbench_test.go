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
			m := startMeter(b)
			b.RunParallel(func(pb *testing.PB) {
				msgs := []buffer.Message{order(int(n.Add(1)))}
				for pb.Next() {
					if _, err := e.Append(b.Context(), "orders", time.Now(), msgs); err != nil {
						b.Error(err)
						return
					}
				}
			})
			m.report(b.N)
		})
		b.Run("batch/"+name, func(b *testing.B) {
			e, orders := benchEngine(b, masters...), realOrders(b)
			m := startMeter(b)
			for n := 0; n < b.N; n += readBatch {
				if _, err := e.Append(b.Context(), "orders", noon, orders(n)); err != nil {
					b.Fatal(err)
				}
			}
			m.report(b.N)
		})
		b.Run("read/"+name, func(b *testing.B) {
			e := reopened(b, stored(b, b.N, masters...), masters...)
			m := startMeter(b)
			for n := 0; n < b.N; {
				n += len(takeSome(b, e, min(200_000, b.N-n)))
			}
			m.report(b.N)
		})
	}
}
