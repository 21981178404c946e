package policies

import (
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxHosts       = 1000
	maxMethods     = 32
	maxPath        = 2048
	maxWait        = time.Hour
	defaultMaxBody = 1 << 20
)

type routeDraft struct {
	name, stream text
	match        place
	matches      bool // match has no mistake
	out          Route
}

// routeModes are the modes that this version does not have.
var routeModes = []string{"pass", "hold", "overflow"}

var routeSchema = schema[routeDraft]{
	what: "a route",
	preset: func(r *routeDraft) {
		r.out = Route{MaxBody: defaultMaxBody, WaitMax: 30 * time.Second}
	},
	fields: []field[routeDraft]{
		{name: "name", required: true, read: func(v value, r *routeDraft) { v.id(&r.name) }},
		{name: "match", example: "{ methods: [POST], path: /v1/orders }", required: true, read: func(v value, r *routeDraft) {
			before := v.found.count()
			matchSchema.read(v, &r.out)
			r.match, r.matches = v.place(), v.found.count() == before
		}},
		{name: "mode", example: "buffer", required: true, read: func(v value, r *routeDraft) {
			mode := string(r.out.Mode)
			v.choice(&mode, []string{string(ModeBuffer)}, routeModes)
			r.out.Mode = Mode(mode)
		}},
		{name: "stream", read: func(v value, r *routeDraft) { v.ref(&r.stream) }},
		{name: "max_body", read: func(v value, r *routeDraft) { v.size(&r.out.MaxBody, 1, maxMessageBytes) }},
		{name: "wait_max", read: func(v value, r *routeDraft) { v.duration(&r.out.WaitMax, 0, maxWait) }},
	},
	later: []string{
		"auth", "limits", "enforcement", "sink", "hold_up_to", "max_waiting", "idempotency", "store_result",
		"timing", "wait_for", "split", "max_inflated",
	},
	check: func(v value, r *routeDraft, keys keys) {
		if r.out.Mode == ModeBuffer && keys["stream"] == nil {
			v.fail("add `stream: orders`", "a route with mode: buffer has no stream")
		}
	},
}

var matchSchema = schema[Route]{
	what: "match",
	fields: []field[Route]{
		{name: "hosts", read: readHosts},
		{name: "methods", read: readMethods},
		{name: "path", read: func(v value, r *Route) { v.path(&r.Path) }},
		{name: "path_prefix", read: func(v value, r *Route) { v.path(&r.PathPrefix) }},
	},
	check: func(v value, r *Route, keys keys) {
		if at := keys["path_prefix"]; at != nil && keys["path"] != nil {
			value{v.decoder, at, ""}.fail("keep one, or make two routes", "match has both path and path_prefix")
		}
		if keys["path"] == nil && keys["path_prefix"] == nil {
			r.PathPrefix = "/"
		}
	},
}

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
		return "is too long", ""
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
		return "holds a character that no path has", ""
	}
	return "", ""
}

// claimed reports whether a path is the product's own: receipts live there.
func claimed(path string) bool {
	const own = "/.forebay"
	return strings.HasPrefix(path, own) && (len(path) == len(own) || path[len(own)] == '/')
}
