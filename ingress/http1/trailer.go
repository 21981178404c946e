package http1

import (
	"net/http"
	"strings"
)

// announced are the fields that a Trailer field says come after the body, none of
// them with a value yet; nil where it names none that may. RFC 9110, section 6.5.
func announced(lists []string) http.Header {
	var fields http.Header
	for _, list := range lists {
		for part := range strings.SplitSeq(list, ",") {
			name, ok := canonicalName(strings.Trim(part, " \t"))
			if !ok || !mayTrail(name) {
				continue
			}
			if fields == nil {
				fields = http.Header{}
			}
			fields[name] = nil
		}
	}
	return fields
}

// mayTrail reports whether a field makes sense after a body: those that say where
// it ends, where it goes and who sent it do not. RFC 9110, section 6.5.1.
func mayTrail(name string) bool {
	switch name {
	case "Transfer-Encoding", "Content-Length", "Host", "Trailer", "Te", "Connection", "Keep-Alive", "Upgrade", "Expect",
		"Content-Type", "Content-Encoding", "Content-Range", "Authorization", "Cookie", "Set-Cookie", "Cache-Control",
		"Via", "Forwarded", "X-Real-Ip", "X-Request-Id", "Idempotency-Key", "Prefer":
		return false
	}
	return !strings.HasPrefix(name, "Proxy-") && !strings.HasPrefix(name, "X-Forwarded-")
}

// appendTrailer writes the fields that were announced, and those that
// http.TrailerPrefix says are some.
func (w *response) appendTrailer(b []byte) []byte {
	for name := range w.trailers {
		b = appendField(b, name, w.header[name])
	}
	for key, values := range w.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok && isToken(name) && mayTrail(http.CanonicalHeaderKey(name)) {
			b = appendField(b, name, values)
		}
	}
	return b
}
