package policies

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const routesPolicy = `
version: 1
streams: [{ name: s }]
routes:
  - { name: exact, match: { path: /v1/orders }, mode: buffer, stream: s }
  - { name: exact-post, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: s }
  - { name: exact-shop, match: { hosts: [shop.example.com], methods: [POST, PUT], path: /v1/orders }, mode: buffer, stream: s }
  - { name: prefix, match: { methods: [GET, POST], path_prefix: /v1/orders }, mode: buffer, stream: s }
  - { name: below, match: { path_prefix: /v1/payments/ }, mode: buffer, stream: s }
  - { name: deeper, match: { methods: [DELETE], path_prefix: /v1/payments/cards/ }, mode: buffer, stream: s }
  - { name: local, match: { hosts: ["::1", localhost] }, mode: buffer, stream: s }
  - { name: logs, match: { methods: [POST], path: /v1/logs }, mode: buffer, stream: s }
  - { name: logs-delete, match: { methods: [DELETE], path_prefix: /v1/logs }, mode: buffer, stream: s }
`

func TestMatch(t *testing.T) {
	set := parse(t, routesPolicy)
	tests := []struct {
		host, method, path string
		want               string
		allow              []string
	}{
		{"x", "GET", "/v1/orders", "exact", nil},
		{"x", "POST", "/v1/orders", "exact-post", nil},
		{"shop.example.com", "POST", "/v1/orders", "exact-shop", nil},
		{"Shop.Example.COM:8443", "PUT", "/v1/orders", "exact-shop", nil},
		{"shop.example.com.", "PUT", "/v1/orders", "exact-shop", nil},
		{"shop.example.com", "DELETE", "/v1/orders", "exact", nil},
		{"x", "GET", "/v1/orders/", "prefix", nil},
		{"x", "GET", "/v1/orders/7/items", "prefix", nil},
		{"x", "GET", "/v1/ordersX", "", nil},
		{"x", "PUT", "/v1/orders/7", "", []string{"GET", "POST"}},
		{"x", "GET", "/v1/payments/7", "below", nil},
		{"x", "GET", "/v1/payments/", "below", nil},
		{"x", "GET", "/v1/payments", "", nil},
		{"x", "DELETE", "/v1/payments/cards/7", "deeper", nil},
		{"x", "GET", "/v1/payments/cards/7", "below", nil},
		{"localhost:80", "GET", "/anything", "local", nil},
		{"[::1]:80", "GET", "/anything", "local", nil},
		{"[::1]", "GET", "/anything", "local", nil},
		{"::1", "GET", "/anything", "local", nil},
		{"x", "GET", "/v1/logs", "", []string{"DELETE", "POST"}},
		{"x", "GET", "/", "", nil},
		{"x", "OPTIONS", "*", "", nil},
		{"x", "GET", "", "", nil},
		{"localhost", "GET", "/.forebay/receipts/x", "", nil},
		{"localhost", "GET", "/.forebay", "", nil},
		{"localhost", "GET", "/.forebayX", "local", nil},
		{strings.Repeat("x", 9000), "GET", "/", "", nil},
	}
	for _, tt := range tests {
		route, allow := set.Match(tt.host, tt.method, tt.path)
		if got := nameOf(route); got != tt.want {
			t.Errorf("Match(%q, %q, %q) = %q, want %q", tt.host, tt.method, tt.path, got, tt.want)
		}
		if diff := cmp.Diff(tt.allow, allow); diff != "" {
			t.Errorf("Match(%q, %q, %q) allow (-want +got):\n%s", tt.host, tt.method, tt.path, diff)
		}
	}
}

const bulkPolicy = `
version: 1
streams: [{ name: s }]
routes:
  - { name: bulk, match: { methods: [POST], path: /_bulk }, mode: buffer, stream: s, split: bulk }
  - { name: below, match: { methods: [PUT], path_prefix: /es/ }, mode: buffer, stream: s, split: bulk }
  - { name: shop, match: { hosts: [shop.example.com] }, mode: buffer, stream: s }
  - { name: audit, match: { methods: [POST], path: /audit/_bulk }, mode: buffer, stream: s }
  - { name: logs, match: { hosts: [logs.example.com], path_prefix: /logs }, mode: buffer, stream: s, split: bulk }
`

