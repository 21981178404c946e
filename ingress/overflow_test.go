package ingress

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/buffer"
)

func TestOverflow(t *testing.T) {
	const hold = 800 * time.Millisecond
	heldFor := func(then error) func(time.Duration) error {
		return func(wait time.Duration) error {
			if wait == 0 {
				return noBudget(wait)
			}
			return then
		}
	}
	tests := []struct {
		name     string
		sink     *liveSink
		header   []string
		status   int
		decision string
		waits    []time.Duration // asked of the sink
	}{
		{"room", &liveSink{}, nil, 201, "pass", []time.Duration{0}},
		{"room after a wait", &liveSink{enter: heldFor(nil)}, nil, 201, "held", []time.Duration{0, hold}},
		{"no room after a wait", &liveSink{enter: noBudget}, nil, 202, "buffered", []time.Duration{0, hold}},
		{"a paused sink", &liveSink{enter: func(time.Duration) error { return &Refusal{Of: SinkPaused} }}, nil, 202, "buffered", []time.Duration{0, hold}},
		{"a sink that fails", &liveSink{enter: func(time.Duration) error { return &Refusal{Of: SinkUnhealthy} }}, nil, 202, "buffered", []time.Duration{0, hold}},
		{"the sink is busy", &liveSink{answer: answering(503)}, nil, 202, "buffered", []time.Duration{0}},
		{"the sink limits", &liveSink{answer: answering(429)}, nil, 202, "buffered", []time.Duration{0}},
		{"the sink is busy after a wait", &liveSink{enter: heldFor(nil), answer: answering(503)}, nil, 202, "buffered", []time.Duration{0, hold}},
		{"the sink fails", &liveSink{answer: answering(500)}, nil, 500, "pass", []time.Duration{0}},
		{"the sink refuses", &liveSink{answer: answering(422)}, nil, 422, "pass", []time.Duration{0}},
		{"nothing was sent", &liveSink{answer: unanswered(Failure{Unsent: true})}, nil, 202, "buffered", []time.Duration{0}},
		{"no connection in time", &liveSink{answer: unanswered(Failure{Unsent: true, Timeout: true})}, nil, 202, "buffered", []time.Duration{0}},
		{"not let through in time", &liveSink{answer: unanswered(Failure{Held: true})}, nil, 202, "buffered", []time.Duration{0}},
		{"sent and timed out", &liveSink{answer: unanswered(Failure{Timeout: true})}, nil, 504, "error", []time.Duration{0}},
		{"sent and broken off", &liveSink{answer: unanswered(Failure{})}, nil, 502, "error", []time.Duration{0}},
		{"sent and timed out, with a key", &liveSink{answer: unanswered(Failure{Timeout: true})}, []string{"Idempotency-Key: k"}, 202, "buffered", []time.Duration{0}},
		{"sent and broken off, with a key", &liveSink{answer: unanswered(Failure{})}, []string{"Idempotency-Key: k"}, 202, "buffered", []time.Duration{0}},
		{"the caller would rather not wait", &liveSink{}, []string{"Prefer: respond-async"}, 202, "buffered", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newOverflow(t, tt.sink)
			resp := f.do("POST", "/v1/orders", order, tt.header...)
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status {
				t.Fatalf("status %d, %v, want %d: %s", resp.StatusCode, err, tt.status, body)
			}
			if !slices.Equal(tt.sink.waits, tt.waits) {
				t.Errorf("the sink was asked to wait %v, want %v", tt.sink.waits, tt.waits)
			}
			if stored := len(f.buf.messages) == 1; stored != (tt.status == 202) {
				t.Errorf("stored: %v; the answer is %s", stored, body)
			}
			if from := resp.Header.Get("X-From"); (from == "sink") != (tt.decision == "pass" || tt.decision == "held") {
				t.Errorf("X-From is %q: the sink's own fields come with its answer alone", from)
			}
			if resp.StatusCode < 500 && resp.Header.Get("Vary") != "Prefer" || resp.Header.Get("X-Request-Id") == "" {
				t.Errorf("header %v, want Vary: Prefer and X-Request-Id", resp.Header)
			}
			if n := testutil.ToFloat64(f.metrics.requests.WithLabelValues("create-order", tt.decision, resp.Status[:3])); n != 1 {
				t.Errorf("%v requests counted as %s %s, want 1", n, tt.decision, resp.Status)
			}
		})
	}
}

