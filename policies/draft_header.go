package policies

import (
	"net/textproto"
	"regexp"
	"slices"
	"strings"
)

var headerForm = regexp.MustCompile("^[0-9A-Za-z!#$%&'*+.^_`|~-]{1,128}$")

// unstoredHeaders are credentials, and what belongs to a connection or to Forebay:
// none of them is stored with a message, so none can name one.
var unstoredHeaders = []string{
	"Authorization", "Connection", "Cookie", "Keep-Alive", "Set-Cookie", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"X-Api-Key",
}

// fieldName reads the name of a header field into its canonical form.
func (v value) fieldName(s string) (string, bool) {
	if !headerForm.MatchString(s) {
		v.fail("write its name alone: X-Customer-Id", "%s is not a header field", quote(s))
		return "", false
	}
	return textproto.CanonicalMIMEHeaderKey(s), true
}

// spokenFor have a meaning of their own, in the log for one: none can hold a key.
var spokenFor = []string{
	"Accept", "Batch-Id", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Forwarded", "Host",
	"Idempotency-Key", "Keep-Alive", "Prefer", "Te", "Traceparent", "Tracestate", "Trailer", "Transfer-Encoding", "Upgrade", "Via",
	"X-Real-Ip", "X-Request-Id",
}

// keyHeader reads the name of a header field that holds a caller's key.
func (v value) keyHeader(s string) (string, bool) {
	name, ok := v.fieldName(s)
	if !ok {
		return "", false
	}
	if slices.Contains(spokenFor, name) || strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "Forebay-") || strings.HasPrefix(name, "X-Forwarded-") {
		v.fail("name a field that holds nothing else: X-Api-Key", "header field %s cannot hold a key", name)
		return "", false
	}
	return name, true
}

// header reads the name of a header field that is stored with a message.
func (v value) header(s string) (string, bool) {
	name, ok := v.fieldName(s)
	if !ok {
		return "", false
	}
	if slices.Contains(unstoredHeaders, name) || strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "Forebay-") {
		v.fail("name a field that is stored with the message", "header field %s cannot name a message", name)
		return "", false
	}
	return name, true
}
