package ingress

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"forebay/policies"
)

// item is one of a list of RFC 9651: a string, with parameters that are
// integers.
type item struct {
	name   string
	params map[string]int
}

// parseItems reads a field as section 4.2 of RFC 9651 does, and no more of it
// than the drafts on limits allow here: lists of strings with integer parameters.
func parseItems(field string) (items []item, err error) {
	fault := func(why, rest string) ([]item, error) { return nil, fmt.Errorf("%s at %q of %q", why, rest, field) }
	for rest := field; ; {
		quoted, ok := strings.CutPrefix(rest, `"`)
		end := strings.IndexByte(quoted, '"')
		if !ok || end < 0 || strings.ContainsFunc(quoted[:end], func(r rune) bool { return r < ' ' || r > '~' || r == '\\' }) {
			return fault("no string", rest)
		}
		it := item{quoted[:end], map[string]int{}}
		rest = quoted[end+1:]
		for strings.HasPrefix(rest, ";") {
			key, after, _ := strings.Cut(strings.TrimLeft(rest[1:], " "), "=")
			digits := len(after) - len(strings.TrimLeft(after, "0123456789"))
			n, err := strconv.Atoi(after[:digits])
			if err != nil || digits > 15 || key == "" || strings.ToLower(key) != key {
				return fault("no integer parameter", rest)
			}
			it.params[key], rest = n, after[digits:]
		}
		items = append(items, it)
		if rest == "" {
			return items, nil
		}
		if rest = strings.TrimLeft(rest, " \t"); !strings.HasPrefix(rest, ",") {
			return fault("no comma", rest)
		}
		if rest = strings.TrimLeft(rest[1:], " \t"); rest == "" {
			return fault("trailing comma", rest)
		}
	}
}

// told returns what an answer says of limits, which has to be well-formed.
func told(t interface{ Fatalf(string, ...any) }, resp *http.Response) (policy, left []item) {
	var all [2][]item
	for i, name := range []string{"RateLimit-Policy", "RateLimit"} {
		values := resp.Header.Values(name)
		if len(values) != 1 {
			t.Fatalf("%d fields %s on a %d, want one", len(values), name, resp.StatusCode)
		}
		items, err := parseItems(values[0])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[i] = items
	}
	return all[0], all[1]
}

func TestRateLimitFields(t *testing.T) {
	tests := []struct {
		name, limits, names string
		policy, left        string // after one request; empty: no field
	}{
		{"one", "  - { name: a, rate: 5/s, burst: 20 }\n", "a", `"a";q=20;w=4`, `"a";r=19;t=4`},
		{"the last token", "  - { name: a, rate: 0.5/s, burst: 1 }\n", "a", `"a";q=1;w=2`, `"a";r=0;t=2`},
		{"fractions are rounded up", "  - { name: a, rate: 3/s, burst: 10 }\n", "a", `"a";q=10;w=4`, `"a";r=9;t=3`},
		{"the most restrictive first", "  - { name: a, rate: 100/s, burst: 2 }\n  - { name: b, rate: 5/s, burst: 20 }\n", "a, b", `"b";q=20;w=4, "a";q=2;w=1`, `"a";r=1;t=1, "b";r=19;t=4`},
		{"years", "  - { name: a, rate: 1/h, burst: 2000000000 }\n", "a", `"a";q=2000000000;w=7200000000000`, `"a";r=1999999999;t=7199999996400`},
		{"what is unlimited is not told", "  - { name: a, rate: unlimited }\n  - { name: b, rate: 5/s }\n", "a, b", `"b";q=5;w=1`, `"b";r=4;t=1`},
		{"nothing to tell", "  - { name: a, rate: unlimited }\n", "a", "", ""},
		{"what is unlimited, beside a refusal", "  - { name: a, rate: unlimited }\n  - { name: b, rate: 0 }\n", "a, b", `"b";q=0`, `"b";r=0`},
		{"nothing is allowed", "  - { name: a, rate: 0 }\n  - { name: b, rate: 5/s }\n", "a, b", `"a";q=0, "b";q=5;w=1`, `"a";r=0, "b";r=5`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				resp := limitedFixture(t, tt.limits, tt.names, "").do("POST", "/v1/orders", "{}")
				want := http.Header{}
				if tt.policy != "" {
					told(t, resp)
					want = http.Header{"Ratelimit-Policy": {tt.policy}, "Ratelimit": {tt.left}}
				}
				got := http.Header{}
				for name, values := range resp.Header {
					if strings.HasPrefix(name, "Ratelimit") {
						got[name] = values
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("fields of a %d (-want +got):\n%s", resp.StatusCode, diff)
				}
			})
		})
	}
}