// TestOverflowSends: what goes live is what was sent, and what is stored after it
// was tried live is the same.
func TestOverflowSends(t *testing.T) {
	for _, body := range []string{order, `{"customer_id":"a","note":"` + strings.Repeat("x", 40<<10) + `"}`, ""} {
		sink := &liveSink{answer: answering(503)}
		f := newOverflow(t, sink)
		r := request(t.Context(), "POST", "/v1/orders?x=1", body, "Authorization: Bearer t", "Forebay-Id: forged", "Idempotency-Key: k", "Upgrade: websocket", "Connection: Upgrade")
		r.Body = io.NopCloser(strings.NewReader(body)) // not known to be whole
		if resp := f.send(r); resp.StatusCode != 202 {
			t.Fatalf("status %d, want 202", resp.StatusCode)
		}
		if got := sink.sent(); !slices.Equal(got, []string{body}) || len(f.buf.messages) != 1 || string(f.buf.messages[0].Body) != body {
			t.Errorf("%d bytes were sent, and others live or stored", len(body))
		}
		h := sink.last.Header
		if h.Get("Authorization") == "" || h.Get("Forebay-Id") != "" || h.Get("Upgrade") != "" || sink.last.URL.RawQuery != "x=1" {
			t.Errorf("sent live: %s with header %v", sink.last.URL, h)
		}
		if keys := keysSent(h); !slices.Equal(keys, []string{"k"}) {
			t.Errorf("the sink has the idempotency keys %q, want k", keys)
		}
	}
}

func TestOverflowSticky(t *testing.T) {
	sink := &liveSink{enter: noBudget}
	f := newOverflow(t, sink)
	send := func(customer string, want int) {
		t.Helper()
		if resp := f.do("POST", "/v1/orders", `{"customer_id":`+customer+`}`); resp.StatusCode != want {
			t.Fatalf("customer %s: status %d, want %d", customer, resp.StatusCode, want)
		}
	}
	send(`"a"`, 202)
	sink.enter = nil
	send(`"a"`, 202) // there is room, but one of its key waits
	send(`"b"`, 201)
	send(`null`, 201)
	f.deliver(0)
	send(`"a"`, 202)
	f.deliver(1)
	f.take()
	send(`"a"`, 202) // one is being delivered
	f.buf.Ack("orders-to-service", 2, buffer.Result{At: time.Now(), Attempts: 1, Status: 201})
	f.deliver(3)
	send(`"a"`, 201)
	if resp := f.do("POST", "/v1/import", `{"customer_id":"b"}`); resp.StatusCode != 202 {
		t.Fatalf("import: status %d", resp.StatusCode)
	}
	send(`"b"`, 202) // by whatever route it came
}

// TestOverflowHeldBack: what is stored while a request of its key is with the sink is
// not delivered before that is over.
func TestOverflowHeldBack(t *testing.T) {
	sink := &liveSink{}
	f := newOverflow(t, sink)
	sink.answer = func(*http.Request) (*http.Response, error) {
		sink.enter = noBudget
		for _, path := range []string{"/v1/orders", "/v1/import"} {
			if resp := f.do("POST", path, order); resp.StatusCode != 202 {
				t.Errorf("%s: status %d, want 202", path, resp.StatusCode)
			}
		}
		if ds, _, err := f.buf.Take("orders-to-service", time.Now(), 9); len(ds) != 0 || err != nil {
			t.Errorf("%d messages are handed out beside a live request of their key, %v", len(ds), err)
		}
		return answered(201, ""), nil
	}
	if resp := f.do("POST", "/v1/orders", order); resp.StatusCode != 201 {
		t.Fatalf("status %d, want 201", resp.StatusCode)
	}
	f.deliver(0)
	f.deliver(1)
}

// TestOverflowOvertaken: who waited for the sink does not overtake what was stored
// of its key meanwhile.
func TestOverflowOvertaken(t *testing.T) {
	sink := &liveSink{}
	f := newOverflow(t, sink)
	sink.enter = func(wait time.Duration) error {
		if wait > 0 {
			if resp := f.do("POST", "/v1/orders", order, "Prefer: respond-async"); resp.StatusCode != 202 {
				t.Errorf("status %d, want 202", resp.StatusCode)
			}
			return nil
		}
		return noBudget(wait)
	}
	resp := f.do("POST", "/v1/orders", order)
	if resp.StatusCode != 202 || len(sink.sent()) != 0 || sink.unused != 1 {
		t.Errorf("status %d, %d sent, %d turns unused; want 202, 0, 1", resp.StatusCode, len(sink.sent()), sink.unused)
	}
	f.deliver(0)
	f.deliver(1)
}
