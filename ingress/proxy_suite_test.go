package ingress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/policies"
)

const livePolicy = `version: 1
sinks:
  - name: shop
    http: { urls: ["http://orders.internal"] }
routes:
  - { name: read, match: {}, mode: pass, sink: shop, max_body: 16MiB }
  - { name: small, match: { path_prefix: /small }, mode: pass, sink: shop, max_body: 8 }
  - { name: pay, match: { path_prefix: /pay }, mode: hold, sink: shop, hold_up_to: 10s, max_waiting: 2 }
`

// sinks are the sinks of a test: a service, and what it takes to get a turn.
type sinks struct {
	service *url.URL
	via     http.RoundTripper
	enter   func(ctx context.Context, wait time.Duration) error // nil: there is always room

	mu     sync.Mutex
	inside int // guarded by mu; turns that have not ended
}

func (s *sinks) Enter(ctx context.Context, _, _ string, _ int64, wait time.Duration) (Turn, error) {
	if s.enter != nil {
		if err := s.enter(ctx, wait); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside++
	return turnOf{s}, nil
}

func (s *sinks) turns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inside
}

type turnOf struct{ s *sinks }

func (t turnOf) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.WithContext(r.Context())
	u := *r.URL
	u.Scheme, u.Host = t.s.service.Scheme, t.s.service.Host
	r.URL, r.Host = &u, t.s.service.Host
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = io.NopCloser(r.Body) // as Turn has it
	}
	return t.s.via.RoundTrip(r)
}

func (t turnOf) End() {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.inside--
}

// newProxy runs Forebay before a service, and returns its address.
func newProxy(t *testing.T, service string, change ...func(*Config)) (addr string, s *sinks, f *fixture) {
	t.Helper()
	to, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, ExpectContinueTimeout: time.Minute}
	t.Cleanup(transport.CloseIdleConnections)
	s = &sinks{service: to, via: transport}
	set := parsePolicy(t, livePolicy)
	f = newFixture(t, append([]func(*Config){func(c *Config) {
		c.Policy, c.Live = func() *policies.Set { return set }, s
	}}, change...)...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := NewServer(f, ServerConfig{}, slog.New(slog.DiscardHandler))
	done := make(chan error)
	go func() { done <- srv.Serve(LimitListener(l, 100)) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return l.Addr().String(), s, f
}

// newReference runs the standard library's proxy before a service.
func newReference(t *testing.T, service string) (addr string) {
	t.Helper()
	to, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.SetXForwarded()
		},
		Transport: &http.Transport{DisableCompression: true, ExpectContinueTimeout: time.Minute},
		ErrorLog:  log.New(io.Discard, "", 0),
	})
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// exchanged is what a caller and a sink saw of one request.
type exchanged struct {
	Informational []string // status and Link of each
	Status        int
	Header        http.Header
	Body          string
	Cut           bool // the body had no end
	Trailer       http.Header

	Seen, SeenBody    string // of the sink
	SeenHeader        http.Header
	SeenTrailer       http.Header
	SeenContentLength int64
}

// ours are the fields in which Forebay differs from the reference on purpose.
var ours = []string{"Via", "X-Request-Id", "Proxy-Status", "Date", "X-Forwarded-For", "X-Forwarded-Host"}

// sinkOf is a service that remembers a request and answers as a test says.
type sinkOf struct {
	*httptest.Server
	seen chan exchanged
}

func newSink(t *testing.T, answer http.HandlerFunc) *sinkOf {
	t.Helper()
	s := &sinkOf{seen: make(chan exchanged, 100)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := exchanged{Seen: r.Method + " " + r.RequestURI, SeenHeader: r.Header.Clone(), SeenContentLength: r.ContentLength}
		if r.Header.Get("X-Early") == "" {
			body, _ := io.ReadAll(r.Body) // what was cut off is told by its length
			e.SeenBody, e.SeenTrailer = string(body), r.Trailer
		}
		s.seen <- e
		answer(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// exchange sends raw bytes and reads the answers to one request.
func (s *sinkOf) exchange(t *testing.T, addr, raw string) exchanged {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(raw, " ")
	e := readExchange(t, bufio.NewReader(c), method)
	select {
	case at := <-s.seen:
		e.Seen, e.SeenBody, e.SeenHeader, e.SeenTrailer, e.SeenContentLength = at.Seen, at.SeenBody, at.SeenHeader, at.SeenTrailer, at.SeenContentLength
	default:
	}
	for _, name := range ours {
		delete(e.Header, name)
		delete(e.SeenHeader, name)
	}
	return e
}

func readExchange(t *testing.T, r *bufio.Reader, method string) (e exchanged) {
	t.Helper()
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			e.Informational = append(e.Informational, fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Link")))
			continue
		}
		body, err := io.ReadAll(resp.Body)
		e.Status, e.Header, e.Body, e.Cut, e.Trailer = resp.StatusCode, resp.Header, string(body), err != nil, resp.Trailer
		return e
	}
}

func answerWith(header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			w.Header().Add(name, value)
		}
		fmt.Fprint(w, "ok")
	}
}

