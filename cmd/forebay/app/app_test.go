package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/cmd/forebay/admin"
	"forebay/cmd/forebay/config"
	"forebay/policies"
)

// logBook keeps log lines for the test to look at.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// shop is an order service that takes everything.
type shop struct {
	url string

	mu     sync.Mutex
	bodies []string // guarded by mu
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a short one shows in the test
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bodies = append(s.bodies, string(body))
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *shop) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

func policyText(sink, base string) string {
	return fmt.Sprintf(`version: 1
time_intervals:
  - name: night
    intervals: [{ times: [{ start_time: "00:30", end_time: "06:30" }] }]
sinks:
  - name: shop
    http: { urls: ["%s"] }
    budget: { rate: 1000/s }
streams:
  - name: orders
drains:
  - name: orders
    stream: orders
    sink: shop
    schedule: { base: %s, entries: [{ name: catch up, during: [night], rate: %s }] }
limits: [{ name: callers, rate: 1000000/s, key: [client_ip] }]
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, limits: [callers], mode: buffer, stream: orders }
`, sink, base, base)
}

// unreachableSource goes behind policyText.
const unreachableSource = `sources: [{ name: legacy, kafka: { brokers: ["127.0.0.1:1"], topics: [orders.raw], group: forebay }, stream: orders }]
`

// running is an App in this process.
type running struct {
	*App
	log    *logBook
	policy string // path of the policy file
	cancel context.CancelFunc
	ended  chan error
}

// start runs an App on free ports until the test ends.
func start(t *testing.T, policy string, flags ...config.Flag) *running {
	t.Helper()
	r := launch(t, policy, flags...)
	select {
	case <-r.Ready():
	case err := <-r.ended:
		t.Fatalf("Run ended before it was ready: %v\n%s", err, r.log)
	}
	return r
}

