package http_test

import (
	"bytes"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
	"forebay/drain"
	"forebay/drain/sink/http"
	"forebay/limiter"
	"forebay/policies"
)

func policy(t *testing.T, urls ...string) policies.Sink {
	t.Helper()
	p := policies.Sink{
		Name: "orders",
		HTTP: &policies.HTTPSink{ConnectTimeout: 5 * time.Second, Timeout: 10 * time.Second, Permanent: []int{400, 404, 422}},
		Budget: policies.Budget{
			Limit:       limiter.Limit{Rate: limiter.Unlimited, Burst: 1},
			Concurrency: 8,
		},
	}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		p.HTTP.URLs = append(p.HTTP.URLs, u)
	}
	return p
}

func newSink(t *testing.T, p policies.Sink) *http.Sink {
	t.Helper()
	s, err := http.New(p)
	if err != nil {
		t.Fatalf("New(%+v): %v", p, err)
	}
	t.Cleanup(s.CloseIdleConnections)
	return s
}

func order() drain.Delivery {
	return drain.Delivery{
		ID: "abcdefghijklmnopqrstuvwxyz",
		Delivery: buffer.Delivery{
			Ref:        buffer.Ref{Stream: "orders", Offset: 7},
			AcceptedAt: time.Date(2026, 11, 11, 8, 0, 0, 5e6, time.FixedZone("CST", 8*3600)),
			Message:    buffer.Message{Method: "POST", Target: "/v1/orders?a=1&b=%20", Body: []byte("{\"id\": 1}\r\n\x00\xff")},
		},
	}
}

// fields pairs names and values.
func fields(pairs ...string) []buffer.Field {
	var fs []buffer.Field
	for i := 0; i < len(pairs); i += 2 {
		fs = append(fs, buffer.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return fs
}

func deliver(t *testing.T, s *http.Sink, m drain.Delivery) drain.Outcome {
	t.Helper()
	got := s.Deliver(t.Context(), []drain.Delivery{m})
	if len(got) != 1 {
		t.Fatalf("%d outcomes for one message", len(got))
	}
	return got[0]
}

// seen is a request as a sink saw it.
type seen struct {
	Method, Target, Host string
	Header               nethttp.Header
	Body                 []byte
}

type recorder struct {
	mu   sync.Mutex
	seen []seen // guarded by mu
}

func (r *recorder) ServeHTTP(_ nethttp.ResponseWriter, req *nethttp.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, seen{req.Method, req.RequestURI, req.Host, req.Header, body})
}

func (r *recorder) all() []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

func (r *recorder) last(t *testing.T) seen {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) == 0 {
		t.Fatal("the sink saw no request")
	}
	return r.seen[len(r.seen)-1]
}

