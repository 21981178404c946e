package buffer_test

import (
	"fmt"
	"testing"

	"forebay/buffer"
)

// BenchmarkFindKey looks for keys in a backlog of 400,000 messages, in sealed segments
// and the open one: of each key there are two, of each other one none.
func BenchmarkFindKey(b *testing.B) {
	const n = 400_000
	e, err := buffer.Open(b.Context(), buffer.Config{Dir: b.TempDir(), SegmentBytes: 16 * mib})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	configure(b, e, "mail")
	for i := 0; i < n; i += 1000 {
		msgs := make([]buffer.Message, 1000)
		for j := range msgs {
			msgs[j] = order(i + j)
			msgs[j].Key = fmt.Sprint("customer-", (i+j)%(n/2))
		}
		if _, err := e.Append(b.Context(), "orders", noon, msgs); err != nil {
			b.Fatal(err)
		}
	}
	i := 0
	for b.Loop() {
		i += 7919
		refs, err := e.FindKey(b.Context(), "orders", fmt.Sprint("customer-", i%n), 9)
		if want := 2; err != nil || (i%n >= n/2) != (len(refs) == 0) || (len(refs) > 0 && len(refs) != want) {
			b.Fatalf("FindKey of customer %d = %v, %v", i%n, refs, err)
		}
	}
}

// BenchmarkBeginLive is what a live request of a route with mode: overflow costs the
// buffer: while nothing is stored, and with a backlog of other keys.
func BenchmarkBeginLive(b *testing.B) {
	for _, backlog := range []int{0, 400_000} {
		b.Run(fmt.Sprint("backlog=", backlog), func(b *testing.B) {
			e, err := buffer.Open(b.Context(), buffer.Config{Dir: b.TempDir(), SegmentBytes: 16 * mib})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = e.Close() })
			configure(b, e, "mail")
			for i := 0; i < backlog; i += 1000 {
				msgs := make([]buffer.Message, 1000)
				for j := range msgs {
					msgs[j] = order(i + j)
					msgs[j].Key = fmt.Sprint("customer-", i+j)
				}
				if _, err := e.Append(b.Context(), "orders", noon, msgs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				passage, err := e.BeginLive(b.Context(), "orders", "customer-of-today")
				if err != nil || passage == nil {
					b.Fatal("a key without a backlog may not pass", err)
				}
				passage.End()
			}
		})
	}
}

// BenchmarkBeginLiveHotKey asks about a key with a long backlog of its own: it is
// refused, and not looked up each time.
func BenchmarkBeginLiveHotKey(b *testing.B) {
	e, err := buffer.Open(b.Context(), buffer.Config{Dir: b.TempDir(), SegmentBytes: 16 * mib})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	configure(b, e, "mail")
	msgs := make([]buffer.Message, 1000)
	for i := range msgs {
		msgs[i] = order(i)
		msgs[i].Key = "hot"
	}
	for range 200 {
		if _, err := e.Append(b.Context(), "orders", noon, msgs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if p, err := e.BeginLive(b.Context(), "orders", "hot"); err != nil || p != nil {
			b.Fatal("a key with a backlog may pass", err)
		}
	}
}
