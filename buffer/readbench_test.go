package buffer_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/block"
	"forebay/buffer/segment"
)

const readBatch = 1000

// realOrders are messages with the bodies of real orders, of 300 bytes with a fresh
// id each.
func realOrders(b *testing.B) func(from int) []buffer.Message {
	b.Helper()
	raw, err := os.ReadFile("../test/bench/testdata/order-lines.ndjson")
	if err != nil {
		b.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	fields := []buffer.Field{{Name: "Content-Type", Value: "application/json"}}
	return func(from int) []buffer.Message {
		msgs := make([]buffer.Message, readBatch)
		for i := range msgs {
			line := lines[i%len(lines)]
			at := bytes.IndexByte(line, ',')
			body := append([]byte(`{"order_id":"`), strconv.Itoa(10_000_000+from+i)...)
			body = append(body, `","source":"webshop","channel":"app","warehouse":"north-1","currency":"GBP","coupon":null"`...)
			body = append(body, line[at:]...)
			msgs[i] = buffer.Message{Method: "POST", Target: "/v1/orders", Header: fields, Body: body}
		}
		return msgs
	}
}

// stored is a directory with n messages in sealed segments.
func stored(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	e, err := buffer.Open(b.Context(), buffer.Config{Dir: dir, SegmentBytes: 64 * mib})
	if err != nil {
		b.Fatal(err)
	}
	configure(b, e, "mail")
	orders := realOrders(b)
	for from := 0; from < n; from += readBatch {
		if _, err := e.Append(b.Context(), "orders", noon, orders(from)); err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	return dir
}

// BenchmarkReadBack reads messages from sealed segments as a drain does, and the same
// blocks with nothing but pread, zstd and a look for where messages are, on two
// goroutines.
func BenchmarkReadBack(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		dir := stored(b, b.N)
		e := reopened(b, dir)
		coder, sealer := e.Coder()
		b.ReportAllocs()
		b.ResetTimer()
		bare(b, dir, coder, sealer)
		perSecond(b, b.N, b.Elapsed())
	})
	b.Run("take", func(b *testing.B) {
		e := reopened(b, stored(b, b.N))
		b.ReportAllocs()
		b.ResetTimer()
		var took time.Duration
		for n := 0; n < b.N; {
			begin := time.Now()
			offsets := takeSome(b, e, min(200_000, b.N-n))
			took += time.Since(begin)
			b.StopTimer()
			n += len(offsets)
			for _, offset := range offsets {
				e.Ack("mail", offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
			}
			b.StartTimer()
		}
		perSecond(b, b.N, took)
	})
	b.Run("take+ack", func(b *testing.B) {
		e := reopened(b, stored(b, b.N))
		b.ReportAllocs()
		b.ResetTimer()
		for n := 0; n < b.N; {
			ds, _, err := e.Take("mail", noon, readBatch)
			if err != nil || len(ds) == 0 {
				b.Fatal(len(ds), err)
			}
			for i := range ds {
				e.Ack("mail", ds[i].Offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
			}
			n += len(ds)
		}
		perSecond(b, b.N, b.Elapsed())
	})
}

func perSecond(b *testing.B, n int, d time.Duration) {
	b.ReportMetric(float64(n)/d.Seconds()/1e6, "Mmsg/s")
	b.ReportMetric(0, "ns/op")
}

func reopened(b *testing.B, dir string) *buffer.Engine {
	b.Helper()
	e, err := buffer.Open(b.Context(), buffer.Config{Dir: dir, SegmentBytes: 64 * mib})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	configure(b, e, "mail")
	return e
}

func takeSome(b *testing.B, e *buffer.Engine, n int) []uint64 {
	offsets := make([]uint64, 0, n)
	for len(offsets) < n {
		ds, _, err := e.Take("mail", noon, min(readBatch, n-len(offsets)))
		if err != nil || len(ds) == 0 {
			b.Fatal(len(ds), err)
		}
		for i := range ds {
			offsets = append(offsets, ds[i].Offset)
		}
	}
	return offsets
}

// bare reads and unpacks every block of messages, and finds its records.
func bare(b *testing.B, dir string, coder *block.Coder, sealer block.Sealer) {
	type place struct {
		dir      string
		at, size int64
	}
	var places []place
	b.StopTimer()
	for _, dir := range files(b, dir, "seg-*") {
		if _, err := segment.Scan(dir, sealer, func(at int64, h block.Header, _, raw []byte) error {
			if h.Kind == block.Messages {
				places = append(places, place{dir, at, int64(len(raw))})
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.StartTimer()
	var next atomic.Int64
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			var buf []byte
			for i := next.Add(1) - 1; i < int64(len(places)); i = next.Add(1) - 1 {
				p := places[i]
				buf = append(buf[:0], make([]byte, p.size)...)
				f, err := os.Open(filepath.Join(p.dir, segment.LogFile))
				if err == nil {
					_, err = f.ReadAt(buf, p.at)
					f.Close()
				}
				if err == nil {
					err = buffer.DecodeBlock(coder, buf)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	readers.Wait()
}
