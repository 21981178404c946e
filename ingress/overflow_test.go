package ingress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/buffer"
	"forebay/policies"
)

const overflowPolicy = `version: 1
sinks:
  - name: order-service
    http: { urls: ["http://orders.internal"] }
streams:
  - { name: orders, ordering_key: ["json:/customer_id"] }
drains:
  - { name: orders-to-service, stream: orders, sink: order-service, schedule: { base: 10/s } }
routes:
  - name: create-order
    match: { methods: [POST], path: /v1/orders }
    mode: overflow
    sink: order-service
    stream: orders
    hold_up_to: 800ms
    store_result: { max_bytes: 1KiB }
  - { name: import, match: { methods: [POST], path: /v1/import }, mode: buffer, stream: orders, split: ndjson }
`

// liveSink stands for a sink and its budget.
type liveSink struct {
	enter  func(wait time.Duration) error              // nil: there is room
	answer func(*http.Request) (*http.Response, error) // nil: 201

	mu      sync.Mutex
	waits   []time.Duration // of every Enter
	bodies  []string        // of what was sent
	last    *http.Request
	unused  int // turns that ended without a request
	between int // turns that have not ended
}

func (l *liveSink) Enter(ctx context.Context, _ string, wait time.Duration) (Turn, error) {
	l.mu.Lock()
	l.waits = append(l.waits, wait)
	l.mu.Unlock()
	if l.enter != nil {
		if err := l.enter(wait); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.between++
	return &liveTurn{sink: l}, nil
}

type liveTurn struct {
	sink *liveSink
	sent bool
}

func (t *liveTurn) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	t.sent = true
	t.sink.mu.Lock()
	t.sink.bodies = append(t.sink.bodies, string(body))
	t.sink.last = r
	t.sink.mu.Unlock()
	if t.sink.answer == nil {
		return answered(http.StatusCreated, "made"), nil
	}
	return t.sink.answer(r)
}

func (t *liveTurn) End() {
	t.sink.mu.Lock()
	defer t.sink.mu.Unlock()
	t.sink.between--
	if !t.sent {
		t.sink.unused++
	}
}

func (l *liveSink) sent() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.bodies)
}

func answered(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"X-From": {"sink"}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func newOverflow(t *testing.T, sink *liveSink, change ...func(*Config)) *fixture {
	t.Helper()
	set := parsePolicy(t, overflowPolicy)
	f := newFixture(t, append([]func(*Config){func(c *Config) {
		c.Policy, c.Live = func() *policies.Set { return set }, sink
	}}, change...)...)
	t.Cleanup(func() {
		if sink.between != 0 {
			t.Errorf("%d turns did not end", sink.between)
		}
	})
	return f
}

const order = `{"customer_id":"a"}`

func noBudget(time.Duration) error { return &Refusal{Of: NoBudget} }

func unanswered(f Failure) func(*http.Request) (*http.Response, error) {
	f.Err = errors.New("no answer")
	return func(*http.Request) (*http.Response, error) { return nil, &f }
}

func answering(status int) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) { return answered(status, "no"), nil }
}

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
