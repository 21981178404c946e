package ingress

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/policies"
)

// limited is testPolicy with limits on the route create-order; more follows the
// names in it.
func limited(limits, names, more string) string {
	return "limits:\n" + limits + strings.Replace(testPolicy, "stream: orders, max_body", "stream: orders, limits: ["+names+"]"+more+", max_body", 1)
}

func limitedFixture(t testing.TB, limits, names, more string) *fixture {
	t.Helper()
	set := parsePolicy(t, limited(limits, names, more))
	return newFixture(t, func(c *Config) {
		c.Policy = func() *policies.Set { return set }
		c.TrustedProxies = trusting("10.0.0.0/8")
	})
}

// wantDecisions checks what a limit has counted: allow, deny, shadow_deny.
func wantDecisions(t *testing.T, f *fixture, limit string, want ...uint64) {
	t.Helper()
	for _, s := range f.Limits() {
		if got := []uint64{s.Allowed, s.Denied, s.ShadowDenied}; s.Name == limit && !cmp.Equal(want, got) {
			t.Errorf("limit %s: allow, deny, shadow_deny = %v, want %v", limit, got, want)
		}
	}
}

func TestLimitRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := limitedFixture(t, "  - { name: everyone, rate: 20000/s, burst: 40000 }\n  - { name: per-customer, rate: 0.1/s, burst: 2, key: [\"header:X-Customer-Id\"] }\n", "everyone, per-customer", "")
		post := func() *http.Response {
			return f.do("POST", "/v1/orders", "{}", "X-Customer-Id: c-7", "X-Request-Id: id-7")
		}
		for range 2 {
			if resp := post(); resp.StatusCode != 202 {
				t.Fatalf("status %d within the limit, want 202", resp.StatusCode)
			}
		}
		resp := post()
		got := decode[problemDocument](t, resp)
		wantJitter(t, 10, got.RetryAfter)
		want := problemDocument{
			Type: "https://iana.org/assignments/http-problem-types#quota-exceeded", Title: "Quota exceeded", Status: 429,
			Detail: "this caller has used up what is allowed by: per-customer", Instance: "/v1/orders", RequestID: "id-7",
			RetryAfter: got.RetryAfter, Violated: []string{"per-customer"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("problem (-want +got):\n%s", diff)
		}
		for name, want := range map[string]string{
			"Retry-After": strconv.Itoa(got.RetryAfter), "Cache-Control": "no-store", "Content-Type": "application/problem+json", "Connection": "",
			"RateLimit-Policy": `"per-customer";q=2;w=20, "everyone";q=40000;w=2`,
			"RateLimit":        `"per-customer";r=0;t=10, "everyone";r=39998`,
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if other := f.do("POST", "/v1/orders", "{}", "X-Customer-Id: c-8"); other.StatusCode != 202 {
			t.Errorf("another customer: status %d, want 202", other.StatusCode)
		}
		time.Sleep(time.Duration(got.RetryAfter) * time.Second)
		if resp := post(); resp.StatusCode != 202 {
			t.Errorf("status %d after Retry-After, want 202", resp.StatusCode)
		}
		wantCount(t, f, "create-order", "limited", "429", 1)
		wantDecisions(t, f, "everyone", 4, 0, 0)
		wantDecisions(t, f, "per-customer", 4, 1, 0)
		if len(f.buf.messages) != 4 {
			t.Errorf("%d messages stored, want the 4 that passed", len(f.buf.messages))
		}
	})
}

