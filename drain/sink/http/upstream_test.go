package http_test

import (
	"fmt"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"forebay/drain"
)

// Live requests go the same way, and the sink's body is theirs.
func TestUpstream(t *testing.T) {
	var r recorder
	srv := httptest.NewServer(&r)
	defer srv.Close()
	s := newSink(t, policy(t, srv.URL))
	req := httptest.NewRequest("GET", "http://shop.example.com/v1/orders?x=1", nil)
	req.RequestURI = ""
	before := req.URL.String()
	resp, err := s.Upstream().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := r.last(t)
	if got.Target != "/v1/orders?x=1" || got.Host != strings.TrimPrefix(srv.URL, "http://") {
		t.Errorf("live request arrived as %s at %s", got.Target, got.Host)
	}
	if req.URL.String() != before || req.Host != "shop.example.com" {
		t.Errorf("RoundTrip changed the request: %s %s", req.Host, req.URL)
	}
}

// The URL with the least in flight is next, in the place of one that cannot be
// reached another is tried, one that fails rests, and only
// when all rest does a 503 pause the sink.
func TestUpstreamBalance(t *testing.T) {
	var mu sync.Mutex
	status := map[string]int{} // by host
	count := map[string]int{}  // by host
	handler := nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		mu.Lock()
		defer mu.Unlock()
		count[r.Host]++
		if s := status[r.Host]; s != 0 {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(s)
		}
	})
	a, b := httptest.NewServer(handler), httptest.NewServer(handler)
	defer a.Close()
	defer b.Close()
	hostA, hostB := strings.TrimPrefix(a.URL, "http://"), strings.TrimPrefix(b.URL, "http://")
	gone := httptest.NewServer(nil)
	gone.Close()
	s := newSink(t, policy(t, a.URL, b.URL, gone.URL))
	outcomes := func(n int) (failed int, pause time.Duration) {
		for range n {
			got := deliver(t, s, order())
			if got.Class != drain.Success {
				failed++
			}
			pause = max(pause, got.RetryAfter)
		}
		return failed, pause
	}
	if failed, pause := outcomes(30); failed != 0 || pause != 0 {
		t.Errorf("%d of 30 failed with one URL of three unreachable, pause %v; want none of both", failed, pause)
	}
	mu.Lock()
	if diff := count[hostA] - count[hostB]; diff < -2 || diff > 2 {
		t.Errorf("requests are spread %v", count)
	}
	status[hostA] = 503
	mu.Unlock()
	if failed, pause := outcomes(20); failed > 2 || pause != 0 {
		t.Errorf("%d of 20 failed with one URL answering 503, pause %v; want at most 2 and none", failed, pause)
	}
}

func TestUpstreamAllRest(t *testing.T) {
	srv := func(retryAfter int) *httptest.Server {
		return httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) {
			w.Header().Set("Retry-After", fmt.Sprint(retryAfter))
			w.WriteHeader(503)
		}))
	}
	a, b := srv(60), srv(600)
	defer a.Close()
	defer b.Close()
	s := newSink(t, policy(t, a.URL, b.URL))
	first, second := deliver(t, s, order()), deliver(t, s, order())
	if first.RetryAfter != 0 {
		t.Errorf("the first of two URLs pauses the sink for %v", first.RetryAfter)
	}
	if got := second.RetryAfter; got > time.Minute || got < 50*time.Second {
		t.Errorf("both URLs pause the sink for %v, want what is left of 60 s", got)
	}
}

// A URL that asks for a year rests for as long as drains honour; the sink, when
// no URL is left, until the first of them has rested.
func TestUpstreamRestIsLimited(t *testing.T) {
	year := nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) {
		w.Header().Set("Retry-After", "31536000")
		w.WriteHeader(503)
	})
	a, b := httptest.NewServer(year), httptest.NewServer(year)
	defer a.Close()
	defer b.Close()
	s := newSink(t, policy(t, a.URL, b.URL))
	s.LimitRest(5 * time.Minute)
	if got := deliver(t, s, order()).RetryAfter; got != 0 {
		t.Errorf("the first of two URLs pauses the sink for %v", got)
	}
	for _, limit := range []time.Duration{5 * time.Minute, 2 * time.Minute} { // the second shortens what rests
		s.LimitRest(limit)
		if got := deliver(t, s, order()).RetryAfter; got > limit || got < limit-time.Minute {
			t.Errorf("both URLs pause the sink for %v, want what is left of %v", got, limit)
		}
	}
}
