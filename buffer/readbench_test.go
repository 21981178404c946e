package buffer_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
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
func stored(b *testing.B, n int, masters ...buffer.MasterKey) string {
	b.Helper()
	dir := b.TempDir()
	e, err := buffer.Open(b.Context(), buffer.Config{Dir: dir, SegmentBytes: 64 * mib, MasterKeys: masters})
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
		places := placesOf(b, dir, sealer)
		m := startMeter(b)
		bare(b, places, coder)
		m.report(b.N)
	})
	b.Run("take", func(b *testing.B) {
		e := reopened(b, stored(b, b.N))
		m := startMeter(b)
		for n := 0; n < b.N; {
			offsets := takeSome(b, e, min(200_000, b.N-n))
			n += len(offsets)
			m.pause()
			for _, offset := range offsets {
				e.Ack("mail", offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
			}
			if err := e.Settled(); err != nil {
				b.Fatal(err)
			}
			m.resume()
		}
		m.report(b.N)
	})
	b.Run("take+ack", func(b *testing.B) {
		e := reopened(b, stored(b, b.N))
		m := startMeter(b)
		var ds []buffer.Delivery
		for n := 0; n < b.N; {
			var err error
			ds, _, err = e.TakeMix(ds, "mail", noon, readBatch, readBatch)
			if err != nil || len(ds) == 0 {
				b.Fatal(len(ds), err)
			}
			for i := range ds {
				e.Ack("mail", ds[i].Offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
			}
			n += len(ds)
		}
		m.report(b.N)
	})
}

// meter measures the time of a benchmark, and what the process took of the processors,
// which a busy machine does not change.
type meter struct {
	b         *testing.B
	cpu, used time.Duration
}

func startMeter(b *testing.B) *meter {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	return &meter{b: b, cpu: processorTime(b)}
}

func (m *meter) pause() {
	m.b.StopTimer()
	m.used += processorTime(m.b) - m.cpu
}

func (m *meter) resume() {
	m.cpu = processorTime(m.b)
	m.b.StartTimer()
}

func (m *meter) report(n int) {
	m.pause()
	m.b.ReportMetric(0, "ns/op")
	m.b.ReportMetric(float64(n)/m.b.Elapsed().Seconds(), "messages/s")
	m.b.ReportMetric(float64(m.used.Nanoseconds())/float64(n), "cpu-ns/message")
}

func processorTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func reopened(b *testing.B, dir string, masters ...buffer.MasterKey) *buffer.Engine {
	b.Helper()
	e, err := buffer.Open(b.Context(), buffer.Config{Dir: dir, SegmentBytes: 64 * mib, MasterKeys: masters})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	configure(b, e, "mail")
	return e
}

func takeSome(b *testing.B, e *buffer.Engine, n int) []uint64 {
	offsets := make([]uint64, 0, n)
	var ds []buffer.Delivery
	for len(offsets) < n {
		limit := min(readBatch, n-len(offsets))
		var err error
		ds, _, err = e.TakeMix(ds, "mail", noon, limit, limit)
		if err != nil || len(ds) == 0 {
			b.Fatal(len(ds), err)
		}
		for i := range ds {
			offsets = append(offsets, ds[i].Offset)
		}
	}
	return offsets
}

// logPlace is where a block of messages lies.
type logPlace struct {
	log      string
	at, size int64
}

func placesOf(b *testing.B, dir string, sealer block.Sealer) (places []logPlace) {
	b.Helper()
	for _, dir := range files(b, dir, "seg-*") {
		if _, err := segment.Scan(dir, sealer, func(at int64, h block.Header, _, raw []byte) error {
			if h.Kind == block.Messages {
				places = append(places, logPlace{filepath.Join(dir, segment.LogFile), at, int64(len(raw))})
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	return places
}

// bare reads and unpacks every block of messages, and finds its records.
func bare(b *testing.B, places []logPlace, coder *block.Coder) {
	var next atomic.Int64
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			var buf []byte
			for i := next.Add(1) - 1; i < int64(len(places)); i = next.Add(1) - 1 {
				p := places[i]
				buf = slices.Grow(buf[:0], int(p.size))[:p.size]
				if err := readLog(p, buf); err != nil {
					b.Error(err)
					return
				}
				if err := buffer.DecodeBlock(coder, buf); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	readers.Wait()
}

func readLog(p logPlace, buf []byte) error {
	f, err := os.Open(p.log)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(buf, p.at)
	return err
}
