package bench

import (
	"context"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// config loads a handler, or whatever listens at url.
func config(t *testing.T, target string) Config {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Target: u, Method: http.MethodPost, Bodies: [][]byte{[]byte(`{"n":1}`)},
		Rate: 500, For: 200 * time.Millisecond, Timeout: 20 * time.Second, Connections: 4,
	}
}

func served(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// raw answers each connection with a text as soon as it has read something, and closes.
func raw(t *testing.T, answer string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer nc.Close()
				if _, err := nc.Read(make([]byte, 4096)); err == nil {
					_, _ = io.WriteString(nc, answer)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		open.Wait()
	})
	return "http://" + ln.Addr().String()
}

func TestSends(t *testing.T) {
	var (
		mu     sync.Mutex
		bodies = make(map[string]int)
		keys   = make(map[string]bool)
	)
	target := served(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPut || r.URL.RequestURI() != "/v1/orders?a=b" || r.Host != "shop.example" || r.Header.Get("X-Tenant") != "t" {
			t.Errorf("saw %s %s of %s, %v (%v)", r.Method, r.URL, r.Host, r.Header, err)
		}
		mu.Lock()
		defer mu.Unlock()
		bodies[string(body)]++
		keys[r.Header.Get("Idempotency-Key")] = true
		w.WriteHeader(http.StatusAccepted)
	})
	cfg := config(t, target+"/v1/orders?a=b")
	cfg.Method, cfg.Bodies, cfg.IdempotencyKey = http.MethodPut, [][]byte{[]byte("one"), []byte("two")}, "run"
	cfg.Header = http.Header{"Host": {"shop.example"}, "X-Tenant": {"t"}}
	r := New(cfg).Run(t.Context())
	if r.Requests != 100 || r.Succeeded != 100 || r.Statuses["202"] != 100 || len(r.Errors) > 0 {
		t.Errorf("measured %+v, want 100 times 202", r)
	}
	if bodies["one"] != 50 || bodies["two"] != 50 || len(keys) != 100 {
		t.Errorf("the target saw bodies %v and %d keys, want each 50 times and 100", bodies, len(keys))
	}
	if r.ConnectionsOpened != 4 {
		t.Errorf("%d connections were opened, want 4 that were kept", r.ConnectionsOpened)
	}
}

