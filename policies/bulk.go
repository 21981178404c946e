package policies

import (
	"cmp"
	"slices"
	"strings"
)

// bulkEnd is how the paths of Elasticsearch's bulk requests end.
const bulkEnd = "/_bulk"

// BulkRequest is what a request of a route with split: bulk asks for.
type BulkRequest uint8

// The requests of a bulk route. All others under its path are none of its own.
const (
	BulkNone  BulkRequest = iota
	BulkHello             // GET or HEAD of its root: a client asks what it talks to
	BulkItems             // POST or PUT of /_bulk, or of /INDEX/_bulk
)

// Bulk tells what a request that Match gave to a route with split: bulk asks for, and
// which index is in its path, if one is. The root of path: /logs/_bulk is /logs, that of
// path_prefix: /logs is /logs too; the last slash of a root does not count.
func (r *Route) Bulk(method, path string) (asks BulkRequest, index string) {
	root := r.bulkRoot()
	rest, ok := strings.CutPrefix(path, root)
	switch {
	case !ok:
		return BulkNone, ""
	case rest == "" || rest == "/":
		if method == "GET" || method == "HEAD" {
			return BulkHello, ""
		}
		return BulkNone, ""
	case method != "POST" && method != "PUT":
		return BulkNone, ""
	}
	index, ok = strings.CutSuffix(rest, bulkEnd)
	index = strings.TrimPrefix(index, "/")
	if !ok || strings.Contains(index, "/") || index != "" && rest == index+bulkEnd {
		return BulkNone, ""
	}
	return BulkItems, index
}

// bulkRoot is without its last slash.
func (r *Route) bulkRoot() string {
	if r.Path != "" {
		return strings.TrimSuffix(r.Path, bulkEnd)
	}
	return strings.TrimSuffix(r.PathPrefix, "/")
}

// matchBulk finds the bulk route that a request is for whose path, or whose method, is
// not what the policy has for the route: a client sends POST or PUT, as it likes.
func (r *router) matchBulk(own *paths, method, path string) *Route {
	if !r.bulk {
		return nil
	}
	switch method {
	case "GET", "HEAD":
		root := strings.TrimSuffix(path, "/")
		return cmp.Or(r.bulkAt(own, root+bulkEnd, true), r.bulkAt(own, root, false), r.bulkAt(own, root+"/", false))
	case "POST", "PUT":
		if above, ok := strings.CutSuffix(path, bulkEnd); ok {
			parent := above[:max(strings.LastIndexByte(above, '/'), 0)]
			return cmp.Or(r.bulkBelow(own, path), r.bulkAt(own, parent+bulkEnd, true))
		}
	}
	return nil
}

// bulkBelow finds the bulk route that has a path with the other method.
func (r *router) bulkBelow(own *paths, path string) *Route {
	for _, method := range []string{"POST", "PUT"} {
		if found := r.match(own, method, path); found != nil && found.Split == SplitBulk {
			return found
		}
	}
	return nil
}

// bulkAt finds the bulk route that the policy has for just that path, or prefix.
func (r *router) bulkAt(own *paths, path string, exact bool) *Route {
	for _, p := range []*paths{own, r.any} {
		for _, method := range []string{"POST", "PUT"} {
			if found := p.at(path, exact).route(method); found != nil && found.Split == SplitBulk {
				return found
			}
		}
	}
	return nil
}

// checkBulk reports a match that no bulk request can have.
func checkBulk(v value, r *Route, keys keys) {
	if r.Path != "" && !strings.HasSuffix(r.Path, bulkEnd) {
		root := strings.TrimSuffix(r.Path, "/")
		keys.at(v, "match").fail("write path: "+root+bulkEnd+", or path_prefix: "+root, "split: bulk needs a path that ends in %s", bulkEnd)
	}
	if len(r.Methods) > 0 && !slices.Contains(r.Methods, "POST") && !slices.Contains(r.Methods, "PUT") {
		keys.at(v, "match").fail("write methods: [POST, PUT], or leave methods out", "split: bulk needs POST or PUT")
	}
}
