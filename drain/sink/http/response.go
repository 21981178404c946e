package http

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	nethttp "net/http"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
)

// errMalformed is an answer that makes no sense. It says nothing of what was sent.
var errMalformed = errors.New("malformed answer")

// answer reads the head of the final answer. Where a request was not written whole,
// the sink may have said why before it hung up.
func (cn *conn) answer(req *nethttp.Request, wrote error) (*nethttp.Response, error) {
	h := head{r: cn.r, left: maxAnswerFields}
	for {
		err := h.read()
		if wrote != nil && err != nil {
			return nil, wrote
		}
		if err != nil {
			return nil, err
		}
		if h.status >= 200 || h.status == nethttp.StatusSwitchingProtocols {
			break
		}
	}
	resp := &nethttp.Response{StatusCode: h.status, Header: h.fields, Request: req, ContentLength: -1, Body: nethttp.NoBody}
	length, chunked, err := h.framing()
	b := &leanBody{cn: cn, again: !h.closes && wrote == nil}
	switch {
	case err != nil:
		return nil, err
	case h.status == nethttp.StatusSwitchingProtocols:
		b.again = false
		resp.Body = b
	case length == 0 || req.Method == nethttp.MethodHead || h.status == nethttp.StatusNoContent || h.status == nethttp.StatusNotModified:
		cn.end(b.again)
	case chunked:
		b.r = &chunks{data: httputil.NewChunkedReader(cn.r), r: cn.r}
		resp.Body = b
	case length > 0:
		b.r = &io.LimitedReader{R: cn.r, N: length}
		resp.Body, resp.ContentLength = b, length
	default:
		b.r, b.again = cn.r, false
		resp.Body = b
	}
	return resp, nil
}

// leanBody is the body of an answer. With its end, or when it is closed before that,
// the exchange ends.
type leanBody struct {
	cn    *conn
	r     io.Reader // nil: nothing is to be read
	again bool      // the connection may be used again after the body's end
	whole bool
	done  bool
}

// Read implements io.Reader.
func (b *leanBody) Read(p []byte) (int, error) {
	if b.r == nil || b.done || b.whole {
		return 0, io.EOF
	}
	n, err := b.r.Read(p)
	if l, ok := b.r.(*io.LimitedReader); ok {
		switch {
		case l.N == 0:
			b.whole = true
		case errors.Is(err, io.EOF):
			return n, io.ErrUnexpectedEOF
		}
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.whole = true
		return n, io.EOF
	default:
		return n, b.cn.why(err)
	}
}

// Close implements io.Closer.
func (b *leanBody) Close() error {
	if !b.done {
		b.done = true
		b.cn.end(b.again && b.whole)
	}
	return nil
}

// chunks is a chunked body with what follows its last chunk.
type chunks struct {
	data io.Reader
	r    *bufio.Reader
}

// Read implements io.Reader.
func (c *chunks) Read(p []byte) (int, error) {
	n, err := c.data.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	trailer := head{r: c.r, left: answerBuffer}
	for {
		line, err := trailer.line()
		if err != nil {
			return n, err
		}
		if len(line) == 0 {
			return n, io.EOF
		}
	}
}

// head is what is read of an answer before its body.
type head struct {
	r    *bufio.Reader
	left int // bytes, of all the heads of an answer together

	status int
	fields nethttp.Header
	closes bool // the connection is not used again
	old    bool // HTTP/1.0
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
	h.fields = make(nethttp.Header)
	last := ""
	for {
		if line, err = h.line(); err != nil {
			return cut(err)
		}
		if len(line) == 0 {
			return nil
		}
		if last, err = h.field(line, last); err != nil {
			return err
		}
	}
}

func (h *head) statusLine(line []byte) error {
	version, rest, _ := bytes.Cut(line, []byte(" "))
	code, _, _ := bytes.Cut(rest, []byte(" "))
	status, err := strconv.Atoi(string(code))
	if err != nil || len(code) != 3 || status < 100 {
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
	h.status = status
	return nil
}

// field takes in a line, which may go on with the field before it.
func (h *head) field(line []byte, last string) (string, error) {
	if line[0] == ' ' || line[0] == '\t' {
		// Allowed once, and refused where bodies begin: no two readers would agree.
		values := h.fields[last]
		if len(values) == 0 || last == "Content-Length" || last == "Transfer-Encoding" || !isValue(line) {
			return "", errMalformed
		}
		h.closes = true
		values[len(values)-1] += " " + string(bytes.Trim(line, " \t"))
		return last, nil
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	value = bytes.Trim(value, " \t")
	if !ok || !isToken(name) || !isValue(value) {
		return "", errMalformed
	}
	key := textproto.CanonicalMIMEHeaderKey(string(name))
	h.fields[key] = append(h.fields[key], string(value))
	if key == "Connection" && hasToken(string(value), "close") {
		h.closes = true
	}
	return key, nil
}

func hasToken(list, token string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(t, " \t"), token) {
			return true
		}
	}
	return false
}

// line reads a line without its end. One that ends with a bare LF is taken, and ends
// the connection's use.
func (h *head) line() ([]byte, error) {
	line, err := h.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = h.longLine(line)
	}
	if err != nil {
		if len(line) > 0 || h.left < maxAnswerFields {
			return nil, cut(err)
		}
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

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// framing says where the body ends: after length bytes, with a last chunk, or with the
// connection where length is below 0. A sink that says two things is believed in that the
// body is chunked, and its connection is not used again.
func (h *head) framing() (length int64, chunked bool, err error) {
	lengths, codings := h.fields["Content-Length"], h.fields["Transfer-Encoding"]
	if h.old {
		codings = nil
	}
	if len(codings) > 0 {
		if len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") {
			return 0, false, errMalformed
		}
		h.closes = h.closes || len(lengths) > 0
		return -1, true, nil
	}
	if len(lengths) == 0 {
		return -1, false, nil
	}
	for _, l := range lengths {
		if l != lengths[0] {
			return 0, false, errMalformed
		}
	}
	n, err := strconv.ParseUint(lengths[0], 10, 63)
	if err != nil {
		return 0, false, errMalformed
	}
	return int64(n), false, nil
}
