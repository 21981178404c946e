package ingress

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

func trusting(ranges ...string) proxies {
	var p proxies
	for _, r := range ranges {
		p = append(p, netip.MustParsePrefix(r))
	}
	return p
}

func TestClientAddress(t *testing.T) {
	const proxy = "10.0.0.1:4711"
	tests := []struct {
		name      string
		peer      string
		forwarded []string // lines of X-Forwarded-For
		want      string
	}{
		{"a caller of our own", "192.0.2.7:4711", nil, "192.0.2.7"},
		{"who is not trusted is not believed", "192.0.2.7:4711", []string{"198.51.100.1"}, "192.0.2.7"},
		{"one proxy", proxy, []string{"192.0.2.7"}, "192.0.2.7"},
		{"a proxy that says nothing", proxy, nil, "10.0.0.1"},
		{"what the caller forged is left of what the proxy wrote", proxy, []string{"198.51.100.1, 192.0.2.7"}, "192.0.2.7"},
		{"a forged trusted hop", proxy, []string{"198.51.100.1, 10.0.0.9, 192.0.2.7"}, "192.0.2.7"},
		{"two proxies", proxy, []string{"198.51.100.1, 192.0.2.7, 10.0.0.2"}, "192.0.2.7"},
		{"all are trusted", proxy, []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"several lines are one list", proxy, []string{"198.51.100.1", "192.0.2.7", "10.0.0.3, 10.0.0.2"}, "192.0.2.7"},
		{"empty elements", proxy, []string{", 192.0.2.7,\t,", ""}, "192.0.2.7"},
		{"nothing but commas", proxy, []string{" ,, "}, "10.0.0.1"},
		{"with a port", proxy, []string{"192.0.2.7:80"}, "192.0.2.7"},
		{"IPv6", proxy, []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 in brackets", proxy, []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"IPv6 with a port", proxy, []string{"[2001:db8::7]:443"}, "2001:db8::7"},
		{"IPv6 with a zone", proxy, []string{"fe80::7%eth0"}, "fe80::7"},
		{"IPv4 mapped to IPv6", proxy, []string{"::ffff:192.0.2.7"}, "192.0.2.7"},
		{"a mapped peer is trusted as itself", "[::ffff:10.0.0.1]:4711", []string{"192.0.2.7"}, "192.0.2.7"},
		{"an IPv6 proxy", "[2001:db8:1::1]:4711", []string{"192.0.2.7"}, "192.0.2.7"},
		{"another IPv6 peer", "[2001:db8:2::1]:4711", []string{"192.0.2.7"}, "2001:db8:2::1"},
		{"garbage is its proxy's", proxy, []string{"192.0.2.7, unknown"}, "10.0.0.1"},
		{"garbage of an inner proxy", proxy, []string{"192.0.2.7, _hidden, 10.0.0.2"}, "10.0.0.2"},
		{"an open bracket", proxy, []string{"[2001:db8::7"}, "10.0.0.1"},
		{"leading zeros", proxy, []string{"192.0.2.07"}, "10.0.0.1"},
		{"no address at all", "@", []string{"192.0.2.7"}, "invalid IP"},
	}
	trusted := trusting("10.0.0.0/8", "2001:db8:1::/48")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tt.peer
			r.Header["X-Forwarded-For"] = tt.forwarded
			if got := trusted.client(r); got.String() != tt.want {
				t.Errorf("client of %s with X-Forwarded-For %q = %s, want %s", tt.peer, tt.forwarded, got, tt.want)
			}
		})
	}
}

func TestOrigin(t *testing.T) {
	tests := []struct {
		name        string
		peer        string
		host, proto []string
		want        origin
	}{
		{"nothing said", "10.0.0.1:1", nil, nil, origin{"example.com", "http"}},
		{"a trusted peer", "10.0.0.1:1", []string{"shop.example.com:8443"}, []string{"https"}, origin{"shop.example.com:8443", "https"}},
		{"a spoofer", "192.0.2.7:1", []string{"shop.example.com"}, []string{"https"}, origin{"example.com", "http"}},
		{"two of each", "10.0.0.1:1", []string{"a", "b"}, []string{"https", "http"}, origin{"example.com", "http"}},
		{"lists", "10.0.0.1:1", []string{"a, b"}, []string{"https, http"}, origin{"example.com", "http"}},
		{"garbage", "10.0.0.1:1", []string{"<script>"}, []string{"gopher"}, origin{"example.com", "http"}},
		{"empty", "10.0.0.1:1", []string{""}, []string{""}, origin{"example.com", "http"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tt.peer
			r.Header["X-Forwarded-Host"], r.Header["X-Forwarded-Proto"] = tt.host, tt.proto
			if got := trusting("10.0.0.0/8").origin(r); got != tt.want {
				t.Errorf("origin = %+v, want %+v", got, tt.want)
			}
		})
	}
}

// What is stored of a request says how its caller reached the first of us.
func TestStoredOrigin(t *testing.T) {
	for _, tt := range []struct {
		peer, want string
	}{
		{"10.0.0.1:1", "shop.example.com"},
		{"192.0.2.7:1", "example.com"},
	} {
		f := newFixture(t, func(c *Config) { c.TrustedProxies = trusting("10.0.0.0/8") })
		r := request(t.Context(), "POST", "/v1/orders", "{}", "X-Forwarded-Host: shop.example.com")
		r.RemoteAddr = tt.peer
		f.send(r)
		got := valuesOf(f.buf.messages[0].Header, "X-Forwarded-Host")
		if len(got) != 1 || got[0] != tt.want {
			t.Errorf("peer %s: stored X-Forwarded-Host %q, want %s", tt.peer, got, tt.want)
		}
	}
}

// Without trusted proxies the commonest requests pay nothing for them.
func BenchmarkClientAddress(b *testing.B) {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.0.1:4711"
	r.Header["X-Forwarded-For"] = []string{"198.51.100.1, 192.0.2.7"}
	trusted := trusting("10.0.0.0/8")
	b.ReportAllocs()
	for b.Loop() {
		trusted.client(r)
	}
}
