package ingress

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"forebay/buffer"
	"forebay/buffer/buffertest"
	"forebay/policies"
)

const testPolicy = `version: 1
sinks:
  - name: order-service
    http: { urls: ["http://orders.internal"] }
streams:
  - { name: orders, max_message_bytes: 64KiB }
  - { name: registrations }
drains:
  - { name: orders-to-service, stream: orders, sink: order-service, schedule: { base: 10/s } }
  - { name: email, stream: registrations, sink: order-service, schedule: { base: 10/s } }
  - { name: sms, stream: registrations, sink: order-service, schedule: { base: 0 } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders, max_body: 1MiB, wait_max: 10s }
  - { name: register, match: { methods: [POST, PUT], path_prefix: /v1/registrations }, mode: buffer, stream: registrations, max_body: 32 }
`

func parsePolicy(t testing.TB, text string) *policies.Set {
	t.Helper()
	set, errs := policies.Parse([]policies.File{{Name: "policy.yaml", Data: []byte(text)}})
	if len(errs) > 0 {
		t.Fatalf("parse the policy: %v", errs)
	}
	return set
}

// tenPerSecond estimates as a drain with that rate does; sms has none.
func tenPerSecond(drain string, now, due time.Time, ahead uint64) (eta, p90 time.Time, note string) {
	if drain == "sms" {
		return time.Time{}, time.Time{}, "the schedule has no rate"
	}
	eta = now.Add(time.Duration(ahead+1) * 100 * time.Millisecond)
	if eta.Before(due) {
		eta = due
	}
	return eta, eta.Add(time.Second), ""
}

// faulty is a Mem that remembers what was appended and fails on demand.
type faulty struct {
	*buffertest.Mem
	appendErr, findErr, cancelErr, ownerErr error

	mu       sync.Mutex // guards what follows
	messages []buffer.Message
	lastKey  buffer.OnceKey
	answers  map[string]*buffer.Answer // what drains' sinks said
}

func (b *faulty) Append(ctx context.Context, stream string, now time.Time, msgs []buffer.Message) (buffer.Accepted, error) {
	if b.appendErr != nil {
		return buffer.Accepted{}, b.appendErr
	}
	a, err := b.Mem.Append(ctx, stream, now, msgs)
	if err == nil {
		b.remember(msgs)
	}
	return a, err
}

func (b *faulty) AppendOnce(ctx context.Context, stream string, now time.Time, msgs []buffer.Message, key buffer.OnceKey) (buffer.Accepted, bool, error) {
	b.lastKey = key
	if b.appendErr != nil {
		return buffer.Accepted{}, false, b.appendErr
	}
	a, replayed, err := b.Mem.AppendOnce(ctx, stream, now, msgs, key)
	if err == nil && !replayed {
		b.remember(msgs)
	}
	return a, replayed, err
}

func (b *faulty) remember(msgs []buffer.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range msgs {
		m.Header, m.Body = slices.Clone(m.Header), slices.Clone(m.Body)
		b.messages = append(b.messages, m)
	}
}

func (b *faulty) Find(ref buffer.Ref, now time.Time) (buffer.Status, error) {
	if b.findErr != nil {
		return buffer.Status{}, b.findErr
	}
	st, err := b.Mem.Find(ref, now)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range st.Drains {
		if d := &st.Drains[i]; d.State.Final() {
			d.Answer = b.answers[d.Drain]
		}
	}
	return st, err
}

func (b *faulty) Owner(ref buffer.Ref) (buffer.Owner, error) {
	if b.ownerErr != nil {
		return 0, b.ownerErr
	}
	return b.Mem.Owner(ref)
}

func (b *faulty) Cancel(ctx context.Context, ref buffer.Ref, now time.Time) error {
	if b.cancelErr != nil {
		return b.cancelErr
	}
	return b.Mem.Cancel(ctx, ref, now)
}

// fixture is a handler over a buffer in memory.
type fixture struct {
	*Handler
	t   testing.TB
	buf *faulty
	reg *prometheus.Registry
	log *bytes.Buffer
}

func newFixture(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, reg: prometheus.NewRegistry(), log: &bytes.Buffer{}}
	f.buf = &faulty{answers: map[string]*buffer.Answer{}, Mem: buffertest.NewMem(
		buffer.Stream{Name: "orders", Drains: []string{"orders-to-service"}, MaxMessageBytes: 64 << 10},
		buffer.Stream{Name: "registrations", Drains: []string{"email", "sms"}},
	)}
	set := parsePolicy(t, testPolicy)
	cfg := Config{Buffer: f.buf, Policy: func() *policies.Set { return set }, ETA: tenPerSecond}
	for _, c := range change {
		c(&cfg)
	}
	f.Handler = New(cfg, slog.New(slog.NewTextHandler(f.log, nil)), f.reg)
	return f
}

// routes lets a test write what it needs into the routes of the policy.
func routes(change func(create, register *policies.Route)) func(*Config) {
	return func(c *Config) {
		set := c.Policy()
		change(&set.Routes[0], &set.Routes[1])
	}
}

// do sends a request with header lines of the form "Name: value".
func (f *fixture) do(method, target, body string, header ...string) *http.Response {
	f.t.Helper()
	return f.send(request(f.t.Context(), method, target, body, header...))
}

func (f *fixture) send(r *http.Request) *http.Response {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w.Result()
}

func request(ctx context.Context, method, target, body string, header ...string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// order has one accepted and returns its id.
func (f *fixture) order() string {
	f.t.Helper()
	resp := f.do("POST", "/v1/orders", `{"order":1}`)
	if resp.StatusCode != http.StatusAccepted {
		f.t.Fatalf("POST /v1/orders: status %d, want 202", resp.StatusCode)
	}
	return strings.TrimPrefix(resp.Header.Get("Location"), receiptsPrefix)
}

// take puts the oldest order in the hands of its drain.
func (f *fixture) take() {
	f.t.Helper()
	ds, _, err := f.buf.Take("orders-to-service", time.Now(), 1)
	if err != nil || len(ds) != 1 {
		f.t.Fatalf("take an order: got %d, %v", len(ds), err)
	}
}

// deliver has the drain finish with an order.
func (f *fixture) deliver(offset uint64) {
	f.t.Helper()
	f.take()
	f.buf.Ack("orders-to-service", offset, buffer.Result{At: time.Now(), Attempts: 1, Status: 201})
}

func decode[T any](t testing.TB, resp *http.Response) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(resp.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("decode the body of a %d: %v", resp.StatusCode, err)
	}
	return v
}