// Only what is due after it counts.
func TestWarmup(t *testing.T) {
	var seen atomic.Int64
	cfg := config(t, served(t, func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
	cfg.Warmup = 100 * time.Millisecond
	if r := New(cfg).Run(t.Context()); r.Requests != 100 || seen.Load() != 150 {
		t.Errorf("%d of %d requests counted, want 100 of 150", r.Requests, seen.Load())
	}
}

// One connection meets a stall of a second in one request. The others were due
// meanwhile and have waited, which a closed loop does not see: it did not send them.
func TestStallShows(t *testing.T) {
	const stall = time.Second
	stalling := func() string {
		var n atomic.Int64
		return served(t, func(_ http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 20 {
				wait := time.NewTimer(stall)
				defer wait.Stop()
				<-wait.C
			}
		})
	}
	cfg := config(t, stalling())
	cfg.Connections, cfg.Rate, cfg.For = 1, 100, time.Second
	open := New(cfg).Run(t.Context())
	if open.Requests != 100 || open.Latency.P50 < 0.3 || open.Latency.P99 < 0.9 {
		t.Errorf("open loop: %d requests, %+v, want half of 100 over 0.3 s, p99 over 0.9 s", open.Requests, open.Latency)
	}
	if open.Waited < 50 || len(open.Warnings) == 0 {
		t.Errorf("%d requests found the connection busy, warned %q, want most and a warning", open.Waited, open.Warnings)
	}
	cfg = config(t, stalling())
	cfg.Connections, cfg.Rate, cfg.For = 1, 0, 1500*time.Millisecond
	closed := New(cfg).Run(t.Context())
	if closed.Latency.P50 > 0.3 || closed.Latency.Max < 0.9 {
		t.Errorf("closed loop: %+v: the stall is one request of many there, else this test shows nothing", closed.Latency)
	}
}

func TestAnswers(t *testing.T) {
	closing := served(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	early := served(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusEarlyHints) })
	chunked := served(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, strings.Repeat("x", 1000))
			_ = http.NewResponseController(w).Flush()
		}
	})
	refusing := served(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	tests := []struct {
		name, target string
		method       string
		status       string
		succeeded    bool
		reopened     bool
	}{
		{"connection closed after each", closing, http.MethodPost, "200", true, true},
		{"interim answers", early, http.MethodPost, "200", true, false},
		{"chunks", chunked, http.MethodPost, "200", true, false},
		{"no body", chunked, http.MethodHead, "200", true, false},
		{"refusals", refusing, http.MethodPost, "429", false, false},
		{"HTTP/1.0", raw(t, "HTTP/1.0 202 Accepted\r\n\r\nuntil it closes"), http.MethodPost, "202", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(t, tt.target)
			cfg.Method = tt.method
			if tt.method == http.MethodHead {
				cfg.Bodies = nil
			}
			r := New(cfg).Run(t.Context())
			if r.Statuses[tt.status] != 100 || len(r.Errors) > 0 || (r.Succeeded == 100) != tt.succeeded {
				t.Errorf("measured %+v, want 100 times %s", r, tt.status)
			}
			if (r.ConnectionsOpened > 4) != tt.reopened {
				t.Errorf("%d connections were opened", r.ConnectionsOpened)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of each handshake
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	tests := []struct {
		name, target string
		want         Failure
	}{
		{"nobody listens", gone.URL, Refused},
		{"a certificate nobody knows", untrusted.URL, Connect},
		{"cut off before an answer", raw(t, ""), Closed},
		{"cut off in an answer", raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), Closed},
		{"another protocol", raw(t, "220 mail.example ESMTP\r\n"), Malformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(t, tt.target)
			cfg.Rate, cfg.For = 100, 100*time.Millisecond
			r := New(cfg).Run(t.Context())
			if r.Errors[tt.want] != 10 || r.Succeeded > 0 || len(r.Statuses) > 0 {
				t.Errorf("measured %+v, want 10 times %s", r, tt.want)
			}
			if r.Latency != nil {
				t.Errorf("latency %+v of requests that nobody waited for", r.Latency)
			}
		})
	}
}

// Who never answers keeps both connections; what was due and not sent counts too.
func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	target := served(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	cfg := config(t, target)
	cfg.Connections, cfg.Rate, cfg.For, cfg.Timeout = 2, 100, 200*time.Millisecond, 150*time.Millisecond
	r := New(cfg).Run(t.Context())
	if r.Errors[Timeout] < 2 || r.Errors[Unsent] < 1 || r.Errors[Timeout]+r.Errors[Unsent] != 20 {
		t.Errorf("errors %v, want 20 in all, timed out or never sent", r.Errors)
	}
	if r.Latency == nil || r.Latency.P50 < 0.15 {
		t.Errorf("latency %+v, want the time that was waited", r.Latency)
	}
}

func TestInterrupted(t *testing.T) {
	release := make(chan struct{})
	var n atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	target := served(t, func(http.ResponseWriter, *http.Request) {
		if n.Add(1) > 50 {
			cancel()
			<-release
		}
	})
	t.Cleanup(func() { close(release) })
	cfg := config(t, target)
	cfg.For = time.Hour
	r := New(cfg).Run(ctx)
	if !r.Interrupted || r.Succeeded < 45 || r.Errors[Interrupted] < 1 || len(r.Errors) > 1 {
		t.Errorf("measured %+v, want 50 answers and some that were broken off", r)
	}
	if r.TookSeconds > 600 {
		t.Errorf("took %v s, want what it took", r.TookSeconds)
	}
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	cfg := config(t, srv.URL)
	cfg.Roots = x509.NewCertPool()
	cfg.Roots.AddCert(srv.Certificate())
	if r := New(cfg).Run(t.Context()); r.Statuses["200"] != 100 {
		t.Errorf("measured %+v, want 100 times 200", r)
	}
}

// A generator that is late says so, and late is what it did itself.
func TestLagIsTold(t *testing.T) {
	b := New(config(t, "http://127.0.0.1:1"))
	for range 1000 {
		b.tally.record(outcome{status: 200, latency: time.Millisecond})
	}
	if r := b.result(false); len(r.Warnings) > 0 {
		t.Errorf("warned %q of a generator in time", r.Warnings)
	}
	for range 20 {
		b.tally.record(outcome{status: 200, latency: time.Millisecond, lag: 30 * time.Millisecond})
	}
	if r := b.result(false); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "the generator was late") {
		t.Errorf("warned %q, want one of a late generator", r.Warnings)
	}
}

func TestArrivals(t *testing.T) {
	next := arrivals(3, false)
	var got []time.Duration
	for range 4 {
		got = append(got, next())
	}
	third := time.Duration(333_333_333)
	if want := []time.Duration{0, third, 2 * third, time.Second}; !slices.EqualFunc(got, want, func(a, b time.Duration) bool { return (a - b).Abs() < 2 }) {
		t.Errorf("due at %v, want %v", got, want)
	}
	first, again := arrivals(1000, true), arrivals(1000, true)
	var last time.Duration
	near := 0 // within half of the mean distance: 39 % of what comes at random
	const n = 10_000
	for range n {
		due := first()
		if other := again(); due != other || due < last {
			t.Fatalf("due at %v after %v, and %v in another run", due, last, other)
		}
		if due-last < 500*time.Microsecond {
			near++
		}
		last = due
	}
	if last < 9500*time.Millisecond || last > 10500*time.Millisecond || near < n*35/100 || near > n*44/100 {
		t.Errorf("the last of %d is due at %v, %d are near the one before: want 10 s and 39 %%", n, last, near)
	}
}
