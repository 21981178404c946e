package buffer_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"forebay/buffer"
)

const perBatch = 1000

// realBatch is a thousand real orders of about 300 bytes as ingress splits them off one
// body: alike, they share a header; else each has its own, with its place in it, so that a
// run of both says what it is worth to share one.
func realBatch(tb testing.TB, alike bool) []buffer.Message {
	tb.Helper()
	text, err := os.ReadFile("../test/bench/testdata/order-lines.ndjson")
	if err != nil {
		tb.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	header := []buffer.Field{
		{Name: "Accept-Encoding", Value: "gzip"},
		{Name: "Content-Type", Value: "application/json"},
		{Name: "User-Agent", Value: "Go-http-client/1.1"},
		{Name: "Via", Value: "1.1 forebay"},
		{Name: "X-Forwarded-Host", Value: "orders.example.com"},
		{Name: "X-Forwarded-Proto", Value: "http"},
		{Name: "X-Request-Id", Value: "0c5f2a1be2d94b7c"},
	}
	msgs := make([]buffer.Message, perBatch)
	for i := range msgs {
		line := lines[i%len(lines)]
		body := fmt.Appendf(nil, `{"note":"gift wrap, please, for parcel %012d of the sale; leave it with a neighbour",%s`, i*7919, line[1:])
		msgs[i] = buffer.Message{Method: "POST", Target: "/v1/orders", Header: header, Body: body, Batch: "0c5f2a1be2d94b7c", Index: i}
		if !alike {
			m := &msgs[i]
			m.Header = slices.Clone(m.Fields())
			m.Batch, m.Index = "", 0
		}
	}
	return msgs
}

func eachBatch(b *testing.B, run func(b *testing.B, msgs []buffer.Message)) {
	for _, alike := range []bool{false, true} {
		b.Run(fmt.Sprintf("alike=%t", alike), func(b *testing.B) { run(b, realBatch(b, alike)) })
	}
}

// BenchmarkAppendBatch is a batch a call, from four callers.
func BenchmarkAppendBatch(b *testing.B) {
	eachBatch(b, func(b *testing.B, msgs []buffer.Message) {
		e := benchEngine(b)
		b.SetParallelism(2)
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := e.Append(b.Context(), "orders", time.Now(), msgs); err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.ReportMetric(float64(perBatch*b.N)/b.Elapsed().Seconds(), "messages/s")
	})
}

// BenchmarkPackBatch is what an append does on its caller's goroutine.
func BenchmarkPackBatch(b *testing.B) {
	e := benchEngine(b)
	eachBatch(b, func(b *testing.B, msgs []buffer.Message) {
		b.ReportAllocs()
		var raw, stored int
		for b.Loop() {
			raw, stored = 0, 0
			for _, x := range e.PackBatch(msgs) {
				raw, stored = raw+len(x.Raw), stored+x.Stored
			}
		}
		b.ReportMetric(float64(raw)/perBatch, "raw-B/message")
		b.ReportMetric(float64(stored)/perBatch, "stored-B/message")
		b.ReportMetric(float64(perBatch*b.N)/b.Elapsed().Seconds(), "messages/s")
	})
}

// BenchmarkReadBatch decodes the blocks of a batch and reads each of its messages.
func BenchmarkReadBatch(b *testing.B) {
	e := benchEngine(b)
	eachBatch(b, func(b *testing.B, msgs []buffer.Message) {
		blocks := e.PackBatch(msgs)
		b.ReportAllocs()
		for b.Loop() {
			for _, x := range blocks {
				if _, err := buffer.Decode(x.Raw, x.Count, false); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(perBatch*b.N)/b.Elapsed().Seconds(), "messages/s")
	})
}

// TestBatchHeads: a thousand messages that are alike take the memory of their bodies
// and little more, stored and read.
func TestBatchHeads(t *testing.T) {
	e := open(t, t.TempDir())
	defer e.Close()
	msgs := realBatch(t, true)
	var bodies, raw, allocs int
	for i := range msgs {
		bodies += len(msgs[i].Body)
	}
	blocks := e.PackBatch(msgs)
	for _, x := range blocks {
		raw += len(x.Raw)
		allocs += int(testing.AllocsPerRun(5, func() {
			if _, err := buffer.Decode(x.Raw, x.Count, false); err != nil {
				t.Fatal(err)
			}
		}))
	}
	if most := bodies + 6*len(msgs) + 300*len(blocks); raw > most {
		t.Errorf("%d bytes for bodies of %d, want at most %d", raw, bodies, most)
	}
	if most := len(msgs) + 20*len(blocks); allocs > most { // the copies of the bodies
		t.Errorf("%d allocations to read %d messages, want at most %d", allocs, len(msgs), most)
	}
}
