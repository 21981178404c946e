package limiter_test

import (
	"fmt"
	"testing"
	"time"

	"forebay/limiter"
)

func BenchmarkKeyed(b *testing.B) {
	const million = 1_000_000
	limit := limiter.Limit{Rate: 1e6, Burst: 10}
	keys := make([][]byte, million)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "customer-%d", i)
	}
	b.Run("known", func(b *testing.B) {
		k := limiter.NewKeyed(start(), limit, 100_000)
		now := start()
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(time.Microsecond)
			k.Take(now, keys[0])
		}
	})
	b.Run("new", func(b *testing.B) { // in a table that is full of full buckets
		k := limiter.NewKeyed(start(), limit, 100_000)
		now := start()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			now = now.Add(time.Microsecond)
			k.Take(now, keys[i%million])
		}
	})
	b.Run("flood", func(b *testing.B) { // in one where none is full
		k := limiter.NewKeyed(start(), limiter.Limit{Rate: 1e-3, Burst: 1}, 100_000)
		now := start()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			now = now.Add(time.Microsecond)
			k.Take(now, keys[i%million])
		}
	})
	b.Run("million", func(b *testing.B) {
		k := limiter.NewKeyed(start(), limit, million)
		now := start()
		for _, key := range keys {
			k.Take(now, key)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			now = now.Add(time.Microsecond)
			k.Take(now, keys[i*7919%million])
		}
	})
	b.Run("parallel", func(b *testing.B) {
		k := limiter.NewKeyed(start(), limit, million)
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			now := start()
			for i := 0; p.Next(); i++ {
				now = now.Add(time.Microsecond)
				k.Take(now, keys[i%1000])
			}
		})
	})
}