func launch(t *testing.T, policy string, flags ...config.Flag) *running {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(path, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Sources{Flags: append([]config.Flag{
		{Setting: "listen.public", Value: "127.0.0.1:0"},
		{Setting: "listen.admin.address", Value: "127.0.0.1:0"},
		{Setting: "buffer.dir", Value: filepath.Join(dir, "data")},
		{Setting: "buffer.segment_bytes", Value: "1MiB"},
		{Setting: "policies.paths", Value: []string{path}},
		{Setting: "shutdown.delay", Value: "0s"},
		{Setting: "shutdown.timeout", Value: "5s"},
	}, flags...)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{log: &logBook{}, policy: path, cancel: cancel, ended: make(chan error, 1)}
	r.App = New(cfg, Build{Version: "1.2.3", Revision: "abc", Go: "go1"}, slog.New(slog.NewTextHandler(r.log, nil)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- r.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

func (r *running) get(t *testing.T, path string, v any) int {
	t.Helper()
	resp, err := http.Get("http://" + r.Admin() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if v != nil {
		if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
	}
	return resp.StatusCode
}

func (r *running) post(t *testing.T, body string) (id string) {
	t.Helper()
	resp, err := http.Post("http://"+r.Public()[0]+"/v1/orders", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var receipt struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&receipt); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("POST = %d, %v, want 202", resp.StatusCode, err)
	}
	return receipt.ID
}

// until polls ok until it holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func TestServeAndStop(t *testing.T) {
	s := newShop(t)
	r := start(t, policyText(s.url, "1000/s"))
	id := r.post(t, `{"order":1}`)
	until(t, "the shop has the order", func() bool { return len(s.got()) == 1 })
	if diff := cmp.Diff([]string{`{"order":1}`}, s.got()); diff != "" {
		t.Errorf("what the shop got (-want +got):\n%s", diff)
	}
	var drains []admin.Drain
	until(t, "the drain is idle", func() bool {
		r.get(t, "/api/v1/drains", &drains)
		return len(drains) == 1 && drains[0].DeliveredTotal == 1
	})
	d := drains[0]
	if d.Name != "orders" || d.Stream != "orders" || d.Sink != "shop" || d.PermittedRate != 1000 || d.Buffered() != 0 {
		t.Errorf("drain = %+v", d)
	}
	var audit admin.Audit
	r.get(t, "/api/v1/audit", &audit)
	want := admin.Audit{Balanced: true, Drains: []admin.Account{{Stream: "orders", Drain: "orders", Accepted: 1, Delivered: 1}}}
	if diff := cmp.Diff(want, audit); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	var receipt struct{ State string }
	if code := r.get(t, "/api/v1/receipts/"+id, &receipt); code != 200 || receipt.State != "delivered" {
		t.Errorf("receipt of %s = %d %+v, want delivered", id, code, receipt)
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/api/v1/receipts/nope": 404, "/api/v1/drains/nope": 404} {
		if got := r.get(t, path, nil); got != want {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
	r.cancel()
	if err := <-r.ended; err != nil {
		t.Errorf("Run after a stop = %v, want nil", err)
	}
	if !strings.Contains(r.log.String(), "msg=ready public="+r.Public()[0]+" admin="+r.Admin()) {
		t.Errorf("no ready line with the real addresses:\n%s", r.log)
	}
}

func TestTwoInOneProcess(t *testing.T) {
	s := newShop(t)
	one, two := start(t, policyText(s.url, "1000/s")), start(t, policyText(s.url, "1000/s"))
	one.post(t, "one")
	two.post(t, "two")
	until(t, "the shop has both", func() bool { return len(s.got()) == 2 })
}

func TestRestartKeeps(t *testing.T) {
	s := newShop(t)
	dir := filepath.Join(t.TempDir(), "data")
	data := config.Flag{Setting: "buffer.dir", Value: dir}
	one := start(t, policyText(s.url, "0"), data)
	one.post(t, "kept")
	one.cancel()
	if err := <-one.ended; err != nil {
		t.Fatal(err)
	}
	start(t, policyText(s.url, "1000/s"), data)
	until(t, "the shop has what was buffered", func() bool { return len(s.got()) == 1 })
}

func TestRunErrors(t *testing.T) {
	s := newShop(t)
	other := start(t, policyText(s.url, "1/s"))
	tests := []struct {
		name   string
		policy string
		flags  []config.Flag
		want   string
	}{
		{"mistake in the policy", "version: 1\nstreams: [{ nam: x }]\n", nil, "policy.yaml:2:"},
		{"no policy", policyText(s.url, "1/s"), []config.Flag{{Setting: "policies.paths", Value: []string{"none/*.yaml"}}}, "none/*.yaml"},
		{"admin port in use", policyText(s.url, "1/s"), []config.Flag{{Setting: "listen.admin.address", Value: other.Admin()}}, "listen on " + other.Admin()},
		{"public port in use", policyText(s.url, "1/s"), []config.Flag{{Setting: "listen.public", Value: other.Public()[0]}}, "listen on " + other.Public()[0]},
		{"data in use", policyText(s.url, "1/s"), []config.Flag{{Setting: "buffer.dir", Value: other.cfg.Buffer.Dir}}, other.cfg.Buffer.Dir},
		{"no token", policyText(s.url, "1/s"), []config.Flag{{Setting: "listen.admin.token_file", Value: "none/token"}}, "none/token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := launch(t, tt.policy, tt.flags...)
			select {
			case <-r.Ready():
				t.Fatal("Run got ready")
			case err := <-r.ended:
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Run = %v, want an error with %q", err, tt.want)
				}
			}
		})
	}
}

func TestNotReady(t *testing.T) {
	a := New(config.Config{}, Build{}, slog.New(slog.DiscardHandler))
	h := admin.Handler(a.backend(http.NotFoundHandler()), nil, a.log)
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 503, "/api/v1/streams": 503, "/api/v1/drains": 503, "/api/v1/drains/d": 503, "/api/v1/audit": 503,
		"/api/v1/policy": 503, "/api/v1/routes": 503, "/api/v1/sinks": 503, "/api/v1/limits": 503, "/api/v1/windows": 503, "/api/v1/receipts/x": 503,
	} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("GET %s while recovering = %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
}

func TestStopAnswersWaits(t *testing.T) {
	r := start(t, policyText(newShop(t).url, "0"))
	req, err := http.NewRequest(http.MethodPost, "http://"+r.Public()[0]+"/v1/orders", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Prefer", "wait=20")
	answered := make(chan int, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		_ = resp.Body.Close() // its status is all that counts
		answered <- resp.StatusCode
	}()
	until(t, "the order is stored", func() bool {
		var streams []admin.Stream
		r.get(t, "/api/v1/streams", &streams)
		return len(streams) == 1 && streams[0].Messages == 1
	})
	r.cancel()
	if got := <-answered; got != http.StatusAccepted {
		t.Errorf("a wait that a stop ends is answered %d, want 202", got)
	}
	if err := <-r.ended; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

func TestLongestWait(t *testing.T) {
	tests := map[time.Duration][]time.Duration{
		30 * time.Second: {time.Second, 5 * time.Second},
		2 * time.Minute:  {time.Second, 2 * time.Minute},
	}
	for want, waits := range tests {
		set := &policies.Set{}
		for _, w := range waits {
			set.Routes = append(set.Routes, policies.Route{WaitMax: w})
		}
		if got := longestWait(set); got != want {
			t.Errorf("longestWait of %v = %v, want %v", waits, got, want)
		}
	}
}
