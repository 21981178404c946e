package policies

import (
	"net"
	"regexp"
	"slices"
	"strings"
)

const (
	maxHosts   = 1000
	maxMethods = 32
	maxPath    = 2048
)

var matchSchema = schema[Route]{
	what: "match",
	fields: []field[Route]{
		{
			name: "hosts", about: "Names or addresses without port; default: any.",
			shape: listShape(stringShape, 1, maxHosts), read: readHosts,
		},
		{
			name: "methods", about: "Methods in capitals; default: any.",
			shape: listShape(patternShape(methodForm.String()), 1, maxMethods), read: readMethods,
		},
		{name: "path", about: "The whole path, decoded.", shape: pathShape, read: func(v value, r *Route) { v.path(&r.Path) }},
		{
			name: "path_prefix", about: "The path and what is below it; not together with path.", shape: pathShape,
			read: func(v value, r *Route) { v.path(&r.PathPrefix) },
		},
	},
	check: func(v value, r *Route, keys keys) {
		if keys["path_prefix"] != nil && keys["path"] != nil {
			keys.at(v, "path_prefix").fail("keep one, or make two routes", "match has both path and path_prefix")
		}
		if keys["path"] == nil && keys["path_prefix"] == nil {
			r.PathPrefix = "/"
		}
	},
}

// pathShape leaves the finer rules to pathMistake.
var pathShape = shape{"type": "string", "pattern": `^/[^?#*{}%\\]*$`, "maxLength": maxPath}

func readHosts(v value, r *Route) {
	v.list(maxHosts, func(item value) {
		s, ok := item.str()
		if !ok {
			return
		}
		host := normalHost(strings.ToLower(s))
		_, _, noPort := net.SplitHostPort(s)
		switch {
		case strings.Contains(s, "*"):
			item.fail("list each host, or leave hosts out to match any", "host %s has a wildcard", quote(s))
		case strings.Contains(s, "/"):
			item.fail("write the name alone: shop.example.com", "host %s is not a host name", quote(s))
		case isHost(host) && noPort == nil:
			item.fail("write "+host+": a request matches on any port", "host %s has a port", quote(s))
		case !isHost(host):
			item.fail("write the name alone: shop.example.com", "host %s is not a host name", quote(s))
		case slices.Contains(r.Hosts, host):
			item.fail("remove one", "host %s is listed twice", quote(s))
		default:
			r.Hosts = append(r.Hosts, host)
		}
	})
	if v.emptyList() {
		v.fail("leave hosts out to match any", "hosts is empty: the route would match nothing")
	}
}

var methodForm = regexp.MustCompile(`^[A-Z][A-Z-]{0,31}$`)

func readMethods(v value, r *Route) {
	v.list(maxMethods, func(item value) {
		s, ok := item.str()
		if !ok {
			return
		}
		switch upper := strings.ToUpper(s); {
		case !methodForm.MatchString(upper):
			item.fail("write GET, POST, PUT …", "%s is not a method", quote(s))
		case upper != s:
			item.fail("write "+upper+": methods are in capitals", "%s is not a method", quote(s))
		case slices.Contains(r.Methods, s):
			item.fail("remove one", "method %s is listed twice", s)
		default:
			r.Methods = append(r.Methods, s)
		}
	})
	if v.emptyList() {
		v.fail("leave methods out to match any", "methods is empty: the route would match nothing")
	}
}

// path reads a path to compare with that of requests, which is decoded and clean
// by then: one that is not could never match.
func (v value) path(to *string) {
	s, ok := v.str()
	if !ok {
		return
	}
	message, hint := pathMistake(s)
	if message != "" {
		v.fail(hint, "%s %s %s", v.name, quote(s), message)
		return
	}
	*to = s
}

func pathMistake(s string) (message, hint string) {
	switch {
	case !strings.HasPrefix(s, "/"):
		return "does not begin with /", "write the whole path, without scheme and host"
	case len(s) > maxPath:
		return "is too long", "match a prefix of it, with path_prefix"
	case claimed(s):
		return "belongs to Forebay itself", "choose a path that is not under /.forebay/"
	case strings.ContainsAny(s, "?#"):
		return "holds a query or a fragment", "match on the path alone"
	case strings.ContainsAny(s, "*{}"):
		return "holds a pattern", "a path is compared as it is; path_prefix: /v1/orders matches all below it"
	case strings.Contains(s, "%"):
		return "holds an escape", "write the character itself: paths are compared decoded"
	case strings.Contains(s, "//") || slices.ContainsFunc(strings.Split(s, "/"), func(part string) bool { return part == "." || part == ".." }):
		return "is not clean", "remove empty parts, . and .."
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return "holds a character that no path has", "remove it"
	}
	return "", ""
}

// claimed reports whether a path is the product's own: receipts live there.
func claimed(path string) bool {
	const own = "/.forebay"
	return strings.HasPrefix(path, own) && (len(path) == len(own) || path[len(own)] == '/')
}
