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
	"time"

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
	sizes   []int64         // of every Enter
	bodies  []string        // of what was sent
	last    *http.Request
	unused  int // turns that ended without a request
	between int // turns that have not ended
}

func (l *liveSink) Enter(ctx context.Context, _, _ string, size int64, wait time.Duration) (Turn, error) {
	l.mu.Lock()
	l.waits, l.sizes = append(l.waits, wait), append(l.sizes, size)
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
