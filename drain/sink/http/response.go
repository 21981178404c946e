package http

import (
	"bytes"
	"errors"
	"io"
	nethttp "net/http"
)

// answer reads the head of the final answer. Where a request was not written whole, the
// sink may have said why before it hung up.
func (cn *conn) answer(q posting, wrote error) (*nethttp.Response, error) {
	h := head{r: cn.r, left: maxAnswerFields, all: q.all}
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
	b := &leanBody{cn: cn, again: !h.closes && wrote == nil}
	resp := &nethttp.Response{StatusCode: h.status, Header: h.fields, Body: b, ContentLength: h.length}
	switch {
	case h.status == nethttp.StatusSwitchingProtocols:
		b.again = false
	case q.headOnly, h.length == 0, h.status == nethttp.StatusNoContent, h.status == nethttp.StatusNotModified:
		b.whole, resp.ContentLength = true, 0
	case h.chunked:
		b.r = &chunks{body: b}
	case h.length > 0:
		b.left = h.length
		b.r = cn.r
	default: // it ends with the connection
		b.r, b.again = cn.r, false
	}
	return resp, nil
}

// leanBody is the body of an answer. The exchange ends when it is closed.
type leanBody struct {
	cn    *conn
	r     io.Reader // nil: nothing is to be read
	left  int64     // of a body whose length is known; 0: it is not
	again bool      // the connection may be used again after the body's end
	whole bool
	done  bool
}

// Read implements io.Reader.
func (b *leanBody) Read(p []byte) (int, error) {
	if b.r == nil || b.done || b.whole {
		return 0, io.EOF
	}
	if b.left == 0 {
		n, err := b.r.Read(p)
		if b.whole = errors.Is(err, io.EOF); b.whole {
			return n, io.EOF
		}
		return n, b.cn.why(err)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); b.left == 0 {
		b.whole = true
		return n, nil
	}
	return n, b.cn.why(cut(err))
}

// Close implements io.Closer.
func (b *leanBody) Close() error {
	if !b.done {
		b.done = true
		b.cn.end(b.again && b.whole)
	}
	return nil
}

// cut is the error of something that ended too early.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// hasToken reports whether a list has a token, in whatever case.
func hasToken(list []byte, token string) bool {
	for t := range bytes.SplitSeq(list, []byte(",")) {
		if equalFold(bytes.Trim(t, " \t"), token) {
			return true
		}
	}
	return false
}
