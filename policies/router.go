package policies

import (
	"cmp"
	"slices"
	"strings"
)

// router finds the most specific route without looking at the others: an exact
// path is one lookup, a prefix one for each length of prefix that ends at a slash
// of the path.
type router struct {
	hosts map[string]*paths // routes with hosts
	any   *paths            // routes without
	// lengths of all prefixes, the longest first.
	lengths []int
	bulk    bool // a route splits so
}

// paths are the routes of one host.
type paths struct{ exact, prefix map[string]*leaf }

// leaf are the routes of one host and path, by method.
type leaf struct {
	methods map[string]*Route
	any     *Route // without methods
}

// Match returns the most specific route for a request: an exact path before the
// longest prefix before more conditions. A prefix matches what is below it, and
// itself unless it ends in a slash: /v1/orders matches /v1/orders/7 and not
// /v1/ordersX. A route with split: bulk takes what its clients ask for besides its
// path, see [Route.Bulk], where no route matches that. The host may have a port, which does not count, in capital letters
// or small; the path is decoded and clean. Where no route matches but some would
// with another method, allow has those methods, sorted.
func (s *Set) Match(host, method, path string) (route *Route, allow []string) {
	if claimed(path) {
		return nil, nil
	}
	r := &s.router
	own := r.lookup(normalHost(host))
	if route = cmp.Or(r.match(own, method, path), r.matchBulk(own, method, path)); route != nil {
		return route, nil
	}
	return nil, r.allow(own, path)
}

func (r *router) match(own *paths, method, path string) *Route {
	if route := cmp.Or(own.at(path, true).route(method), r.any.at(path, true).route(method)); route != nil {
		return route
	}
	for _, n := range r.lengths {
		if !endsPart(path, n) {
			continue
		}
		if route := cmp.Or(own.at(path[:n], false).route(method), r.any.at(path[:n], false).route(method)); route != nil {
			return route
		}
	}
	return nil
}

// allow collects the methods of every leaf that the path leads to.
func (r *router) allow(own *paths, path string) []string {
	var methods []string
	collect := func(path string, exact bool) {
		for _, p := range []*paths{own, r.any} {
			if l := p.at(path, exact); l != nil {
				for m := range l.methods {
					methods = append(methods, m)
				}
			}
		}
	}
	collect(path, true)
	for _, n := range r.lengths {
		if endsPart(path, n) {
			collect(path[:n], false)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

// lookup finds the routes of a host whose letters may be capitals, which costs no
// memory either.
func (r *router) lookup(host string) *paths {
	if len(r.hosts) == 0 {
		return nil
	}
	if p := r.hosts[host]; p != nil {
		return p
	}
	var lower [253]byte
	if len(host) > len(lower) {
		return nil
	}
	for i := range len(host) {
		lower[i] = host[i]
		if 'A' <= host[i] && host[i] <= 'Z' {
			lower[i] += 'a' - 'A'
		}
	}
	return r.hosts[string(lower[:len(host)])]
}

// endsPart reports whether a path has a part that ends after n bytes.
func endsPart(path string, n int) bool {
	if n > len(path) {
		return false
	}
	return path[n-1] == '/' || n == len(path) || path[n] == '/'
}

func (p *paths) at(path string, exact bool) *leaf {
	switch {
	case p == nil:
		return nil
	case exact:
		return p.exact[path]
	default:
		return p.prefix[path]
	}
}

func (l *leaf) route(method string) *Route {
	if l == nil {
		return nil
	}
	return cmp.Or(l.methods[method], l.any)
}

// normalHost cuts the port, the brackets of an IPv6 address and the dot of a
// fully qualified name.
func normalHost(host string) string {
	if strings.HasPrefix(host, "[") {
		host, _, _ = strings.Cut(host[1:], "]")
		return host
	}
	if i := strings.IndexByte(host, ':'); i >= 0 && i == strings.LastIndexByte(host, ':') {
		host = host[:i]
	}
	return strings.TrimSuffix(host, ".")
}