// TestMatchBulk: a bulk route has its root and an index as well, unless another route
// has them.
func TestMatchBulk(t *testing.T) {
	set := parse(t, bulkPolicy)
	tests := []struct {
		host, method, path string
		want               string
		asks               BulkRequest
		index              string
	}{
		{"x", "POST", "/_bulk", "bulk", BulkItems, ""},
		{"x", "POST", "/orders/_bulk", "bulk", BulkItems, "orders"},
		{"x", "PUT", "/_bulk", "bulk", BulkItems, ""},
		{"x", "PUT", "/orders/_bulk", "bulk", BulkItems, "orders"},
		{"x", "DELETE", "/_bulk", "", 0, ""},
		{"x", "POST", "/es/_bulk", "below", BulkItems, ""},
		{"x", "POST", "/es/a/_bulk", "below", BulkItems, "a"},
		{"x", "POST", "/es/a/_doc", "", 0, ""},
		{"x", "PUT", "/audit/_bulk", "bulk", BulkItems, "audit"},
		{"x", "GET", "/_bulk", "", 0, ""},
		{"x", "GET", "/", "bulk", BulkHello, ""},
		{"x", "HEAD", "/", "bulk", BulkHello, ""},
		{"x", "DELETE", "/", "", 0, ""},
		{"x", "POST", "/a/b/_bulk", "", 0, ""},
		{"x", "POST", "/orders_bulk", "", 0, ""},
		{"x", "POST", "/audit/_bulk", "audit", BulkNone, ""},
		{"x", "GET", "/_license", "", 0, ""},
		{"x", "GET", "/es", "below", BulkHello, ""},
		{"x", "GET", "/es/", "below", BulkHello, ""},
		{"x", "PUT", "/es/_bulk", "below", BulkItems, ""},
		{"x", "PUT", "/es/orders/_bulk", "below", BulkItems, "orders"},
		{"x", "PUT", "/es/orders_bulk", "below", BulkNone, ""},
		{"x", "PUT", "/es/a/b/_bulk", "below", BulkNone, ""},
		{"x", "PUT", "/es/orders/_doc/7", "below", BulkNone, ""},
		{"shop.example.com", "GET", "/", "shop", BulkNone, ""},
		{"shop.example.com", "POST", "/orders/_bulk", "shop", BulkNone, ""},
		{"shop.example.com", "POST", "/_bulk", "bulk", BulkItems, ""},
		{"logs.example.com", "GET", "/logs", "logs", BulkHello, ""},
		{"logs.example.com", "DELETE", "/logs/", "logs", BulkNone, ""},
		{"logs.example.com", "POST", "/logs/_bulk", "logs", BulkItems, ""},
		{"logs.example.com", "GET", "/logs/_bulk", "logs", BulkNone, ""},
		{"logs.example.com", "POST", "/logsX/_bulk", "bulk", BulkItems, "logsX"},
	}
	for _, tt := range tests {
		route, _ := set.Match(tt.host, tt.method, tt.path)
		var asks BulkRequest
		var index string
		if route != nil && route.Split == SplitBulk {
			asks, index = route.Bulk(tt.method, tt.path)
		}
		if nameOf(route) != tt.want || asks != tt.asks || index != tt.index {
			t.Errorf("%s %s%s: route %q asks %d of index %q; want %q, %d, %q", tt.method, tt.host, tt.path, nameOf(route), asks, index, tt.want, tt.asks, tt.index)
		}
	}
}

func nameOf(r *Route) string {
	if r == nil {
		return ""
	}
	return r.Name
}

