package http_test

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"forebay/drain"
	"forebay/drain/sink/http"
	"forebay/policies"
)

func TestDeliverAnswers(t *testing.T) {
	date := time.Now().Add(time.Hour).UTC().Format(nethttp.TimeFormat)
	tests := []struct {
		name       string
		status     int
		retryAfter string
		want       drain.Class
		pause      time.Duration // at most, and at least half of it
	}{
		{"200", 200, "", drain.Success, 0},
		{"204", 204, "", drain.Success, 0},
		{"a redirect is a failure", 302, "", drain.Retry, 0},
		{"a status in permanent", 422, "", drain.Permanent, 0},
		{"a client error that is not", 409, "", drain.Retry, 0},
		{"500", 500, "7", drain.Retry, 0},
		{"502", 502, "7", drain.Retry, 0},
		{"429", 429, "7", drain.Retry, 7 * time.Second},
		{"429 without a pause", 429, "", drain.Retry, 0},
		{"429 until a date", 429, date, drain.Retry, time.Hour},
		{"429 until a date that is past", 429, "Wed, 21 Oct 2015 07:28:00 GMT", drain.Retry, 1},
		{"429 with a negative pause", 429, "-5", drain.Retry, 1},
		{"429 with a negative pause out of range", 429, "-99999999999999999999999", drain.Retry, 1},
		{"429 with nonsense", 429, "soon", drain.Retry, 0},
		{"429 with a number out of range", 429, "99999999999999999999999", drain.Retry, 10 * 365 * 24 * time.Hour},
		{"429 for a year", 429, "31536000", drain.Retry, 365 * 24 * time.Hour},
		{"503 for a year", 503, "31536000", drain.Retry, 365 * 24 * time.Hour},
		{"503", 503, "7", drain.Retry, 7 * time.Second},
		{"503 without a pause", 503, "", drain.Retry, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
				if r.URL.Path == "/followed" {
					t.Error("a redirect was followed")
				}
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.Header().Set("Location", "/followed")
				w.WriteHeader(tt.status)
			}))
			defer srv.Close()
			got := deliver(t, newSink(t, policy(t, srv.URL)), order())
			if got.Class != tt.want || got.Status != tt.status || (got.Error == "") != (tt.want == drain.Success) {
				t.Errorf("outcome of %d = %+v, want class %v", tt.status, got, tt.want)
			}
			if got.RetryAfter > tt.pause || got.RetryAfter < tt.pause/2 {
				t.Errorf("pause of %d with Retry-After %q = %v, want %v", tt.status, tt.retryAfter, got.RetryAfter, tt.pause)
			}
		})
	}
}

// speaker answers each connection with bytes, after it has read a request, and
// closes it.
func speaker(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if req, err := nethttp.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body) // what the peer does not take is the test
			}
			_, _ = io.WriteString(c, answer)
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return "http://" + l.Addr().String()
}