// A request that one limit refuses has cost the others nothing.
func TestLimitsAllOrNothing(t *testing.T) {
	f := limitedFixture(t, "  - { name: wide, rate: 1/h, burst: 3 }\n  - { name: narrow, rate: 1/h, burst: 1, key: [\"header:X-Customer-Id\"] }\n"+
		"  - { name: of-body, rate: 1/h, burst: 1, key: [\"json:/shop\"] }\n", "wide, of-body, narrow", "")
	for i, tt := range []struct {
		customer, shop string
		want           int
		violated       []string
	}{
		{"a", "1", 202, nil},
		{"a", "2", 429, []string{"narrow"}},
		{"b", "1", 429, []string{"of-body"}},
		{"b", "2", 202, nil},
		{"c", "3", 202, nil},
		{"d", "4", 429, []string{"wide"}},
		{"a", "4", 429, []string{"wide", "narrow"}},
	} {
		resp := f.do("POST", "/v1/orders", `{"shop":"`+tt.shop+`"}`, "X-Customer-Id: "+tt.customer)
		if resp.StatusCode != tt.want {
			t.Fatalf("request %d: status %d, want %d", i, resp.StatusCode, tt.want)
		}
		if tt.want == 429 {
			if got := decode[problemDocument](t, resp).Violated; !cmp.Equal(got, tt.violated) {
				t.Errorf("request %d violates %q, want %q", i, got, tt.violated)
			}
		}
	}
	wantDecisions(t, f, "wide", 3, 2, 0)
	wantDecisions(t, f, "narrow", 3, 2, 0)
	wantDecisions(t, f, "of-body", 3, 1, 0)
}

// TestLimitKeys sends two requests and says whether they come from one caller.
func TestLimitKeys(t *testing.T) {
	type sent struct {
		peer, principal, body string
		header                []string
	}
	tests := []struct {
		name, key string
		a, b      sent
		same      bool
	}{
		{"one bucket for all", "", sent{peer: "192.0.2.1:1"}, sent{peer: "192.0.2.2:1"}, true},
		{"addresses", ", key: [client_ip]", sent{peer: "192.0.2.1:1"}, sent{peer: "192.0.2.2:1"}, false},
		{"ports", ", key: [client_ip]", sent{peer: "192.0.2.1:1"}, sent{peer: "192.0.2.1:2"}, true},
		{"one network of IPv6", ", key: [client_ip]", sent{peer: "[2001:db8::1]:1"}, sent{peer: "[2001:db8::2:1]:1"}, true},
		{"two networks of IPv6", ", key: [client_ip]", sent{peer: "[2001:db8::1]:1"}, sent{peer: "[2001:db8:0:1::1]:1"}, false},
		{"a longer prefix", ", key: [client_ip], ipv6_prefix: 128", sent{peer: "[2001:db8::1]:1"}, sent{peer: "[2001:db8::2]:1"}, false},
		{
			"behind a proxy", ", key: [client_ip]",
			sent{peer: "10.0.0.1:1", header: []string{"X-Forwarded-For: 192.0.2.1"}},
			sent{peer: "10.0.0.1:1", header: []string{"X-Forwarded-For: 192.0.2.2"}},
			false,
		},
		{
			"a spoofer", ", key: [client_ip]",
			sent{peer: "192.0.2.1:1", header: []string{"X-Forwarded-For: 192.0.2.8"}},
			sent{peer: "192.0.2.1:1", header: []string{"X-Forwarded-For: 192.0.2.9"}},
			true,
		},
		{"principals", ", key: [principal]", sent{principal: "shop"}, sent{principal: "app"}, false},
		{"a principal moves", ", key: [principal]", sent{principal: "shop", peer: "192.0.2.1:1"}, sent{principal: "shop", peer: "192.0.2.2:1"}, true},
		{"no principal: by address", ", key: [principal]", sent{peer: "192.0.2.1:1"}, sent{peer: "192.0.2.2:1"}, false},
		{"fields", `, key: ["header:X-Customer-Id"]`, sent{header: []string{"X-Customer-Id: 1"}}, sent{header: []string{"X-Customer-Id: 2"}}, false},
		{"field missing or empty", `, key: ["header:X-Customer-Id"]`, sent{}, sent{header: []string{"X-Customer-Id: "}}, true},
		{"a list in one line or two", `, key: ["header:X-A"]`, sent{header: []string{"X-A: 1", "X-A: 2"}}, sent{header: []string{"X-A: 1, 2"}}, true},
		{"tuples", `, key: ["header:X-A", "header:X-B"]`, sent{header: []string{"X-A: ab", "X-B: c"}}, sent{header: []string{"X-A: a", "X-B: bc"}}, false},
		{"bodies", `, key: ["json:/customer_id"]`, sent{body: `{"customer_id":1}`}, sent{body: `{"customer_id":2}`}, false},
		{"a number and its text", `, key: ["json:/customer_id"]`, sent{body: `{"customer_id":1}`}, sent{body: `{ "customer_id": "1" }`}, true},
		{"no such place, and no JSON", `, key: ["json:/customer_id"]`, sent{body: `{}`}, sent{body: `hello`}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := limitedFixture(t, "  - { name: l, rate: 1/h, burst: 1"+tt.key+" }\n", "l", "")
			set := f.cfg.Policy()
			route := &set.Routes[0]
			passes := func(s sent) bool {
				r := request(t.Context(), "POST", "/v1/orders", s.body, s.header...)
				if s.peer != "" {
					r.RemoteAddr = s.peer
				}
				x := begin(&noWriter{header: http.Header{}}, r, false)
				x.principal = s.principal
				if err := f.limit(x, route); err != nil {
					return false
				}
				return f.limitBody(x, []byte(s.body)) == nil
			}
			if !passes(tt.a) {
				t.Fatal("the first request of all is refused")
			}
			if passed := passes(tt.b); passed == tt.same {
				t.Errorf("the second request passes: %t; they come from one caller: %t", passed, tt.same)
			}
		})
	}
}

