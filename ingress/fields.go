package ingress

import (
	"net/http"
	"slices"
	"strings"

	"forebay/buffer"
)

// proxyName is what we call ourselves among proxies.
const proxyName = "forebay"

const pseudonym = "1.1 " + proxyName

// appendFields appends the header fields that are stored with a message, by
// name, so that like requests are stored alike.
func appendFields(dst []buffer.Field, r *http.Request, requestID string, from origin) []buffer.Field {
	named := connectionOptions(r.Header["Connection"])
	for name, values := range r.Header {
		if dropped(name) || slices.Contains(named, name) {
			continue
		}
		for _, v := range values {
			dst = append(dst, buffer.Field{Name: name, Value: v})
		}
	}
	dst = appendTrace(dst, r.Header, named)
	if from.host != "" {
		dst = append(dst, buffer.Field{Name: "X-Forwarded-Host", Value: from.host})
	}
	dst = append(dst,
		buffer.Field{Name: "X-Forwarded-Proto", Value: from.proto},
		buffer.Field{Name: "X-Request-Id", Value: requestID},
		buffer.Field{Name: "Via", Value: via(r.Header["Via"])})
	// Stable: values of one name keep their order.
	slices.SortStableFunc(dst, func(a, b buffer.Field) int { return strings.Compare(a.Name, b.Name) })
	return dst
}

// Storable keeps, of the fields of a message that came by another way than HTTP, those that
// are stored of a request: none that belongs to a connection, is a credential, or is
// written or believed by Forebay alone. Names are in canonical form. It changes fields.
func Storable(fields []buffer.Field) []buffer.Field {
	trace := http.Header{}
	fields = slices.DeleteFunc(fields, func(f buffer.Field) bool {
		switch f.Name {
		case "X-Request-Id":
			return false // the message's own: no other request has brought it
		case "Traceparent", "Tracestate":
			trace[f.Name] = append(trace[f.Name], f.Value)
		}
		return dropped(f.Name)
	})
	return appendTrace(fields, trace, nil)
}

// dropped says which of a caller's fields are not stored as they are. Names
// are in canonical form. Sinks behind CGI-like gateways read X_Real_Ip as
// X-Real-Ip, so that both spellings go the same way.
func dropped(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		return dropped(dashed(name))
	}
	switch name {
	// Hop-by-hop, RFC 9110 section 7.6.1; Proxy-… is below.
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	// Credentials: they would be at rest, and stale on delivery.
	case "Authorization", "Cookie", "Set-Cookie", "X-Api-Key":
		return true
	// Framing and conversation with this hop; a delivery has its own.
	case "Content-Length", "Host", "Expect", "Prefer":
		return true
	// Claims about the caller, which trusted proxies alone may make; appendFields
	// writes those that are kept.
	case "Forwarded", "X-Real-Ip":
		return true
	// Written anew, or checked first, by appendFields.
	case "Via", "X-Request-Id", "Traceparent", "Tracestate":
		return true
	// Meant for the caller's own mesh, and known to carry customers' data.
	case "Baggage":
		return true
	}
	return strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "X-Forwarded-") ||
		strings.HasPrefix(name, "Forebay-")
}

// connectionOptions returns the field names that Connection makes hop-by-hop.
func connectionOptions(values []string) []string {
	var names []string
	for _, v := range values {
		for option := range strings.SplitSeq(v, ",") {
			option = strings.TrimSpace(option)
			if option == "" || strings.EqualFold(option, "keep-alive") || strings.EqualFold(option, "close") {
				continue
			}
			names = append(names, http.CanonicalHeaderKey(option))
		}
	}
	return names
}

func via(values []string) string {
	if len(values) == 0 {
		return pseudonym
	}
	return strings.Join(values, ", ") + ", " + pseudonym
}

// appendTrace keeps a well-formed trace context; a tracestate means nothing
// without its traceparent.
func appendTrace(dst []buffer.Field, h http.Header, named []string) []buffer.Field {
	parent := h["Traceparent"]
	if len(parent) != 1 || !validTraceparent(parent[0]) || slices.Contains(named, "Traceparent") {
		return dst
	}
	dst = append(dst, buffer.Field{Name: "Traceparent", Value: parent[0]})
	states := h["Tracestate"]
	if len(states) == 0 || slices.Contains(named, "Tracestate") {
		return dst
	}
	if state := strings.Join(states, ","); validTracestate(state) {
		dst = append(dst, buffer.Field{Name: "Tracestate", Value: state})
	}
	return dst
}

// validTraceparent follows W3C Trace Context: 00-{32}-{16}-{2} in lower-case
// hexadecimal, neither id all zero; later versions may append "-…".
func validTraceparent(s string) bool {
	const length = 55
	if len(s) < length || len(s) > 2*length || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, span, flags := s[:2], s[3:35], s[36:52], s[53:55]
	if !lowerHex(version) || !lowerHex(trace) || !lowerHex(span) || !lowerHex(flags) {
		return false
	}
	if version == "ff" || strings.Trim(trace, "0") == "" || strings.Trim(span, "0") == "" {
		return false
	}
	return len(s) == length || version != "00" && s[length] == '-'
}

func lowerHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// validTracestate checks the list's shape and the bounds that every tracer
// must carry, 32 members and 512 bytes; the values are the vendors' own.
func validTracestate(s string) bool {
	if len(s) > 512 || strings.Count(s, ",") >= 32 {
		return false
	}
	for member := range strings.SplitSeq(s, ",") {
		member = strings.TrimSpace(member)
		if member == "" {
			continue
		}
		key, value, ok := strings.Cut(member, "=")
		if !ok || key == "" || value == "" || strings.ContainsAny(key, " \t") || strings.Contains(value, "=") {
			return false
		}
	}
	return true
}
