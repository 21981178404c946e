package ingress

import (
	"context"
	"io"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/buffer"
)

func TestOverflowPrefer(t *testing.T) {
	tests := []struct {
		prefer, applied string
		status          int
	}{
		{"respond-async", "respond-async", 202},
		{"respond-async, wait=5", "respond-async, wait=5", 200},
		{"wait=5", "wait=5", 200},
		{"wait=1", "wait=1", 202},
		{"", "", 202},
	}
	for _, tt := range tests {
		t.Run(tt.prefer, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newOverflow(t, &liveSink{enter: noBudget})
				go func() {
					time.Sleep(3 * time.Second)
					f.deliver(0)
				}()
				resp := f.do("POST", "/v1/orders", order, "Prefer: "+tt.prefer)
				if got := resp.Header.Get("Preference-Applied"); got != tt.applied || resp.StatusCode != tt.status {
					t.Errorf("status %d, Preference-Applied %q; want %d, %q", resp.StatusCode, got, tt.status, tt.applied)
				}
				synctest.Wait()
				time.Sleep(3 * time.Second)
			})
		})
	}
}

// TestOverflowAnswerOfSink: who waits has the sink's own answer, live or not.
func TestOverflowAnswerOfSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newOverflow(t, &liveSink{enter: noBudget})
		f.buf.answers["orders-to-service"] = &buffer.Answer{Header: []buffer.Field{{Name: "X-From", Value: "sink"}}, Body: []byte("made")}
		go func() {
			time.Sleep(time.Second)
			f.deliver(0)
		}()
		resp := f.do("POST", "/v1/orders", order, "Prefer: wait=5")
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 201 || string(body) != "made" || resp.Header.Get("X-From") != "sink" {
			t.Errorf("status %d, %q, %v, header %v", resp.StatusCode, body, err, resp.Header)
		}
	})
}

func TestOverflowSentAgain(t *testing.T) {
	sink := &liveSink{}
	f := newOverflow(t, sink)
	send := func(body, key string) *http.Response {
		return f.do("POST", "/v1/orders", body, "Idempotency-Key: "+key)
	}
	for range 2 {
		if resp := send(order, "live"); resp.StatusCode != 201 {
			t.Fatalf("status %d, want 201: the sink decides about a key that it saw", resp.StatusCode)
		}
	}
	if want := []int64{int64(len(order)), int64(len(order))}; !slices.Equal(sink.sizes, want) {
		t.Errorf("the budget was asked for bodies of %v bytes, want %v", sink.sizes, want)
	}
	sink.enter = noBudget
	first := send(order, "stored")
	sink.enter = nil
	f.deliver(0) // nothing of the customer waits any more
	again := send(order, "stored")
	if again.StatusCode != 202 || again.Header.Get("Location") != first.Header.Get("Location") || again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("sent again: status %d, header %v; want the receipt %s", again.StatusCode, again.Header, first.Header.Get("Location"))
	}
	if resp := send(`{"customer_id":"b"}`, "stored"); resp.StatusCode != 422 {
		t.Errorf("another request with the key: status %d, want 422", resp.StatusCode)
	}
	if got := len(sink.sent()); got != 2 {
		t.Errorf("%d requests were sent live, want 2", got)
	}
	wantLookups(t, f, 3, 1, 0, 1)
}

// TestOverflowFull: live traffic passes on where nothing can be stored.
func TestOverflowFull(t *testing.T) {
	closed := func(c *Config) { c.Closed = func(string) (string, bool) { return "", true } }
	sink := &liveSink{}
	f := newOverflow(t, sink, closed)
	if resp := f.do("POST", "/v1/orders", order); resp.StatusCode != 201 {
		t.Errorf("with a closed stream: status %d, want 201", resp.StatusCode)
	}
	sink.answer = answering(503)
	resp := f.do("POST", "/v1/orders", order)
	if p := decode[problemDocument](t, resp); resp.StatusCode != 503 || p.Reason != reasonStreamClosed {
		t.Errorf("with a closed stream and a busy sink: status %d, reason %q", resp.StatusCode, p.Reason)
	}
	f = newOverflow(t, sink)
	f.buf.appendErr = buffer.ErrBufferFull
	resp = f.do("POST", "/v1/orders", order)
	if p := decode[problemDocument](t, resp); resp.StatusCode != 503 || p.Reason != reasonBufferFull || resp.Header.Get("X-From") != "" {
		t.Errorf("with a full buffer and a busy sink: status %d, reason %q, header %v", resp.StatusCode, p.Reason, resp.Header)
	}
}

// TestOverflowLeft: a caller who left while he waited gets nothing stored.
func TestOverflowLeft(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	sink := &liveSink{enter: func(wait time.Duration) error {
		if wait > 0 {
			leave()
			return context.Canceled
		}
		return noBudget(wait)
	}}
	f := newOverflow(t, sink)
	f.send(request(ctx, "POST", "/v1/orders", order))
	sink.enter = nil
	sink.answer = func(*http.Request) (*http.Response, error) { return nil, context.Canceled }
	f.send(request(ctx, "POST", "/v1/orders", order))
	if len(f.buf.messages) != 0 {
		t.Errorf("%d messages are stored of callers who left, want 0", len(f.buf.messages))
	}
	if n := testutil.ToFloat64(f.metrics.requests.WithLabelValues("create-order", decisionError, "499")); n != 2 {
		t.Errorf("%v requests are counted as left, want 2", n)
	}
}

// TestOverflowMetricsFromTheStart: a route that can do everything has all decisions
// from the first scrape.
func TestOverflowMetricsFromTheStart(t *testing.T) {
	f := newOverflow(t, &liveSink{})
	have := seriesOf(t, f, "forebay_ingress_requests_total")
	for _, want := range []string{"pass 200", "held 200", "buffered 202", "replayed 202", "full 503", "invalid 400", "error 500"} {
		if !slices.Contains(have, "create-order "+want) {
			t.Errorf("there is no series %s: %q", want, have)
		}
	}
	for _, reason := range []string{reasonBufferFull, reasonDiskFull, reasonStreamClosed, reasonOverloaded} {
		if f.metrics.route("create-order").refusals[reason] == nil {
			t.Errorf("there is no series of refusals for %s", reason)
		}
	}
}