func TestDeliverFields(t *testing.T) {
	const derived = "00-71c480df93d6ae2f1efad1447c66c952-5e316218cf51fc8d-00"
	ours := func(more ...string) nethttp.Header {
		h := nethttp.Header{
			"Forebay-Id":          {"abcdefghijklmnopqrstuvwxyz"},
			"Forebay-Attempt":     {"1"},
			"Forebay-Accepted-At": {"2026-11-11T00:00:00.005Z"},
			"Forebay-Stream":      {"orders"},
			"Traceparent":         {derived},
			"Idempotency-Key":     {"abcdefghijklmnopqrstuvwxyz"},
			"User-Agent":          {"forebay"},
			"Content-Length":      {"13"},
		}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = []string{more[i+1]}
		}
		return h
	}
	tests := []struct {
		name   string
		change func(*drain.Delivery)
		want   nethttp.Header
	}{
		{"nothing but ours", func(*drain.Delivery) {}, ours()},
		{"a third attempt", func(m *drain.Delivery) { m.Tries.Attempts = 2 }, ours("Forebay-Attempt", "3")},
		{
			"the caller's own key, trace and agent", func(m *drain.Delivery) {
				m.Header = fields("Idempotency-Key", "k-1", "Traceparent", "00-1-2-01", "Tracestate", "a=b", "User-Agent", "shop/1")
			},
			ours("Idempotency-Key", "k-1", "Traceparent", "00-1-2-01", "Tracestate", "a=b", "User-Agent", "shop/1"),
		},
		{
			"end-to-end fields as sent", func(m *drain.Delivery) {
				m.Header = fields("Content-Type", "application/json", "X-Forwarded-Host", "shop.example.com", "X-Two", "1", "X-Two", "2")
			},
			func() nethttp.Header {
				h := ours("Content-Type", "application/json", "X-Forwarded-Host", "shop.example.com")
				h["X-Two"] = []string{"1", "2"}
				return h
			}(),
		},
		{
			"the place in a batch", func(m *drain.Delivery) {
				m.Header, m.Batch, m.Index = fields("Content-Type", "application/json", "Via", "1.1 forebay"), `"batch 7"`, 12
			},
			ours("Content-Type", "application/json", "Via", "1.1 forebay", "Forebay-Batch", `"batch 7"; index=12`),
		},
		{
			"no field of a connection, none of ours from a caller", func(m *drain.Delivery) {
				m.Header = fields("Connection", "close", "Transfer-Encoding", "chunked", "Content-Length", "99", "Host", "evil", "Upgrade", "h2c", "Forebay-Id", "forged", "Forebay-Attempt", "9", "Forebay-Stream", "forged", "Forebay-Accepted-At", "forged")
			},
			ours(),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r recorder
			srv := httptest.NewServer(&r)
			defer srv.Close()
			m := order()
			tt.change(&m)
			if got := deliver(t, newSink(t, policy(t, srv.URL)), m); !cmp.Equal(got, drain.Outcome{Class: drain.Success, Status: 200}) {
				t.Fatalf("outcome = %+v", got)
			}
			got := r.last(t)
			if diff := cmp.Diff(tt.want, got.Header); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if !bytes.Equal(got.Body, m.Body) {
				t.Errorf("body = %q, want %q", got.Body, m.Body)
			}
			if want := strings.TrimPrefix(srv.URL, "http://"); got.Host != want {
				t.Errorf("Host = %q, want the sink's own %q", got.Host, want)
			}
		})
	}
}

func TestDeliverTarget(t *testing.T) {
	tests := []struct{ name, path, target, want string }{
		{"no path keeps the target", "", "/v1/a%2Fb?x=1&y=%20", "/v1/a%2Fb?x=1&y=%20"},
		{"a slash is no path", "/", "/v1/orders", "/v1/orders"},
		{"a path replaces the path", "/send", "/v1/orders?x=1", "/send?x=1"},
		{"a path with an encoded slash", "/a%2Fb", "/v1/orders", "/a%2Fb"},
		{"an empty query", "", "/v1/orders?", "/v1/orders?"},
		{"two slashes are a path, not a host", "", "//evil.example.com/x", "//evil.example.com/x"},
		{"an absolute target goes to the sink", "", "http://evil.example.com/x", "/x"},
		{"no target", "", "", "/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r recorder
			srv := httptest.NewServer(&r)
			defer srv.Close()
			m := order()
			m.Target = tt.target
			if got := deliver(t, newSink(t, policy(t, srv.URL+tt.path)), m); got.Class != drain.Success {
				t.Fatalf("outcome = %+v", got)
			}
			if got := r.last(t).Target; got != tt.want {
				t.Errorf("target %q at a sink with path %q arrived as %q, want %q", tt.target, tt.path, got, tt.want)
			}
		})
	}
}

func TestDeliverMethods(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "POST", "PURGE"} {
		for _, body := range []string{"", "x"} {
			var r recorder
			srv := httptest.NewServer(&r)
			m := order()
			m.Method, m.Body = method, []byte(body)
			if got := deliver(t, newSink(t, policy(t, srv.URL)), m); got.Class != drain.Success {
				t.Errorf("%s with body %q: outcome = %+v", method, body, got)
			} else if got := r.last(t); got.Method != method || string(got.Body) != body {
				t.Errorf("%s with body %q arrived as %s with %q", method, body, got.Method, got.Body)
			}
			srv.Close()
		}
	}
}