// behaviours are requests and answers of which Forebay makes what the standard
// library's proxy does.
var behaviours = []struct {
	name, send string
	answer     http.HandlerFunc
}{
	{"get", "GET /v1/orders?a=1&b=%20 HTTP/1.1\r\nHost: h\r\nAccept: x\r\nX-Y: 1\r\nX-Y: 2\r\n\r\n", answerWith("X-A: 1", "X-A: 2", "Content-Type: text/plain")},
	{"head", "HEAD /v1/orders HTTP/1.1\r\nHost: h\r\n\r\n", answerWith("Content-Length: 2")},
	{"post", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", answerWith("Content-Type: text/plain")},
	{"post nothing", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", answerWith("Content-Type: text/plain")},
	{"chunks", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", answerWith("Content-Type: text/plain")},
	{"escaped path", "GET /a%20b/c%3bd?q=%3D HTTP/1.1\r\nHost: h\r\n\r\n", answerWith("Content-Type: text/plain")},
	{"absolute form", "GET http://other/x HTTP/1.1\r\nHost: h\r\n\r\n", answerWith("Content-Type: text/plain")},
	{"credentials", "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\nCookie: a=b\r\n\r\n", answerWith("Set-Cookie: s=1", "Set-Cookie: t=2")},
	{
		"hop by hop", "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authorization: x\r\n" +
			"Proxy-Connection: x\r\nTe: gzip\r\nX-End: 1\r\n\r\n",
		answerWith("Connection: X-Private", "X-Private: 1", "Keep-Alive: timeout=9", "Proxy-Authenticate: x", "X-End: 1"),
	},
	{"te trailers", "GET / HTTP/1.1\r\nHost: h\r\nTe: trailers\r\nConnection: te\r\n\r\n", answerWith("Content-Type: text/plain")},
	{"no user agent", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", answerWith("Content-Type: text/plain")},
	{"forged forwarding", "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\nForwarded: for=x\r\n\r\n", answerWith("Content-Type: text/plain")},
	{"no content", "DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }},
	{"not modified", "GET /x HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"1\"\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.WriteHeader(304)
	}},
	{"redirect", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://elsewhere.internal/")
		w.WriteHeader(302)
	}},
	{"fails", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }},
	{"large answer", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("0123456789", 200_000)) }},
	{"large answer of known length", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2000000")
		io.WriteString(w, strings.Repeat("0123456789", 200_000))
	}},
	{"early hints", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Set("Link", "</b.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Del("Link")
		fmt.Fprint(w, "ok")
	}},
	{"trailer", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-More")
		fmt.Fprint(w, "ok")
		w.Header().Set("X-Sum", "1")
		w.Header().Set("X-More", "2")
	}},
	{"trailer after nothing", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "1")
	}},
	{"cut off answer", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, strings.Repeat("x", 100_000))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}},
	{"cut off answer of known length", "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "200000")
		io.WriteString(w, strings.Repeat("x", 100_000))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}},
	{"HTTP/1.0", "GET /x HTTP/1.0\r\nHost: h\r\n\r\n", answerWith("Content-Type: text/plain")},
}

func TestProxyAgreesWithTheReference(t *testing.T) {
	for _, tt := range behaviours {
		t.Run(tt.name, func(t *testing.T) {
			sink := newSink(t, tt.answer)
			addr, s, _ := newProxy(t, sink.URL)
			want := sink.exchange(t, newReference(t, sink.URL), tt.send)
			got := sink.exchange(t, addr, tt.send)
			if want.Status == 0 {
				t.Fatal("the reference did not answer")
			}
			if tt.name == "HTTP/1.0" {
				delete(got.Header, "Connection") // such a connection is not kept
				delete(want.Header, "Connection")
			}
			if want.Cut { // how much came before is chance
				want.Body, got.Body = "", ""
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-reference +ours):\n%s", diff)
			}
			eventually(t, "the turn has ended", func() bool { return s.turns() == 0 })
		})
	}
}

// eventually waits for a condition, and fails if it never comes.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}
