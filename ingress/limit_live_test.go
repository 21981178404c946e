package ingress

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A live answer says how its caller stands, beside what the sink says for
// itself; a redirection does not, and who is refused does not reach the sink.
func TestLimitLive(t *testing.T) {
	var asked atomic.Int32
	sink := newSink(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		answerWith(`RateLimit-Policy: "theirs";q=7`, `RateLimit: "theirs";r=6`)(w, r)
	})
	set := parsePolicy(t, "limits: [{ name: ours, rate: 1/h, burst: 3, key: [\"header:X-Customer-Id\"] }]\n"+
		strings.ReplaceAll(livePolicy, "mode: pass", "limits: [ours], mode: pass"))
	addr, _, f := newProxy(t, sink.URL, func(c *Config) { c.Policy = policyOf(set) })
	c, in := dial(t, addr)
	ask := func(path string) exchanged {
		t.Helper()
		write(t, c, "GET %s HTTP/1.1\r\nHost: h\r\nX-Customer-Id: 7\r\n\r\n", path)
		return readExchange(t, in, "GET")
	}
	for i, tt := range []struct {
		path         string
		status       int
		policy, left []string
	}{
		{"/", 200, []string{`"ours";q=3;w=10800`, `"theirs";q=7`}, []string{`"ours";r=2;t=7200`, `"theirs";r=6`}},
		{"/moved", 302, nil, nil},
		{"/", 200, []string{`"ours";q=3;w=10800`, `"theirs";q=7`}, []string{`"ours";r=0;t=3600`, `"theirs";r=6`}},
		{"/", 429, []string{`"ours";q=3;w=10800`}, []string{`"ours";r=0;t=3600`}},
	} {
		e := ask(tt.path)
		if e.Status != tt.status || !cmp.Equal(e.Header["Ratelimit-Policy"], tt.policy) || !cmp.Equal(e.Header["Ratelimit"], tt.left) {
			t.Errorf("request %d: status %d, %q, %q; want %d, %q, %q", i, e.Status, e.Header["Ratelimit-Policy"], e.Header["Ratelimit"], tt.status, tt.policy, tt.left)
		}
	}
	if asked := asked.Load(); asked != 3 {
		t.Errorf("the sink was asked %d times, want the 3 that passed", asked)
	}
	wantDecisions(t, f, "ours", 3, 1, 0)
}