func TestLimitShadow(t *testing.T) {
	f := limitedFixture(t, "  - { name: wide, rate: 1/h, burst: 2 }\n  - { name: narrow, rate: 1/h, burst: 1, key: [\"header:X-Customer-Id\"] }\n"+
		"  - { name: of-body, rate: 1/h, burst: 1, key: [\"json:/shop\"] }\n", "wide, narrow, of-body", ", enforcement: shadow")
	for _, customer := range []string{"a", "a", "b", "c"} {
		resp := f.do("POST", "/v1/orders", `{"shop":"`+customer+`"}`, "X-Customer-Id: "+customer)
		if resp.StatusCode != 202 || resp.Header["Ratelimit"] != nil || resp.Header["Ratelimit-Policy"] != nil {
			t.Errorf("status %d and header %v, want 202 that tells nothing of limits", resp.StatusCode, resp.Header)
		}
	}
	// As if enforced: a's second request is no cost to wide, so that b has its last token.
	wantDecisions(t, f, "wide", 2, 0, 1)
	wantDecisions(t, f, "narrow", 2, 0, 1)
	wantDecisions(t, f, "of-body", 2, 0, 0)
	wantCount(t, f, "create-order", "limited", "429", 0)
}

// unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (b unread) Read([]byte) (int, error) {
	b.t.Error("the body of a refused request is read")
	return 0, errors.New("not to be read")
}
func (unread) Close() error { return nil }

func TestLimitBeforeTheBody(t *testing.T) {
	f := limitedFixture(t, "  - { name: l, rate: 1/h, burst: 1 }\n", "l", "")
	f.order()
	r := request(t.Context(), "POST", "/v1/orders", "")
	r.Body, r.ContentLength = unread{t}, 1<<20
	if resp := f.send(r); resp.StatusCode != 429 {
		t.Errorf("status %d, want 429", resp.StatusCode)
	}
}

// A request whose body cannot be taken has passed the limits before it.
func TestLimitCountsBadBodies(t *testing.T) {
	f := limitedFixture(t, "  - { name: l, rate: 1/h, burst: 5 }\n  - { name: of-body, rate: 1/h, burst: 5, key: [\"json:/shop\"] }\n", "l, of-body", "")
	f.do("POST", "/v1/orders", strings.Repeat("x", 64<<10+1))
	wantDecisions(t, f, "l", 1, 0, 0)
	wantDecisions(t, f, "of-body", 0, 0, 0)
}

