package ingress

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"forebay/policies"
)

// maxTarget bounds path and query, in bytes.
const maxTarget = 8 << 10

// checkedTarget returns the request's path and query as sent, or the problem
// with them.
func checkedTarget(r *http.Request) (string, error) {
	if r.URL.Path == "" { // CONNECT, or a bare authority
		return "", problemBadRequest("the request target has no path")
	}
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") { // absolute form, or none at all
		target = r.URL.RequestURI()
	}
	if len(target) > maxTarget {
		return "", problemURITooLong()
	}
	if why := targetFault(target); why != "" {
		return "", problemBadRequest(why)
	}
	return target, nil
}

// targetFault says why a target is refused; "" means that it is not. Refused
// is all that a sink could take for another path than the one that was
// matched: a route that guards /admin must not be passed by /x/..%2fadmin.
func targetFault(target string) string {
	path, _, _ := strings.Cut(target, "?")
	if !strings.HasPrefix(path, "/") {
		return "the request target has no path"
	}
	plain := true
	if strings.IndexByte(target, '#') >= 0 {
		return "the request target has a fragment"
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			if why := segmentFault(path[i+1:]); why != "" {
				return why
			}
		case c == '%':
			if why := escapeFault(path[i+1:]); why != "" {
				return why
			}
			i += 2
			plain = false
		case c == '\\':
			return "the path has a backslash"
		case c <= ' ' || c == 0x7f:
			return "the path has a space or a control character"
		case c == ';' || c >= utf8.RuneSelf:
			plain = false
		}
	}
	if plain {
		return ""
	}
	return decodedFault(path)
}

// decodedFault looks at a path as those read it who decode it: perhaps a second time, as
// any bytes that look like UTF-8, or without parameters.
func decodedFault(path string) string {
	decoded, err := url.PathUnescape(path)
	switch {
	case err != nil:
		return "the path has a broken percent-encoding"
	case !utf8.ValidString(decoded):
		return "the path is not UTF-8" // C0 AF is a slash to some
	case encoded(decoded):
		return "the path is percent-encoded twice"
	}
	bare := policies.WithoutParameters(decoded)
	for i := range len(bare) {
		if bare[i] != '/' {
			continue
		}
		if why := segmentFault(bare[i+1:]); why != "" {
			return why
		}
	}
	return ""
}

// encoded reports whether a string has a percent-encoding in it.
func encoded(s string) bool {
	for i := 0; i+2 < len(s); i++ {
		if s[i] == '%' && unhex(s[i+1]) < 16 && unhex(s[i+2]) < 16 {
			return true
		}
	}
	return false
}

// segmentFault looks at the beginning of what follows a slash. Some servers
// cut path parameters first, so that "..;x" is ".." to them.
func segmentFault(rest string) string {
	if strings.HasPrefix(rest, "/") {
		return "the path has an empty segment"
	}
	dots := 0
	for dots < len(rest) && rest[dots] == '.' {
		dots++
	}
	if dots != 1 && dots != 2 {
		return ""
	}
	if dots == len(rest) || rest[dots] == '/' || rest[dots] == ';' {
		return "the path has a dot segment"
	}
	return ""
}

// escapeFault looks at the two digits that follow a percent sign.
func escapeFault(rest string) string {
	if len(rest) < 2 {
		return "the path has a broken percent-encoding"
	}
	hi, lo := unhex(rest[0]), unhex(rest[1])
	if hi > 15 || lo > 15 {
		return "the path has a broken percent-encoding"
	}
	switch c := hi<<4 | lo; {
	case c == '/' || c == '\\':
		return "the path has an encoded separator"
	case c == '.':
		return "the path has an encoded dot"
	case c < ' ' || c == 0x7f:
		return "the path has an encoded control character"
	}
	return ""
}

// unhex returns 16 for what is no hexadecimal digit.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
