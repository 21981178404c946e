package ingress

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// noBuffer accepts everything and stores nothing.
type noBuffer struct{ buffer.Receipts }

func (noBuffer) Append(_ context.Context, _ string, now time.Time, msgs []buffer.Message) (buffer.Accepted, error) {
	return buffer.Accepted{First: 7, Count: len(msgs), At: now}, nil
}

func (b noBuffer) AppendOnce(ctx context.Context, stream string, now time.Time, msgs []buffer.Message, _ buffer.OnceKey) (buffer.Accepted, bool, error) {
	a, err := b.Append(ctx, stream, now, msgs)
	return a, false, err
}

func (noBuffer) Lookup(context.Context, string, [16]byte, time.Time) (buffer.Accepted, error) {
	return buffer.Accepted{}, buffer.ErrNoMessage
}

func (noBuffer) Repeated(context.Context, string, time.Time, buffer.OnceKey) (buffer.Accepted, bool, error) {
	return buffer.Accepted{}, false, nil
}

func (noBuffer) BeginLive(context.Context, string, string) (buffer.Passage, error) { return nil, nil }

func (noBuffer) ID(buffer.Ref) string { return "AAAAAAAAAAAAAAAAAAAAAAAAAA" }

func (noBuffer) Find(ref buffer.Ref, now time.Time) (buffer.Status, error) {
	return buffer.Status{Ref: ref, AcceptedAt: now, Drains: []buffer.DrainStatus{
		{Drain: "orders-to-service", State: buffer.Queued, Ahead: 1234},
	}}, nil
}

// noWriter throws answers away.
type noWriter struct{ header http.Header }

func (w *noWriter) Header() http.Header         { return w.header }
func (w *noWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *noWriter) WriteHeader(int)             {}

type body struct{ strings.Reader }

func (*body) Close() error { return nil }

// BenchmarkAccept is the path from a parsed request to its 202, without the
// network and the buffer.
func BenchmarkAccept(b *testing.B) {
	set := parsePolicy(b, testPolicy)
	h := New(Config{
		Buffer: noBuffer{}, Policy: func() *policies.Set { return set }, ETA: tenPerSecond,
	}, slog.New(slog.DiscardHandler), nil)
	order := `{"customer_id":"c-1","items":[` + strings.Repeat(`{"sku":"s-1","quantity":1},`, 10) + `{}]}`
	r := request(b.Context(), "POST", "/v1/orders", order,
		"Content-Type: application/json", "User-Agent: bench/1.0", "Accept-Encoding: gzip")
	content := &body{}
	r.Body = content
	w := &noWriter{header: http.Header{}}
	b.ReportAllocs()
	b.SetBytes(int64(len(order)))
	for b.Loop() {
		content.Reset(order)
		clear(w.header)
		h.ServeHTTP(w, r)
	}
	if content.Len() != 0 {
		_, _ = io.Copy(io.Discard, content)
		b.Error("the body was not read to its end")
	}
}

// TestAcceptAllocations holds the path to what it cost before there were keys
// to look up, and a request with a key to the hashes' worth of memory.
func TestAcceptAllocations(t *testing.T) {
	set := parsePolicy(t, testPolicy)
	h := New(Config{
		Buffer: noBuffer{}, Policy: func() *policies.Set { return set }, ETA: tenPerSecond,
	}, slog.New(slog.DiscardHandler), nil)
	for _, header := range [][]string{
		{"Content-Type: application/json", "User-Agent: bench/1.0", "Accept-Encoding: gzip"},
		{"Content-Type: application/json", "User-Agent: bench/1.0", `Idempotency-Key: "7e3b0ba6"`},
	} {
		r := request(t.Context(), "POST", "/v1/orders", "{}", header...)
		content := &body{}
		r.Body = content
		w := &noWriter{header: http.Header{}}
		got := 1e9 // the fewest: with the race detector on, pools forget at random
		for range 100 {
			got = min(got, testing.AllocsPerRun(1, func() {
				content.Reset("{}")
				clear(w.header)
				h.ServeHTTP(w, r)
			}))
		}
		if got > 10 {
			t.Errorf("%v allocations with %q, want at most 10", got, header)
		}
	}
}

// BenchmarkBatch is the same path for a batch of 300-byte orders, a mebibyte
// of them, in lines of JSON.
func BenchmarkBatch(b *testing.B) {
	set := parsePolicy(b, testPolicy)
	set.Routes[0].Split = policies.SplitNDJSON
	h := New(Config{
		Buffer: noBuffer{}, Policy: func() *policies.Set { return set }, ETA: tenPerSecond,
	}, slog.New(slog.DiscardHandler), nil)
	order := `{"customer_id":"c-1","items":[` + strings.Repeat(`{"sku":"s-1","quantity":1},`, 9) + `{"sku":"s-2"}]}` + "\n"
	orders := strings.Repeat(order, 1<<20/len(order))
	r := request(b.Context(), "POST", "/v1/orders", orders, "Content-Type: application/x-ndjson", "User-Agent: bench/1.0")
	content := &body{}
	r.Body = content
	w := &noWriter{header: http.Header{}}
	b.ReportAllocs()
	b.SetBytes(int64(len(orders)))
	for b.Loop() {
		content.Reset(orders)
		clear(w.header)
		h.ServeHTTP(w, r)
	}
	b.ReportMetric(float64(b.N*(1<<20/len(order)))/b.Elapsed().Seconds(), "messages/s")
}
