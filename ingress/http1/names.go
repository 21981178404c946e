package http1

import "net/textproto"

// common are the names that are taken from the wire as they are, without
// making a string of them: in canonical form and, as HTTP/2's gateways send
// them, in lower case.
var common = commonNames(
	"Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Authorization", "Baggage", "Batch-Id", "Cache-Control",
	"Connection", "Content-Digest", "Content-Encoding", "Content-Language", "Content-Length", "Content-Type", "Cookie", "Date",
	"Expect", "Forebay-Priority", "Forwarded", "Host", "Idempotency-Key", "If-Match", "If-None-Match", "Keep-Alive", "Origin",
	"Pragma", "Prefer", "Priority", "Proxy-Authorization", "Range", "Referer", "Te", "Traceparent", "Tracestate", "Trailer",
	"Transfer-Encoding", "Upgrade", "User-Agent", "Via", "X-Api-Key", "X-Customer-Id", "X-Forwarded-For", "X-Forwarded-Host",
	"X-Forwarded-Proto", "X-Real-Ip", "X-Request-Id",
)

func commonNames(names ...string) map[string]string {
	all := make(map[string]string, 2*len(names))
	for _, name := range names {
		all[name] = name
		lower := []byte(name)
		for i, c := range lower {
			if 'A' <= c && c <= 'Z' {
				lower[i] = c + 'a' - 'A'
			}
		}
		all[string(lower)] = name
	}
	return all
}

// canonicalName is the form that http.Header has names in; ok is false for what
// is no name, RFC 9110, section 5.1.
func canonicalName(s string) (name string, ok bool) {
	if name, ok = common[s]; ok {
		return name, true
	}
	if !isToken(s) {
		return "", false
	}
	return textproto.CanonicalMIMEHeaderKey(s), true
}

// isToken follows RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		if !tokenByte[s[i]] {
			return false
		}
	}
	return s != ""
}

var tokenByte = func() (is [256]bool) {
	for c := range 256 {
		is[c] = '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		is[c] = true
	}
	return is
}()
