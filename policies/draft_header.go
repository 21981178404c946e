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
