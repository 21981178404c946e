package http

import (
	nethttp "net/http"
	"strconv"
	"strings"
)

// unusableError says why a request can never be written, without what is in it.
type unusableError string

func (e unusableError) Error() string { return string(e) }

// appendRequest appends a request with its body.
func appendRequest(out []byte, req *nethttp.Request) ([]byte, error) {
	host := hostField(req)
	target := req.URL.RequestURI()
	if !isToken(req.Method) || !isValue(host) || strings.ContainsAny(host, " \t/@") || !isValue(target) || strings.Contains(target, " ") {
		return out, unusableError("invalid method, target or host")
	}
	out = append(append(append(append(out, req.Method...), ' '), target...), " HTTP/1.1\r\nHost: "...)
	out = append(append(out, host...), "\r\n"...)
	for name, values := range req.Header {
		if !isToken(name) {
			return out, unusableError("invalid header field name")
		}
		for _, value := range values {
			if !isValue(value) {
				return out, unusableError("invalid header field value for " + name)
			}
			out = append(append(append(append(out, name...), ": "...), value...), "\r\n"...)
		}
	}
	if req.ContentLength > 0 || req.Method == nethttp.MethodPost || req.Method == nethttp.MethodPut || req.Method == nethttp.MethodPatch {
		out = append(strconv.AppendInt(append(out, "Content-Length: "...), req.ContentLength, 10), "\r\n"...)
	}
	out = append(out, "\r\n"...)
	if req.Body == nil {
		return out, nil
	}
	body, err := req.GetBody() // not Body, which another URL may still need
	if err != nil {
		return out, err
	}
	defer body.Close()
	return within(out, body, int(req.ContentLength))
}

// hostField is the host as it is written: without the zone of an address, which means
// something on this machine alone.
func hostField(req *nethttp.Request) string {
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	if zone := strings.IndexByte(host, '%'); zone > 0 {
		if end := strings.IndexByte(host[zone:], ']'); end > 0 {
			return host[:zone] + host[zone+end:]
		}
	}
	return host
}

// tokenBytes are what a method or the name of a field consists of.
var tokenBytes = func() (is [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		is[c] = true
	}
	return is
}()

func isToken[T string | []byte](s T) bool {
	for i := range len(s) {
		if !tokenBytes[s[i]] {
			return false
		}
	}
	return len(s) > 0
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
