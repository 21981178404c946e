package http1

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxFields bounds how many header fields a request has.
const maxFields = 256

// Fault is why a request is refused before any handler sees it.
type Fault struct {
	Status int
	Detail string
}

func (f *Fault) Error() string { return f.Detail }

func bad(detail string) *Fault { return &Fault{http.StatusBadRequest, detail} }

// head is what one request says before its body. Its strings are parts of
// one copy of the bytes read.
type head struct {
	method, target, proto string
	host                  string
	header                http.Header
	values                []string // what the header's lists point into
	length                int64    // of the body; -1: in chunks
	close                 bool     // the connection ends after it
	upgrade               bool     // another protocol is asked for
	expects               bool     // the caller waits for 100 Continue
	hosts, lengths        int      // how many fields of the name there were
	chunked               bool
}

// reset prepares for the next request.
func (h *head) reset() {
	clear(h.header)
	clear(h.values)
	*h = head{header: h.header, values: h.values[:0]}
}

// endOfHead returns the number of bytes of the head at the beginning of b, its
// empty line included; 0 if it is not there yet.
func endOfHead(b []byte, from int) int {
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4
	}
	return 0
}

// strayLineEnd reports a line from there on that ends without CRLF: a head with
// one may never end in the way that is waited for.
func strayLineEnd(b []byte, from int) bool {
	for at := from; ; at++ {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return false
		}
		if at += i; at == 0 || b[at-1] != '\r' {
			return true
		}
	}
}

// parse reads a whole head. It follows RFC 9112, sections 2 to 6, strictly.
func (h *head) parse(raw []byte) *Fault {
	text := string(raw[:len(raw)-2])
	line, rest, _ := strings.Cut(text, "\r\n")
	if fault := h.parseRequestLine(line); fault != nil {
		return fault
	}
	if h.proto[5] != '1' {
		return bad("this version of HTTP is not spoken here, HTTP/1.1 is")
	}
	for rest != "" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		if fault := h.parseField(line); fault != nil {
			return fault
		}
	}
	return h.checkFraming()
}

func (h *head) parseRequestLine(line string) *Fault {
	var ok bool
	if h.method, line, ok = strings.Cut(line, " "); !ok || !isToken(h.method) {
		return bad("the request line is malformed")
	}
	if h.target, h.proto, ok = strings.Cut(line, " "); !ok || h.target == "" {
		return bad("the request line is malformed")
	}
	for i := range len(h.target) {
		if c := h.target[i]; c <= ' ' || c == 0x7f {
			return bad("the request target holds a control character")
		}
	}
	if len(h.proto) != len("HTTP/1.1") || !strings.HasPrefix(h.proto, "HTTP/") || h.proto[6] != '.' ||
		!isDigit(h.proto[5]) || !isDigit(h.proto[7]) {
		return bad("the request line is malformed")
	}
	return nil
}

func (h *head) parseField(line string) *Fault {
	colon := strings.IndexByte(line, ':')
	switch {
	case line[0] == ' ' || line[0] == '\t':
		return bad("a header field is folded over two lines")
	case colon <= 0:
		return bad("a header field has no name")
	case len(h.values) == maxFields:
		return &Fault{http.StatusRequestHeaderFieldsTooLarge, "the request has more than " + strconv.Itoa(maxFields) + " header fields"}
	}
	name, ok := canonicalName(line[:colon])
	if !ok {
		return bad("the name of a header field holds a character that is not allowed there")
	}
	value := strings.Trim(line[colon+1:], " \t")
	if !validValue(value) {
		return bad("the value of header field " + name + " holds a control character")
	}
	return h.add(name, value)
}

// add takes a field. Those that rule the framing are read at once.
func (h *head) add(name, value string) *Fault {
	switch name {
	case "Host":
		h.host, h.hosts = value, h.hosts+1
		return nil // net/http keeps it out of the header, too
	case "Content-Length":
		h.lengths++
		n, err := strconv.ParseUint(value, 10, 62)
		if err != nil || !isDigit(value[0]) {
			return bad("Content-Length is no number of bytes")
		}
		h.length = int64(n)
	case "Transfer-Encoding":
		if h.chunked || !strings.EqualFold(value, "chunked") {
			return bad("Transfer-Encoding may only be chunked, once")
		}
		h.chunked = true
		return nil
	case "Connection":
		h.close = h.close || hasOption(value, "close")
		h.upgrade = h.upgrade || hasOption(value, "upgrade")
	case "Expect":
		if !strings.EqualFold(value, "100-continue") {
			return bad("Expect may only be 100-continue")
		}
		h.expects = true
	}
	h.values = append(h.values, value)
	n := len(h.values)
	if known := h.header[name]; known != nil {
		h.header[name] = append(known, value)
		return nil
	}
	h.header[name] = h.values[n-1 : n : n]
	return nil
}

func (h *head) checkFraming() *Fault {
	switch {
	case h.hosts > 1, h.hosts == 0 && h.proto != "HTTP/1.0":
		return bad("a request has exactly one Host field")
	case !validHost(h.host):
		return bad("Host is malformed")
	case h.lengths > 1:
		return bad("a request has at most one Content-Length field")
	case h.chunked && h.lengths > 0:
		return bad("a request has either Content-Length or Transfer-Encoding")
	case h.chunked && h.proto == "HTTP/1.0":
		return bad("HTTP/1.0 has no Transfer-Encoding") // RFC 9112, section 6.1
	case h.chunked:
		h.length = -1
	}
	return nil
}

// parseTarget reads the four forms of RFC 9112, section 3.2, into u and may
// change the host to that of the absolute form.
func (h *head) parseTarget(u *url.URL) *Fault {
	if h.target[0] == '/' && plainTarget(h.target) {
		*u = url.URL{}
		u.Path, u.RawQuery, _ = strings.Cut(h.target, "?")
		return nil
	}
	target, authority := h.target, h.method == http.MethodConnect && h.target[0] != '/'
	if authority {
		target = "http://" + target
	}
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return bad("the request target is malformed")
	}
	if authority {
		parsed.Scheme = ""
	}
	if *u = *parsed; u.Host != "" {
		h.host = u.Host // RFC 9112, section 3.2.2
	}
	return nil
}

// plainTarget reports whether a target can be cut into path and query as it is:
// nothing in it has to be decoded, and a url.URL would write it again like that.
// A query that is empty is not plain: a url.URL keeps it in a field of its own.
func plainTarget(s string) bool {
	path, query, has := strings.Cut(s, "?")
	for i := range len(path) {
		if c := path[i]; !tokenByte[c] && !strings.ContainsRune("/:;=@,", rune(c)) || strings.IndexByte("%!#'*^`|", c) >= 0 {
			return false
		}
	}
	return has == (query != "") && strings.IndexByte(query, '#') < 0 && !strings.HasPrefix(s, "//")
}

// hasOption looks for an option in a list such as Connection's.
func hasOption(list, option string) bool {
	if strings.EqualFold(list, option) {
		return true
	}
	for part := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(part, " \t"), option) {
			return true
		}
	}
	return false
}

// validValue follows RFC 9110, section 5.5; tabs and bytes beyond ASCII are
// allowed there.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// validHost is as lenient as net/http about what a host is made of.
func validHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; !tokenByte[c] && strings.IndexByte("()[]:;,=", c) < 0 || strings.IndexByte("#^`|", c) >= 0 {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
