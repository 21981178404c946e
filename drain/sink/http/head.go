package http

import (
	nethttp "net/http"
	"net/url"
	"strconv"
	"strings"

	"forebay/drain"
)

// unusableError says why a request can never be written, without what is in it.
type unusableError string

func (e unusableError) Error() string { return string(e) }

// appendMessage appends the request that delivers a message to a URL, with its body.
func appendMessage(out []byte, m drain.Delivery, p proof, to *url.URL, preserveHost bool) ([]byte, error) {
	if !isToken(m.Method) {
		return out, unusableError("invalid method")
	}
	out = append(append(out, m.Method...), ' ')
	out, err := appendTarget(out, to, m.Target)
	if err != nil {
		return out, err
	}
	host := len(out) + len(" HTTP/1.1\r\nHost: ")
	out = append(append(append(out, " HTTP/1.1\r\nHost: "...), withoutZone(to.Host)...), "\r\n"...)
	forwarded, wrong, ok := "", "", true
	eachField(m, p, func(name, value string) {
		if !isToken(name) || !isValue(value) {
			wrong, ok = name, false
		}
		if name == forwardedHost && forwarded == "" {
			forwarded = value
		}
		out = append(append(append(append(out, name...), ": "...), value...), "\r\n"...)
	})
	if !ok {
		return out, unusableError("invalid header field " + strconv.Quote(wrong))
	}
	if preserveHost && forwarded != "" {
		if strings.ContainsAny(forwarded, " \t/@") {
			return out, unusableError("invalid host")
		}
		out = replaced(out, host, len(withoutZone(to.Host)), withoutZone(forwarded))
	}
	if len(m.Body) > 0 || m.Method == nethttp.MethodPost || m.Method == nethttp.MethodPut || m.Method == nethttp.MethodPatch {
		out = append(strconv.AppendInt(append(out, "Content-Length: "...), int64(len(m.Body)), 10), "\r\n"...)
	}
	return append(append(out, "\r\n"...), m.Body...), nil
}

// replaced is out with something else in the place of n bytes.
func replaced(out []byte, at, n int, by string) []byte {
	rest := string(out[at+n:])
	return append(append(out[:at], by...), rest...)
}

// appendTarget appends what stands in the first line.
func appendTarget(out []byte, to *url.URL, target string) ([]byte, error) {
	if isPlain(target) && (to.Path == "" || to.Path == "/") {
		return append(out, target...), nil
	}
	u, err := parseTarget(target)
	if err != nil {
		return out, unusableError(clean(err))
	}
	uri := resolve(to, u).RequestURI()
	if !isValue(uri) || strings.Contains(uri, " ") {
		return out, unusableError("invalid target")
	}
	return append(out, uri...), nil
}

// isPlain reports whether a target is written as it is parsed.
func isPlain(target string) bool {
	if target == "" || target[0] != '/' || strings.HasPrefix(target, "//") {
		return false
	}
	for i := range len(target) {
		c := target[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("/-._~?=&", c) >= 0) {
			return false
		}
	}
	return true
}

// withoutZone is a host without the zone of an address, which means something on this
// machine alone.
func withoutZone(host string) string {
	if zone := strings.IndexByte(host, '%'); zone > 0 {
		if end := strings.IndexByte(host[zone:], ']'); end > 0 {
			return host[:zone] + host[zone+end:]
		}
	}
	return host
}

func isToken[T string | []byte](s T) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return len(s) > 0
}

// isTokenByte reports whether methods and names of fields may have a byte: RFC 9110,
// section 5.6.2.
func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		return true
	default:
		return strings.IndexByte("!#$%&'*+.^_`|~", c) >= 0
	}
}

// isValue reports whether something can stand in a field: no control but a tab.
func isValue[T string | []byte](s T) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
