package app

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func livePolicy(sink, budget, more string) string {
	return fmt.Sprintf(`version: 1
sinks:
  - { name: shop, http: { urls: [%q] }, budget: %s, slow_start: 0s, breaker: { min_requests: 10, open_for: 1s } }
streams: [{ name: orders }]
drains: [{ name: orders, stream: orders, sink: shop, schedule: { base: unlimited } }]
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders }
  - { name: read, match: { path_prefix: /v1/read }, mode: pass, sink: shop }
  - { name: pay, match: { path_prefix: /v1/pay }, mode: hold, sink: shop, hold_up_to: 30s }
%s`, sink, budget, more)
}

// ask makes a request to a route.
func (r *running) ask(t *testing.T, method, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Public()[0]+path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(raw)
}

// Failures of live requests open the breaker, which stops all; when the sink is
// back a probe closes it.
func TestLiveOpensTheBreaker(t *testing.T) {
	var status atomic.Int64
	status.Store(502)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	defer srv.Close()
	r := start(t, livePolicy(srv.URL, "{ rate: 1000/s, burst: 100 }", ""))
	until(t, "the breaker is open", func() bool {
		status, body := r.ask(t, "GET", "/v1/read")
		if status != 502 && status != 503 {
			t.Errorf("GET = %d, %s", status, body)
		}
		return status == 503 && strings.Contains(body, "breaker-open")
	})
	status.Store(200)
	until(t, "the breaker is closed", func() bool {
		status, _ := r.ask(t, "GET", "/v1/read")
		return status == 200
	})
	srv.Close()
	if status, body := r.ask(t, "GET", "/v1/read"); status != 502 || !strings.Contains(body, "sink-unreachable") {
		t.Errorf("GET with the sink gone = %d, %s", status, body)
	}
}
