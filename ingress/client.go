package ingress

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are those whose word about callers is believed: what anybody else
// writes into X-Forwarded-… is not looked at.
type proxies []netip.Prefix

// peerOf is the address at the other end of the connection; the zero Addr
// where it has none.
func peerOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return plainAddr(peer.Addr())
}

// plainAddr has one spelling for an address: ::ffff:192.0.2.1 is 192.0.2.1, and
// a zone, which means something on one machine alone, is left out.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// trust reports whether a is one of the proxies.
func (p proxies) trust(a netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// client is the address of a request's caller. That is the peer's, unless it is a
// trusted proxy: then what X-Forwarded-For says, from the right, as far as
// trusted proxies wrote it. Where one of them passed on what is no address,
// it is itself the caller. The zero Addr where the connection has none.
func (p proxies) client(r *http.Request) netip.Addr {
	at := peerOf(r)
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for rest, more := line, true; more; {
			if !p.trust(at) {
				return at
			}
			var hop string
			rest, hop, more = cutLast(rest)
			if hop = strings.Trim(hop, " \t"); hop == "" {
				continue // an empty element of a list is none
			}
			a, ok := parseHop(hop)
			if !ok {
				return at
			}
			at = a
		}
	}
	return at
}

// cutLast cuts a list before its last element; more is false for the first.
func cutLast(list string) (rest, last string, more bool) {
	i := strings.LastIndexByte(list, ',')
	return list[:max(i, 0)], list[i+1:], i >= 0
}

// parseHop reads an address as proxies write it: with a port or without, IPv6
// in brackets or not.
func parseHop(s string) (netip.Addr, bool) {
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	if a, err := netip.ParseAddr(bare); err == nil {
		return plainAddr(a), true
	}
	a, err := netip.ParseAddrPort(s)
	return plainAddr(a.Addr()), err == nil
}

// origin is how the caller reached the first of us.
type origin struct{ host, proto string }

// origin is that of the connection, or what a trusted peer says.
func (p proxies) origin(r *http.Request) origin {
	o := origin{host: r.Host, proto: "http"}
	if r.TLS != nil {
		o.proto = "https"
	}
	if len(p) == 0 || !p.trust(peerOf(r)) {
		return o
	}
	if v := r.Header["X-Forwarded-Host"]; len(v) == 1 && saneHost(v[0]) {
		o.host = v[0]
	}
	if v := r.Header["X-Forwarded-Proto"]; len(v) == 1 && (v[0] == "http" || v[0] == "https") {
		o.proto = v[0]
	}
	return o
}

// saneHost reports whether s has only bytes that a host and port have. A list
// of them, as a chain of proxies may write it, is none.
func saneHost(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~:[]%", c) >= 0:
		default:
			return false
		}
	}
	return 0 < len(s) && len(s) <= 255
}