func TestLimitOverTheWire(t *testing.T) {
	f := limitedFixture(t, "  - { name: l, rate: 1/h, burst: 1 }\n", "l", "")
	f.order()
	c := serve(t, f)
	in := bufio.NewReader(c)
	ask := func(text string) *http.Response {
		t.Helper()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for _, text := range []string{
		"POST /v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
		"POST /v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
		"POST /v1/orders HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	} {
		if resp := ask(text); resp.StatusCode != 429 || resp.Close {
			t.Errorf("%q: status %d, closes %t; want 429 on a connection that stays", text, resp.StatusCode, resp.Close)
		}
	}
	if resp := ask("POST /v1/orders HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n"); resp.StatusCode != 429 {
		t.Errorf("with Expect: 100-continue: status %d, want 429 at once", resp.StatusCode)
	}
}

func TestLimitsReload(t *testing.T) {
	f := limitedFixture(t, "  - { name: l, rate: 1/h, burst: 5, key: [client_ip] }\n  - { name: gone, rate: 1/h }\n", "l, gone", "")
	f.order()
	reload := func(limits, names string) {
		t.Helper()
		set := parsePolicy(t, limited(limits, names, ""))
		f.Apply(set)
		f.cfg.Policy = func() *policies.Set { return set }
	}
	left := func() string {
		t.Helper()
		return f.do("POST", "/v1/orders", "{}").Header.Get("RateLimit")
	}
	reload("  - { name: l, rate: 1/h, burst: 3, key: [client_ip] }\n", "l")
	if got := left(); got != `"l";r=2;t=7200` {
		t.Errorf("after a lower burst: %s, want what it allows less one", got)
	}
	if n, err := testutil.GatherAndCount(f.reg, "forebay_limit_decisions_total", "forebay_limit_tracked_keys"); n != 4 || err != nil {
		t.Errorf("%d series, %v; want 4 of the one limit that is left", n, err)
	}
	reload("  - { name: l, rate: 1/h, burst: 9, key: [client_ip] }\n", "l")
	if got := left(); got != `"l";r=1;t=3600` {
		t.Errorf("after a higher burst: %s, want what was left less one", got)
	}
	reload("  - { name: l, rate: 1/h, burst: 9, key: [\"header:X-A\"] }\n", "l")
	if got := left(); got != `"l";r=8;t=28800` {
		t.Errorf("after another key: %s, want a full bucket less one", got)
	}
	if got := f.Limits()[0].Tracked; got != 1 {
		t.Errorf("%d keys are known after another key, want the new one alone", got)
	}
	wantDecisions(t, f, "l", 4, 0, 0)
}

func TestLimitMetrics(t *testing.T) {
	f := limitedFixture(t, "  - { name: l, rate: 1/h, burst: 1, key: [client_ip], max_keys: 1 }\n", "l", "")
	f.order()
	f.do("POST", "/v1/orders", "{}")
	want := `# HELP forebay_limit_decisions_total Requests by limit: those that passed all limits of their route, and those that this one refused, or would have in shadow.
# TYPE forebay_limit_decisions_total counter
forebay_limit_decisions_total{decision="allow",limit="l"} 1
forebay_limit_decisions_total{decision="deny",limit="l"} 1
forebay_limit_decisions_total{decision="shadow_deny",limit="l"} 0
# HELP forebay_limit_key_evictions_total Full buckets that were forgotten to make room for other keys.
# TYPE forebay_limit_key_evictions_total counter
forebay_limit_key_evictions_total{limit="l"} 0
# HELP forebay_limit_store_errors_total Failures of the store that limits of a cluster are counted in.
# TYPE forebay_limit_store_errors_total counter
forebay_limit_store_errors_total{limit="l"} 0
# HELP forebay_limit_tracked_keys Keys that have a bucket of the limit; at max_keys new ones may have to share.
# TYPE forebay_limit_tracked_keys gauge
forebay_limit_tracked_keys{limit="l"} 1
`
	if err := testutil.GatherAndCompare(f.reg, strings.NewReader(want), "forebay_limit_decisions_total", "forebay_limit_tracked_keys",
		"forebay_limit_key_evictions_total", "forebay_limit_store_errors_total"); err != nil {
		t.Error(err)
	}
}
