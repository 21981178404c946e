package http

import (
	"bufio"
	"bytes"
	"errors"
	nethttp "net/http"
	"net/textproto"
	"strconv"
)

// errMalformed is an answer that makes no sense. It says nothing of what was sent.
var errMalformed = errors.New("malformed answer")

// head is what is read of an answer before its body. It is as strict as the standard
// library, and where an answer is odd but plain the connection is not used again.
type head struct {
	r    *bufio.Reader
	left int  // bytes, of all the heads of an answer together
	all  bool // every field is kept, not those for us alone

	status  int
	fields  nethttp.Header
	closes  bool  // the connection is not used again
	old     bool  // HTTP/1.0
	length  int64 // of the body; below 0: not known
	chunked bool
	framed  bool   // the last field said where the body ends
	last    string // the last field that was kept; empty: the last was not
}

// read reads one head.
func (h *head) read() error {
	line, err := h.line()
	if err != nil {
		return err
	}
	if err := h.statusLine(line); err != nil {
		return err
	}
	if err := h.section(); err != nil {
		return err
	}
	if h.chunked && h.length >= 0 { // of two things that it says the one that others believe
		h.closes, h.length = true, -1
	}
	return nil
}

// section reads fields up to an empty line.
func (h *head) section() error {
	h.fields, h.length, h.chunked, h.last, h.framed = nil, -1, false, "", true
	for {
		line, err := h.line()
		switch {
		case err != nil:
			return cut(err)
		case len(line) == 0:
			return nil
		case line[0] == ' ', line[0] == '\t':
			err = h.folded(line)
		default:
			err = h.field(line)
		}
		if err != nil {
			return err
		}
	}
}

func (h *head) statusLine(line []byte) error {
	version, rest, _ := bytes.Cut(line, []byte(" "))
	code, _, _ := bytes.Cut(rest, []byte(" "))
	if len(code) != 3 || code[0] < '1' || code[0] > '9' || !isDigit(code[1]) || !isDigit(code[2]) {
		return errMalformed
	}
	switch string(version) {
	case "HTTP/1.1":
		h.old = false
	case "HTTP/1.0":
		h.old, h.closes = true, true
	default:
		return errMalformed
	}
	h.status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// field takes in a line.
func (h *head) field(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	value = bytes.Trim(value, " \t")
	if !ok || !isToken(name) || !isValue(value) {
		return errMalformed
	}
	h.last, h.framed = "", false
	switch {
	case equalFold(name, "content-length"):
		h.framed = true
		return h.setLength(value)
	case equalFold(name, "transfer-encoding"):
		h.framed = true
		return h.setCoding(value)
	case equalFold(name, "connection") && hasToken(value, "close"):
		h.closes = true
	}
	if h.all || forUs(name) {
		h.last = textproto.CanonicalMIMEHeaderKey(string(name))
		if h.fields == nil {
			h.fields = make(nethttp.Header)
		}
		h.fields[h.last] = append(h.fields[h.last], string(value))
	}
	return nil
}

// folded takes in a line that goes on with the one before. Where bodies end none may: no
// two readers would agree.
func (h *head) folded(line []byte) error {
	if h.framed || !isValue(line) {
		return errMalformed
	}
	h.closes = true
	if values := h.fields[h.last]; len(values) > 0 {
		values[len(values)-1] += " " + string(bytes.Trim(line, " \t"))
	}
	return nil
}

func (h *head) setLength(value []byte) error {
	n, err := strconv.ParseUint(string(value), 10, 63)
	if err != nil || h.length >= 0 && h.length != int64(n) {
		return errMalformed
	}
	h.length = int64(n)
	return nil
}

func (h *head) setCoding(value []byte) error {
	switch {
	case h.old: // it did not know
		return nil
	case h.chunked || !equalFold(value, "chunked"):
		return errMalformed
	}
	h.chunked = true
	return nil
}

// forUs reports whether a field is one that an outcome is made of.
func forUs(name []byte) bool {
	switch name[0] | 0x20 {
	case 'r': // Retry-After, RateLimit, RateLimit-Policy
		return len(name) > 1 && (name[1]|0x20 == 'e' || name[1]|0x20 == 'a')
	case 'f': // Forebay-Rate, Forebay-Cancel-Key
		return true
	default:
		return false
	}
}

// equalFold compares with a word in lower case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range len(b) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// line reads a line without its end. One that ends with a bare LF is taken, and ends
// the connection's use.
func (h *head) line() ([]byte, error) {
	line, err := h.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = h.longLine(line)
	}
	if err != nil && len(line) > 0 {
		return nil, cut(err)
	}
	if err != nil {
		return nil, err
	}
	if h.left -= len(line); h.left < 0 {
		return nil, errMalformed
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1], nil
	}
	h.closes = true
	return line, nil
}

// longLine reads on with a line that is longer than the buffer.
func (h *head) longLine(begun []byte) ([]byte, error) {
	line := bytes.Clone(begun)
	for {
		more, err := h.r.ReadSlice('\n')
		if line = append(line, more...); len(line) > h.left {
			return nil, errMalformed
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