// slowMatch is the rule as the policy language states it: of all routes that match
// those with the best rank; two of them tie.
func slowMatch(routes []Route, host, method, path string) (best []string) {
	rank := -1
	for i := range routes {
		r := &routes[i]
		p := r.PathPrefix
		under := p != "" && (path == p || strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/"))
		switch {
		case len(r.Hosts) > 0 && !slices.Contains(r.Hosts, host),
			len(r.Methods) > 0 && !slices.Contains(r.Methods, method),
			path != r.Path && !under:
			continue
		}
		this := len(p) * 4
		if r.Path != "" {
			this = 1000
		}
		if len(r.Hosts) > 0 {
			this++
		}
		if len(r.Methods) > 0 {
			this++
		}
		if this > rank {
			rank, best = this, nil
		}
		if this == rank {
			best = append(best, r.Name)
		}
	}
	return best
}

func TestMatchAgainstTheRule(t *testing.T) {
	hosts, methods := []string{"a", "b"}, []string{"GET", "PUT"}
	paths := []string{"/", "/x", "/x/", "/x/y", "/xy", "/x/y/"}
	rapid.Check(t, func(t *rapid.T) {
		subset := func(of []string) []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, len(of), rapid.ID[string]).Draw(t, "conditions")
		}
		routes := make([]Route, rapid.IntRange(1, 8).Draw(t, "routes"))
		for i := range routes {
			routes[i] = Route{Name: fmt.Sprint("r", i), Hosts: subset(hosts), Methods: subset(methods)}
			path := rapid.SampledFrom(paths).Draw(t, "path")
			if rapid.Bool().Draw(t, "exact") {
				routes[i].Path = path
			} else {
				routes[i].PathPrefix = path
			}
		}
		router, ties := compile(routes)
		set := &Set{Routes: routes, router: router}
		tied := false
		for _, host := range append(hosts, "c") {
			for _, method := range append(methods, "POST") {
				for _, path := range append(paths, "/z", "/x/y/z", "/xyz") {
					want := slowMatch(routes, host, method, path)
					tied = tied || len(want) > 1
					got, _ := set.Match(host, method, path)
					if len(ties) == 0 && (len(want) > 1 || nameOf(got) != strings.Join(want, "")) {
						t.Fatalf("Match(%s, %s, %s) = %q, want %v of %+v", host, method, path, nameOf(got), want, routes)
					}
				}
			}
		}
		// A tie may show only at a path that a longer one takes; never the reverse.
		if tied && len(ties) == 0 {
			t.Fatalf("no tie is reported in %+v", routes)
		}
		for _, r := range routes {
			if len(ties) == 0 && router.shadowed(&r) {
				for _, path := range append(paths, "/z", "/x/y/z", "/xyz") {
					for _, host := range append(hosts, "c") {
						for _, method := range append(methods, "POST") {
							if slices.Contains(slowMatch(routes, host, method, path), r.Name) {
								t.Fatalf("%s is called shadowed, but matches %s %s%s in %+v", r.Name, method, host, path, routes)
							}
						}
					}
				}
			}
		}
	})
}

func TestMatchDoesNotAllocate(t *testing.T) {
	set := parse(t, routesPolicy)
	for _, path := range []string{"/v1/orders", "/v1/orders/7/items"} {
		allocs := testing.AllocsPerRun(100, func() {
			if route, _ := set.Match("Shop.Example.Com:8443", "POST", path); route == nil {
				t.Errorf("Match finds no route for %s", path)
			}
		})
		if allocs > 0 {
			t.Errorf("Match of %s allocates %v times, want 0", path, allocs)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	var policy strings.Builder
	policy.WriteString("version: 1\nstreams: [{ name: s }]\nroutes:\n")
	for i := range 900 {
		fmt.Fprintf(&policy, "  - { name: e%d, match: { methods: [POST], path: /v1/things/%d }, mode: buffer, stream: s }\n", i, i)
		fmt.Fprintf(&policy, "  - { name: p%d, match: { path_prefix: /v2/%s/%d/ }, mode: buffer, stream: s }\n", i, strings.Repeat("x", i%40+1), i)
	}
	set, mistakes := Parse([]File{{Name: "bench.yaml", Data: []byte(policy.String())}})
	if len(mistakes) > 0 {
		b.Fatal(mistakes)
	}
	for name, path := range map[string]string{"exact": "/v1/things/500", "prefix": "/v2/xxxxx/4/a/b/c/d"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if route, _ := set.Match("shop.example.com:443", "POST", path); route == nil {
					b.Fatalf("no route for %s", path)
				}
			}
		})
	}
}
