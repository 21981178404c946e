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
	maxInflated    = 32 << 20 // half of what appends may hold in memory
	maxResult      = 1 << 20
)

type routeDraft struct {
	name, stream text
	waitFor      text
	match        place
	matches      bool // match has no mistake
	idempotency  place
	out          Route
}

// routeModes are the modes that this version does not have.
var routeModes = []string{"pass", "hold", "overflow"}

var routeSchema = schema[routeDraft]{
	what: "a route",
	preset: func(r *routeDraft) {
		r.out = Route{
			MaxBody: defaultMaxBody, WaitMax: 30 * time.Second, MaxInflated: maxInflated,
			Idempotency: Idempotency{Header: "Idempotency-Key", TTL: 24 * time.Hour},
		}
	},
	fields: []field[routeDraft]{
		nameField(func(r *routeDraft) *text { return &r.name }),
		{
			name: "match", example: "{ methods: [POST], path: /v1/orders }", required: true, shape: matchSchema.shape(),
			read: func(v value, r *routeDraft) {
				before := v.found.count()
				matchSchema.read(v, &r.out)
				r.match, r.matches = v.place(), v.found.count() == before
			},
		},
		choiceField("mode", []Mode{ModeBuffer}, routeModes, func(r *routeDraft) *Mode { return &r.out.Mode }).must("buffer"),
		refField("stream", func(r *routeDraft) *text { return &r.stream }),
		sizeField("max_body", 1, maxMessageBytes, func(r *routeDraft) *int64 { return &r.out.MaxBody }),
		durationField("wait_max", 0, maxWait, func(r *routeDraft) *time.Duration { return &r.out.WaitMax }),
		refField("wait_for", func(r *routeDraft) *text { return &r.waitFor }),
		{name: "split", shape: enumShape(append([]string{"none"}, splits...)), read: readSplit},
		sizeField("max_inflated", 1, maxInflated, func(r *routeDraft) *int64 { return &r.out.MaxInflated }),
		{name: "idempotency", shape: idempotencySchema.shape(), read: func(v value, r *routeDraft) {
			idempotencySchema.read(v, &r.out.Idempotency)
			r.idempotency = v.place()
		}},
		nested("store_result", &storeResultSchema, func(r *routeDraft) *int64 { return &r.out.StoreResult }),
	},
	later: []string{"auth", "limits", "enforcement", "sink", "hold_up_to", "max_waiting", "timing"},
	check: func(v value, r *routeDraft, keys keys) {
		if r.out.Mode == ModeBuffer && keys["stream"] == nil {
			v.fail("add `stream: orders`", "a route with mode: buffer has no stream")
		}
	},
}

// splits are the ways to split that a policy can name, besides none.
var splits = []string{string(SplitNDJSON), string(SplitJSONArray), string(SplitLines)}

func readSplit(v value, r *routeDraft) {
	s, ok := v.choice(append([]string{"none"}, splits...), []string{"bulk"})
	if ok && s != "none" {
		r.out.Split = Split(s)
	}
}

var idempotencySchema = schema[Idempotency]{
	what: "idempotency",
	fields: []field[Idempotency]{
		{name: "header", example: "Idempotency-Key", shape: stringShape, read: func(v value, i *Idempotency) {
			if s, ok := v.str(); ok {
				i.Header, _ = v.header(s)
			}
		}},
		{name: "required", example: "true", shape: booleanShape, read: func(v value, i *Idempotency) { v.boolean(&i.Required) }},
		durationField("ttl", time.Second, maxPatience, func(i *Idempotency) *time.Duration { return &i.TTL }),
	},
}

var storeResultSchema = schema[int64]{
	what:   "store_result",
	fields: []field[int64]{sizeField("max_bytes", 1, maxResult, func(n *int64) *int64 { return n }).must("64KiB")},
}

var matchSchema = schema[Route]{
	what: "match",
	fields: []field[Route]{
		{name: "hosts", shape: listShape(stringShape, 1, maxHosts), read: readHosts},
		{name: "methods", shape: listShape(patternShape(methodForm.String()), 1, maxMethods), read: readMethods},
		{name: "path", shape: pathShape, read: func(v value, r *Route) { v.path(&r.Path) }},
		{name: "path_prefix", shape: pathShape, read: func(v value, r *Route) { v.path(&r.PathPrefix) }},
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