// resetter reads each request and then resets its connection.
func resetter(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // what the peer does not take is the test
		c, _, err := w.(nethttp.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = c.(*net.TCPConn).SetLinger(0) // a connection that cannot is closed all the same
		c.Close()
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestDeliverFailures(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	secure := httptest.NewUnstartedServer(nethttp.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshake that fails is the test
	secure.StartTLS()
	defer secure.Close()
	tests := []struct {
		name, url string
		want      drain.Class
		prefix    string
	}{
		{"nobody listens", closed.URL, drain.Retry, "connection refused: "},
		{"a host that does not resolve", "http://sink.invalid", drain.Retry, "unresolved host: "},
		{"the metadata address", "http://169.254.169.254", drain.Retry, "refused address: "},
		{"a link-local address", "http://[fe80::1%25lo]:80", drain.Retry, "refused address: "},
		{"AWS over IPv6", "http://[fd00:ec2::254]", drain.Retry, "refused address: "},
		{"mapped into IPv6", "http://[::ffff:169.254.169.254]", drain.Retry, "refused address: "},
		{"an unknown authority", secure.URL, drain.Retry, "tls: "},
		{"closed without an answer", speaker(t, ""), drain.Retry, "connection reset: "},
		{"nonsense", speaker(t, "\x00\x01secret\r\n\r\n"), drain.Retry, "malformed answer: "},
		{"a status that is none", speaker(t, "HTTP/1.1 banana\r\n\r\n"), drain.Retry, "malformed answer: "},
		{"another protocol", speaker(t, "SSH-2.0-OpenSSH_9.6\r\n"), drain.Retry, "malformed answer: "},
		{"fields without end", speaker(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"), drain.Retry, ""},
		{"a body cut short", speaker(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"), drain.Retry, "connection reset: in the answer of "},
		{"a broken chunk", speaker(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), drain.Retry, "malformed answer: in the answer of "},
		{"1xx without end", speaker(t, strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 10_000)), drain.Retry, "malformed answer: "},
		{"a reset after the request", resetter(t), drain.Retry, "connection reset: "},
		{"switching protocols", speaker(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), drain.Retry, "status 101 from "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := deliver(t, newSink(t, policy(t, tt.url)), order())
			if got.Class != tt.want || !strings.HasPrefix(got.Error, tt.prefix) || got.Status != 0 && got.Status != 101 {
				t.Errorf("outcome = %+v, want class %v and error %q…", got, tt.want, tt.prefix)
			}
			if strings.Contains(got.Error, "secret") || len(got.Error) > 200 {
				t.Errorf("error repeats what the peer sent: %q", got.Error)
			}
		})
	}
}

func TestDeliverAllowedAddress(t *testing.T) {
	p := policy(t, "http://169.254.169.254:1")
	p.HTTP.AllowAddresses = []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")}
	p.HTTP.ConnectTimeout, p.HTTP.Timeout = time.Nanosecond, time.Second
	if got := deliver(t, newSink(t, p), order()); strings.HasPrefix(got.Error, "refused address") {
		t.Errorf("an allowed address is refused: %+v", got)
	}
}

// drip sends a byte of a body now and then.
func drip(w nethttp.ResponseWriter, until <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := w.Write([]byte("x")); err != nil {
			return
		}
		w.(nethttp.Flusher).Flush()
		select {
		case <-tick.C:
		case <-until:
			return
		}
	}
}

func TestDeliverTimeout(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		switch r.URL.Path {
		case "/body":
			w.(nethttp.Flusher).Flush()
		case "/drip":
			drip(w, release)
		}
		<-release
	}))
	defer srv.Close()
	defer close(release)
	for _, target := range []string{"/head", "/body", "/drip"} {
		p := policy(t, srv.URL)
		p.HTTP.Timeout = 50 * time.Millisecond
		m := order()
		m.Target = target
		if got := deliver(t, newSink(t, p), m); got.Class != drain.Timeout || got.Status != 0 || !strings.HasPrefix(got.Error, "timeout: ") {
			t.Errorf("outcome of %s without end = %+v, want a timeout", target, got)
		}
	}
}

func TestDeliverAbandoned(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := httptest.NewServer(nethttp.HandlerFunc(func(_ nethttp.ResponseWriter, r *nethttp.Request) {
		cancel()
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer srv.Close()
	got := newSink(t, policy(t, srv.URL)).Deliver(ctx, []drain.Delivery{order()})
	if got[0].Class != drain.Retry || !strings.HasPrefix(got[0].Error, "abandoned: ") {
		t.Errorf("outcome = %+v", got[0])
	}
}

func TestDeliverUnusable(t *testing.T) {
	var r recorder
	srv := httptest.NewServer(&r)
	defer srv.Close()
	tests := map[string]func(*drain.Delivery){
		"a target that cannot be read": func(m *drain.Delivery) { m.Target = "/%zz?token=secret" },
		"a query with a space":         func(m *drain.Delivery) { m.Target = "/?q=secret HTTP/1.1" },
		"a field without a name":       func(m *drain.Delivery) { m.Header = fields("", "secret") },
		"a method with a space":        func(m *drain.Delivery) { m.Method = "PO ST" },
		"a field with a newline":       func(m *drain.Delivery) { m.Header = fields("X-A", "b\r\nX-C: secret") },
	}
	for name, change := range tests {
		m := order()
		change(&m)
		got := deliver(t, newSink(t, policy(t, srv.URL)), m)
		if got.Class != drain.Permanent || got.Status != 0 && !byTransport || strings.Contains(got.Error, "secret") {
			t.Errorf("%s: outcome = %+v, want permanent, without secrets", name, got)
		}
	}
	if len(r.seen) != 0 {
		t.Errorf("the sink saw %v", r.seen)
	}
}

// A body over the bound is an answer all the same, and a connection is used
// again after one below it.
func TestDeliverAnswerBodies(t *testing.T) {
	var mu sync.Mutex
	connections := make(map[string]bool)
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		mu.Lock()
		connections[r.RemoteAddr] = true
		mu.Unlock()
		_, _ = io.Copy(w, io.LimitReader(zeros{}, r.ContentLength*100)) // the sink may hang up
	}))
	defer srv.Close()
	s := newSink(t, policy(t, srv.URL))
	for range 10 {
		m := order()
		m.Body = make([]byte, 300)
		if got := deliver(t, s, m); got.Class != drain.Success {
			t.Fatalf("outcome with a body of 30 kB = %+v", got)
		}
	}
	mu.Lock()
	if len(connections) != 1 {
		t.Errorf("10 attempts one after the other used %d connections", len(connections))
	}
	mu.Unlock()
	m := order()
	m.Body = make([]byte, 300_000)
	if got := deliver(t, s, m); got.Class != drain.Success {
		t.Errorf("outcome with a body of 30 MB = %+v", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A request that was written is not written again by the transport, though it
// has an Idempotency-Key and the connection was used before.
func TestDeliverWritesOnce(t *testing.T) {
	var mu sync.Mutex
	n := 0
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		mu.Lock()
		defer mu.Unlock()
		n++
		if n == 1 {
			return
		}
		c, _, err := w.(nethttp.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		c.Close()
	}))
	defer srv.Close()
	for _, body := range []string{"x", ""} {
		mu.Lock()
		n = 0
		mu.Unlock()
		s := newSink(t, policy(t, srv.URL))
		m := order()
		m.Body = []byte(body)
		deliver(t, s, m)
		if got := deliver(t, s, m); got.Class != drain.Retry {
			t.Errorf("body %q: outcome of a connection that was closed = %+v", body, got)
		}
		mu.Lock()
		if n != 2 {
			t.Errorf("body %q: two attempts were written %d times", body, n)
		}
		mu.Unlock()
	}
}

func TestNewRefuses(t *testing.T) {
	tests := map[string]policies.Sink{
		"not http":      {Name: "x"},
		"no urls":       policy(t),
		"a scheme":      policy(t, "ftp://host"),
		"no host":       policy(t, "http:///path"),
		"a password":    policy(t, "http://user:hunter2@host"),
		"not even that": policy(t, "/path"),
	}
	for name, p := range tests {
		if _, err := http.New(p); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: New = %v, want an error without the password", name, err)
		}
	}
}
