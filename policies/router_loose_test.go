package policies

import "testing"

func TestDisguised(t *testing.T) {
	file := keyLine(t, "web", "key")
	set, found, _ := parseWith([]File{{Name: "p.yaml", Data: []byte(`version: 1
auth:
  - { name: web, api_key: { keys_file: keys } }
  - { name: app, api_key: { header: X-App-Key, keys_file: keys } }
streams: [{ name: s }]
routes:
  - { name: open, match: {}, mode: buffer, stream: s }
  - { name: admin, match: { path_prefix: /Admin }, mode: buffer, stream: s, auth: [web] }
  - { name: public, match: { path_prefix: /Admin/public }, mode: buffer, stream: s }
  - { name: below, match: { path_prefix: /below/ }, mode: buffer, stream: s, auth: [web] }
  - { name: exact, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: s, auth: [web, app] }
  - { name: order, match: { methods: [POST], path_prefix: /v1/orders/ }, mode: buffer, stream: s, auth: [app] }
  - { name: apps, match: { path_prefix: /apps }, mode: buffer, stream: s, auth: [app] }
  - { name: web, match: { path_prefix: /apps/web }, mode: buffer, stream: s, auth: [web] }
  - { name: shop, match: { hosts: [shop], path: /sale }, mode: buffer, stream: s, auth: [web] }
`)}}, &outside{read: func(string) ([]byte, error) { return []byte(file), nil }})
	if found.count() > 0 {
		t.Fatal(found.errors())
	}
	for _, tt := range []struct {
		host, method, path, route string
		want                      bool
	}{
		{"h", "GET", "/", "open", false},
		{"h", "GET", "/other/", "open", false},
		{"h", "GET", "/Admin", "admin", false},
		{"h", "GET", "/Admin/X/", "admin", false},
		{"h", "GET", "/admin", "open", true},
		{"h", "GET", "/ADMIN/x", "open", true},
		{"h", "GET", "/Admin;x/y", "open", true},
		{"h", "GET", "/Admin;x", "open", true},
		{"h", "GET", "/admin.", "open", false},
		{"h", "GET", "/administration", "open", false},
		{"h", "GET", "/Admin/public/x", "public", false},
		{"h", "GET", "/admin/Public/x", "open", false}, // to whomever it goes, it is open there too
		{"h", "GET", "/Admin/public;x/y", "admin", false},
		{"h", "GET", "/below", "open", true},
		{"h", "GET", "/Below/x", "open", true},
		{"h", "GET", "/belowx", "open", false},
		{"h", "POST", "/v1/orders", "exact", false},
		{"h", "POST", "/v1/orders/", "order", false}, // app may use both
		{"h", "POST", "/V1/orders", "open", true},
		{"h", "GET", "/V1/orders", "open", false},
		{"h", "GET", "/apps/Web", "apps", true}, // of web alone
		{"h", "GET", "/apps/WEB2", "apps", false},
		{"h", "GET", "/Sale", "open", false},
		{"SHOP:80", "GET", "/Sale", "open", true},
		{"shop", "GET", "/sale/", "open", true},
		{"h", "GET", "/\u212aa", "open", false},
	} {
		route, _ := set.Match(tt.host, tt.method, tt.path)
		if route == nil || route.Name != tt.route {
			t.Errorf("%s %s%s is for %v, want %s", tt.method, tt.host, tt.path, route, tt.route)
			continue
		}
		if got := set.Disguised(route, tt.host, tt.method, tt.path); got != tt.want {
			t.Errorf("%s %s%s: disguised %t, want %t", tt.method, tt.host, tt.path, got, tt.want)
		}
	}
}

// Without auth there is nothing to get at, and nothing to look for.
func TestNothingIsDisguisedWithoutAuth(t *testing.T) {
	set, _ := parseFile(t, "examples/smallest.yaml")
	if set.loose != nil || set.Disguised(&set.Routes[0], "h", "POST", "/V1/ORDERS/;x") {
		t.Error("a policy without auth looks for other spellings")
	}
}
