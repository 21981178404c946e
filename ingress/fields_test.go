package ingress

import (
	"crypto/tls"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
)

func TestFieldsStored(t *testing.T) {
	// What every message gets, from a request without fields.
	ours := func(proto, via string) []buffer.Field {
		return []buffer.Field{
			{Name: "Via", Value: via},
			{Name: "X-Forwarded-Host", Value: "shop.example.com"},
			{Name: "X-Forwarded-Proto", Value: proto},
			{Name: "X-Request-Id", Value: "id"},
		}
	}
	tests := []struct {
		name   string
		header []string
		want   []buffer.Field // that come before ours
		via    string
	}{
		{name: "end to end", header: []string{"Accept: */*", "Content-Encoding: br", "Content-Type: a/b", "User-Agent: curl"}, want: []buffer.Field{
			{Name: "Accept", Value: "*/*"}, {Name: "Content-Encoding", Value: "br"}, {Name: "Content-Type", Value: "a/b"}, {Name: "User-Agent", Value: "curl"},
		}},
		{name: "several values keep their order", header: []string{"Accept: b", "Accept: a"}, want: []buffer.Field{{Name: "Accept", Value: "b"}, {Name: "Accept", Value: "a"}}},
		{name: "hop-by-hop", header: []string{
			"Connection: keep-alive", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Proxy-Authenticate: Basic",
			"Te: trailers", "Trailer: Checksum", "Transfer-Encoding: chunked", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk",
		}},
		{name: "named by Connection", header: []string{"Connection: close, x-hop", "Connection: X-Other", "X-Hop: 1", "X-Other: 1", "Accept: a"}, want: []buffer.Field{{Name: "Accept", Value: "a"}}},
		{name: "Connection cannot take ours away", header: []string{"Connection: X-Forwarded-Proto, Via, X-Request-Id"}},
		{name: "credentials", header: []string{"Authorization: Bearer x", "Cookie: s=1", "Set-Cookie: s=1", "Proxy-Authorization: Basic x", "X-Api-Key: k"}},
		{name: "framing", header: []string{"Content-Length: 5", "Host: other", "Expect: 100-continue", "Prefer: wait=5"}},
		{name: "claims", header: []string{"Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https", "X-Real-Ip: 1.2.3.4"}},
		{name: "ours", header: []string{"Forebay-Id: 1", "Forebay-Attempt: 1", "Forebay-Anything: 1"}},
		{name: "underscores", header: []string{"X_Forwarded_For: 1.2.3.4", "Forebay_id: 1", "X_api_key: k", "A_custom: kept"}, want: []buffer.Field{{Name: "A_custom", Value: "kept"}}},
		{name: "baggage", header: []string{"Baggage: user=1"}},
		{name: "via", header: []string{"Via: 1.0 fred", "Via: 1.1 p.example.net"}, via: "1.0 fred, 1.1 p.example.net, 1.1 forebay"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request(t.Context(), "POST", "http://shop.example.com/v1/orders", "", tt.header...)
			if tt.via == "" {
				tt.via = "1.1 forebay"
			}
			if diff := cmp.Diff(append(tt.want, ours("http", tt.via)...), appendFields(nil, r, "id", proxies{}.origin(r))); diff != "" {
				t.Errorf("header %q (-want +got):\n%s", tt.header, diff)
			}
		})
	}
	r := httptest.NewRequest("POST", "https://shop.example.com/", nil)
	r.TLS = &tls.ConnectionState{}
	if diff := cmp.Diff(ours("https", "1.1 forebay"), appendFields(nil, r, "id", proxies{}.origin(r))); diff != "" {
		t.Errorf("over TLS (-want +got):\n%s", diff)
	}
}

func TestTraceContext(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	tests := []struct {
		name                  string
		parent, state         []string
		wantParent, wantState string
	}{
		{"both", []string{good}, []string{"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"}, good, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"},
		{"state over lines", []string{good}, []string{"a=1", "b=2"}, good, "a=1,b=2"},
		{"state alone", nil, []string{"a=1"}, "", ""},
		{"two parents", []string{good, good}, []string{"a=1"}, "", ""},
		{"upper case", []string{strings.ToUpper(good)}, nil, "", ""},
		{"no trace id", []string{"00-00000000000000000000000000000000-b7ad6b7169203331-01"}, nil, "", ""},
		{"no span id", []string{"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"}, nil, "", ""},
		{"version ff", []string{"ff" + good[2:]}, nil, "", ""},
		{"version 00 and more", []string{good + "-x"}, nil, "", ""},
		{"later version and more", []string{"01" + good[2:] + "-x"}, nil, "01" + good[2:] + "-x", ""},
		{"later version run on", []string{"01" + good[2:] + "x"}, nil, "", ""},
		{"short", []string{good[:54]}, nil, "", ""},
		{"empty", []string{""}, nil, "", ""},
		{"state without a value", []string{good}, []string{"a"}, good, ""},
		{"state too long", []string{good}, []string{"a=" + strings.Repeat("x", 511)}, good, ""},
		{"state of 33", []string{good}, []string{strings.Repeat("a=1,", 32) + "a=1"}, good, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", nil)
			r.Header["Traceparent"], r.Header["Tracestate"] = tt.parent, tt.state
			var parent, state string
			for _, f := range appendFields(nil, r, "id", proxies{}.origin(r)) {
				switch f.Name {
				case "Traceparent":
					parent = f.Value
				case "Tracestate":
					state = f.Value
				}
			}
			if parent != tt.wantParent || state != tt.wantState {
				t.Errorf("stored %q, %q, want %q, %q", parent, state, tt.wantParent, tt.wantState)
			}
		})
	}
}