// Where no retry helps, none is suggested.
func TestRateZeroHasNoRetryAfter(t *testing.T) {
	f := limitedFixture(t, "  - { name: a, rate: 0 }\n  - { name: b, rate: 1/h, burst: 1 }\n", "a, b", "")
	resp := f.do("POST", "/v1/orders", "{}")
	if got := decode[problemDocument](t, resp); resp.StatusCode != 429 || got.RetryAfter != 0 || resp.Header["Retry-After"] != nil {
		t.Errorf("status %d, problem %+v, header %v; want a 429 without Retry-After", resp.StatusCode, got, resp.Header)
	}
}

func TestRateLimitFieldsByStatus(t *testing.T) {
	f := limitedFixture(t, "  - { name: a, rate: 50/s }\n", "a", "")
	for status, want := range map[int]bool{200: true, 202: true, 300: false, 307: false, 399: false, 404: true, 503: true} {
		w := &noWriter{header: http.Header{}}
		x := begin(w, request(t.Context(), "POST", "/v1/orders", "{}"), false)
		if err := f.limit(x, &f.cfg.Policy().Routes[0]); err != nil {
			t.Fatal(err)
		}
		x.write(status, nil)
		if got := w.header["Ratelimit"] != nil && w.header["Ratelimit-Policy"] != nil; got != want {
			t.Errorf("a %d has the fields: %t, want %t", status, got, want)
		}
	}
	f = limitedFixture(t, "  - { name: a, rate: 50/s }\n", "a", ", split: lines")
	told(t, f.do("POST", "/v1/orders", "1\n2\n"))
	policy, _ := told(t, f.do("POST", "/v1/orders", "1\n2\n", "Prefer: return=representation"))
	if policy[0].name != "a" {
		t.Errorf("policy %v, want a", policy)
	}
	if resp := f.do("POST", "/v1/registrations", ""); resp.Header["Ratelimit"] != nil {
		t.Errorf("a route without limits tells %v", resp.Header)
	}
}

// A batch is one request, however many messages it has.
func TestLimitCountsRequests(t *testing.T) {
	f := limitedFixture(t, "  - { name: a, rate: 1/h, burst: 2 }\n", "a", ", split: lines")
	for i, want := range []int{202, 202, 429} {
		if resp := f.do("POST", "/v1/orders", strings.Repeat("x\n", 100)); resp.StatusCode != want {
			t.Errorf("batch %d: status %d, want %d", i, resp.StatusCode, want)
		}
	}
}

// Whoever waits for Retry-After is served; it is never before a t. What r says is
// left can be used at once, and again after t.
func TestRetryAfterIsTrue(t *testing.T) {
	whole := t
	rapid.Check(t, func(t *rapid.T) {
		var limits strings.Builder
		var names []string
		for i := range rapid.IntRange(1, 3).Draw(t, "limits") {
			names = append(names, fmt.Sprint("l", i))
			fmt.Fprintf(&limits, "  - { name: l%d, rate: %s/s, burst: %d, key: [client_ip] }\n", i,
				strconv.FormatFloat(rapid.Float64Range(0.01, 50).Draw(t, "rate"), 'f', 3, 64), rapid.IntRange(1, 30).Draw(t, "burst"))
		}
		set := parsePolicy(whole, limited(limits.String(), strings.Join(names, ", "), ""))
		h := New(Config{Buffer: noBuffer{}, Policy: func() *policies.Set { return set }}, slog.New(slog.DiscardHandler), nil)
		now := time.Now()
		ask := func() *http.Response {
			w := httptest.NewRecorder()
			x := begin(w, request(whole.Context(), "POST", "/v1/orders", "{}"), false)
			x.start = now
			h.serveRoute(x, "/v1/orders")
			return w.Result()
		}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(t, "step")))
			resp := ask()
			_, items := told(t, resp)
			if resp.StatusCode == http.StatusTooManyRequests {
				wait, err := strconv.Atoi(resp.Header.Get("Retry-After"))
				for _, it := range items {
					if err != nil || wait < it.params["t"] {
						t.Fatalf("Retry-After %q is before t of %v", resp.Header.Get("Retry-After"), items)
					}
				}
				if now = now.Add(time.Duration(wait) * time.Second); ask().StatusCode != 202 {
					t.Fatalf("refused after Retry-After: %d", wait)
				}
				continue
			}
			least := items[0]
			for i := range least.params["r"] {
				if ask().StatusCode != 202 {
					t.Fatalf("request %d is refused where %v", i, items)
				}
			}
			if ask().StatusCode != 429 {
				t.Fatalf("a request more than %v passes", items)
			}
			if now = now.Add(time.Duration(least.params["t"]) * time.Second); len(names) > 1 {
				continue
			}
			for i := range max(1, least.params["r"]) {
				if ask().StatusCode != 202 {
					t.Fatalf("request %d is refused after t of %v", i, items)
				}
			}
		}
	})
}

func TestRefillIsAnIntegerOfRFC9651(t *testing.T) {
	if got := refill(math.MaxInt32, 1e-12); got != maxStructured {
		t.Errorf("refill = %d, want the largest integer there is", got)
	}
}
