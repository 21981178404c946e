package policies

import (
	"slices"
	"strings"
)

// Sinks read paths in other ways than routes do: many take no account of the case of
// letters or of a last slash, and some cut off parameters, which begin with a
// semicolon. loose is the routes as such sinks would match them; nil where no route has auth.
func loose(routes []Route) *router {
	if !slices.ContainsFunc(routes, func(r Route) bool { return len(r.Auth) > 0 }) {
		return nil
	}
	folded := slices.Clone(routes)
	for i := range folded {
		folded[i].Path, folded[i].PathPrefix = strings.ToLower(folded[i].Path), strings.ToLower(folded[i].PathPrefix)
	}
	r, _ := compile(folded) // of what ties when it is folded, the first counts
	return &r
}

// Disguised reports whether a request that Match gave to route may be one for another
// route to its sink, whose callers have to show who they are in another way:
// /Admin/ or /admin;x is /admin to some. A path that the policy itself has for the route
// is meant as it is.
func (s *Set) Disguised(route *Route, host, method, path string) bool {
	if s.loose == nil || path == route.Path || path == route.PathPrefix {
		return false
	}
	own := s.loose.lookup(normalHost(host))
	folded := strings.TrimRight(strings.ToLower(WithoutParameters(path)), "/")
	for _, spelling := range []string{folded, folded + "/"} {
		other := s.loose.match(own, method, spelling)
		if other != nil && spelling != "" && !other.takes(route) {
			return true
		}
	}
	return false
}

// takes reports whether whoever may use route may use r too.
func (r *Route) takes(route *Route) bool {
	if len(r.Auth) == 0 {
		return true
	}
	return len(route.Auth) > 0 && !slices.ContainsFunc(route.Auth, func(a *Auth) bool { return !slices.Contains(r.Auth, a) })
}

// WithoutParameters is a path without what follows a semicolon in each of its segments.
func WithoutParameters(path string) string {
	if strings.IndexByte(path, ';') < 0 {
		return path
	}
	segments := strings.Split(path, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}
