package main_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What callers say of themselves in fields that are ours, or a trusted proxy's, reaches
// no sink, on either way to it; where a sink points to is looked up by nobody.
func TestSpoofedFields(t *testing.T) {
	t.Parallel()
	shop := newSink(t, func([]arrival, arrival) answer {
		return answer{status: http.StatusFound, header: http.Header{"Location": {"/elsewhere"}}}
	})
	srv := newSite(t, orderPolicy(shop.url, "10/s")+"  - { name: read, match: { path: /live }, mode: pass, sink: shop }\n").start()
	spoofed := map[string]string{}
	for _, name := range []string{
		"Forebay-Id", "Forebay-Attempt", "Forebay-Accepted-At", "Forebay-Stream", "Forebay-Batch", "Forebay-Cancel-Key", "Forebay_Id",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Anything", "X_Forwarded_For", "X-Real-Ip", "X_real_ip", "Forwarded",
	} {
		spoofed[name] = "spoofed"
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	for path, want := range map[string]int{"/v1/orders": http.StatusAccepted, "/live": http.StatusFound} {
		req, err := http.NewRequest(http.MethodPost, srv.public+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range spoofed {
			req.Header[name] = []string{value}
		}
		resp, err := tr.RoundTrip(req) // which does not follow either
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("POST %s = %d, want %d", path, resp.StatusCode, want)
		}
	}
	until(t, 20*time.Second, "both ways are gone, one of them twice", func() bool { return shop.count() >= 3 })
	for _, a := range shop.arrivals() {
		if a.Target != "/v1/orders" && a.Target != "/live" {
			t.Errorf("%s was asked for: a redirect was followed", a.Target)
		}
		for name, values := range a.Header {
			if strings.Contains(strings.Join(values, " "), "spoofed") {
				t.Errorf("%s: %s: %v", a.Target, name, values)
			}
		}
	}
}

// A page of another site that a browser on this machine shows does nothing here: neither
// under a name that points to loopback, nor by sending forms.
func TestForeignPages(t *testing.T) {
	t.Parallel()
	srv := newSite(t, orderPolicy("http://127.0.0.1:1", "10/s")).start()
	for name, tt := range map[string]struct {
		method, path, host string
		header             http.Header
		want               int
	}{
		"our own":        {"POST", "/api/v1/reload", "", nil, 200},
		"another name":   {"GET", "/api/v1/streams", "rebound.example", nil, 403},
		"metrics":        {"GET", "/metrics", "rebound.example:9080", nil, 403},
		"profiles":       {"GET", "/debug/pprof/", "rebound.example", nil, 403},
		"another origin": {"POST", "/api/v1/reload", "", http.Header{"Origin": {"http://evil.example"}}, 403},
		"another site":   {"POST", "/api/v1/reload", "", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		"no origin":      {"POST", "/api/v1/reload", "", http.Header{"Origin": {"null"}}, 403},
	} {
		req, err := http.NewRequest(tt.method, srv.admin+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tt.host
		maps.Copy(req.Header, tt.header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s: %s %s = %d, want %d", name, tt.method, tt.path, resp.StatusCode, tt.want)
		}
	}
}
