package app

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"forebay/cmd/forebay/admin"
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

// Through the whole program: a connection that changes its protocol, events as they
// come, trailers, and a caller who leaves.
func TestLiveStreams(t *testing.T) {
	more, left, ended := make(chan bool), make(chan bool, 1), make(chan bool)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		switch r.URL.Path {
		case "/v1/read/chat":
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "echo")
			w.WriteHeader(http.StatusSwitchingProtocols)
			c, rw, err := rc.Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.Copy(c, rw) // until the caller leaves
		case "/v1/read/events":
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				select {
				case _, ok := <-more:
					if !ok {
						return
					}
				case <-ended: // the test has failed
					return
				}
				fmt.Fprint(w, "data: x\n\n")
				_ = rc.Flush()
			}
		case "/v1/read/trailer":
			w.Header().Set("Trailer", "X-Sum")
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(body)
			w.Header().Set("X-Sum", "in "+r.Trailer.Get("X-Sum"))
		default:
			_ = rc.Flush()
			<-r.Context().Done()
			left <- true
		}
	}))
	defer srv.Close()
	defer close(ended)
	r := start(t, livePolicy(srv.URL, "{ rate: unlimited }", ""))
	c, err := net.Dial("tcp", r.Public()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	fmt.Fprint(c, "GET /v1/read/chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}
	for range 3 {
		fmt.Fprint(c, "hello")
		echo := make([]byte, 5)
		if _, err := io.ReadFull(br, echo); err != nil || string(echo) != "hello" {
			t.Fatalf("echo %q, %v", echo, err)
		}
	}
	inFlight := func() int {
		var list []admin.Sink
		r.get(t, "/api/v1/sinks", &list)
		return list[0].InFlight
	}
	if n := inFlight(); n != 1 {
		t.Errorf("%d in flight while the connection is open", n)
	}
	c.Close()
	until(t, "nothing is in flight", func() bool { return inFlight() == 0 })

	ctx, leave := context.WithCancel(t.Context())
	ask := func(method, path string, body io.Reader) *http.Response {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+r.Public()[0]+path, body)
		if err != nil {
			t.Fatal(err)
		}
		if body != nil {
			req.Trailer = http.Header{"X-Sum": {"7"}}
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	go func() {
		select {
		case more <- true:
		case <-ended:
		}
	}() // the header comes with the first event
	events := ask("GET", "/v1/read/events", nil).Body
	for i := range 3 {
		if i > 0 {
			more <- true
		}
		event := make([]byte, 9)
		if _, err := io.ReadFull(events, event); err != nil || string(event) != "data: x\n\n" {
			t.Fatalf("event %d is %q, %v", i, event, err)
		}
	}
	close(more)
	if rest, err := io.ReadAll(events); err != nil || len(rest) > 0 {
		t.Errorf("the end is %q, %v", rest, err)
	}
	resp := ask("POST", "/v1/read/trailer", io.MultiReader(strings.NewReader("hi")))
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hi" || resp.Trailer.Get("X-Sum") != "in 7" {
		t.Errorf("%q, %v, trailer %v", body, err, resp.Trailer)
	}
	resp = ask("GET", "/v1/read/other", nil)
	leave()
	until(t, "the sink's request is cancelled", func() bool { return len(left) > 0 })
	resp.Body.Close()
	until(t, "nothing is in flight", func() bool { return inFlight() == 0 })
}
