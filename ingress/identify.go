package ingress

import (
	"net/http"
	"slices"
	"strings"

	"forebay/buffer"
	"forebay/policies"
)

// identify finds who sends a request to a route that wants to know; else its
// principal stays empty.
func (x *exchange) identify(set *policies.Set, route *policies.Route) *problem {
	if len(route.Auth) == 0 {
		return nil
	}
	for _, a := range route.Auth {
		if x.principal = x.shown(a); x.principal != "" {
			return nil
		}
	}
	for i := range set.Auth {
		if x.shown(&set.Auth[i]) != "" {
			return problemForbidden()
		}
	}
	return problemUnauthenticated(keyHeaders(route.Auth))
}

// shown is whom a request shows to be the caller by one entry; "" is nobody. Two keys
// at once are none: others on the way may have looked at either.
func (x *exchange) shown(a *policies.Auth) (principal string) {
	if a.APIKey == nil {
		return ""
	}
	values := x.r.Header[a.APIKey.Header]
	if len(values) != 1 {
		return ""
	}
	key := values[0]
	if a.APIKey.Header == authorization {
		scheme, token, _ := strings.Cut(key, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return ""
		}
		key = strings.TrimSpace(token)
	}
	if key == "" {
		return ""
	}
	return a.APIKey.Principal(key)
}

const authorization = "Authorization"

// keyHeaders are the header fields that the keys of some entries come in.
func keyHeaders(entries []*policies.Auth) (names []string) {
	for _, a := range entries {
		if a.APIKey != nil && !slices.Contains(names, a.APIKey.Header) {
			names = append(names, a.APIKey.Header)
		}
	}
	return names
}

// principals are all whom a route knows.
func principals(route *policies.Route) (names []string) {
	for _, a := range route.Auth {
		if a.APIKey != nil {
			names = append(names, a.APIKey.Principals()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// challenge says how to show who one is, as WWW-Authenticate does. No scheme is
// registered for a key in a field of its own.
func challenge(header string) string {
	if header == authorization {
		return `Bearer realm="forebay"`
	}
	return `ApiKey realm="forebay", header="` + header + `"`
}

// withoutKeys takes callers' keys out of what is stored.
func withoutKeys(fields []buffer.Field, set *policies.Set) []buffer.Field {
	if len(set.Auth) == 0 {
		return fields
	}
	return slices.DeleteFunc(fields, func(f buffer.Field) bool { return secretField(f.Name, set) })
}

// secretField reports whether callers send a key of the policy in a field of that
// name, or of one that gateways take for it.
func secretField(name string, set *policies.Set) bool {
	return set.HoldsKey(name) || strings.IndexByte(name, '_') >= 0 && set.HoldsKey(dashed(name))
}

// dashed is the name that gateways of the CGI kind take a field for.
func dashed(name string) string {
	return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
}
