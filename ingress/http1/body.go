package http1

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxChunkLine bounds the line before a chunk, its extensions included.
	maxChunkLine = 256
	// maxTrailer bounds the fields after the last chunk. Those that were not
	// announced are read and left out.
	maxTrailer = 4 << 10
	// maxDrain is what is read of a body that the handler left, so that the
	// connection can be used again; longer ones end it.
	maxDrain = 256 << 10
)

var (
	errChunk   = errors.New("the body's chunks are malformed")
	errTrailer = errors.New("the body's trailer is malformed or too long")
	errAfter   = errors.New("the body is read after its request has ended")
)

// body reads the body of the request at hand. It says 100 Continue before the
// first read that needs the network.
type body struct {
	c       *conn
	left    int64 // bytes up to the end of the body or of the chunk; -1: a chunk begins
	chunked bool
	expects bool // 100 Continue is still to be said
	ended   bool // all of it was read
	lent    bool // as a part of the connection's buffer
	err     error

	trailers http.Header // those that were announced; nil: none

	interrupted *atomic.Bool // whoever reads is to leave
}

func (b *body) reset(h *head) {
	b.interrupted.Store(false)
	*b = body{c: b.c, left: h.length, chunked: h.length < 0, expects: h.expects, interrupted: b.interrupted}
	if b.chunked {
		b.trailers = announced(h.header["Trailer"])
	}
	if b.left == 0 {
		_ = b.end()
	}
}

// end notes that all was read.
func (b *body) end() error {
	b.ended, b.err = true, io.EOF
	b.c.bodyEnded()
	return io.EOF
}

// Read implements io.Reader. Errors are final.
func (b *body) Read(p []byte) (n int, err error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.err = b.sayContinue(); b.err != nil {
		return 0, b.err
	}
	if b.chunked && b.left <= 0 {
		if b.err = b.nextChunk(); errors.Is(b.err, io.EOF) {
			return 0, b.end()
		} else if b.err != nil {
			return 0, b.err
		}
	}
	n, err = b.c.read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case err != nil:
		b.err = cut(err)
	case b.left == 0 && !b.chunked:
		return n, b.end()
	}
	return n, b.err
}

// Whole returns all of the body where it has arrived already, and reads it by
// that; nil where it has not. It is good until ServeHTTP returns.
func (b *body) Whole() []byte {
	if b.err != nil || b.chunked || b.left > int64(b.c.unread()) {
		return nil
	}
	end := b.c.start + int(b.left)
	whole := b.c.buf[b.c.start:end:end]
	b.c.start, b.left, b.lent = end, 0, true
	_ = b.end()
	return whole
}

// Close implements io.Closer; the connection reads what is left.
func (b *body) Close() error { return nil }

// Interrupt makes a Read end that waits on another goroutine, and those after
// it fail if they would have to wait. It has to have ended before ServeHTTP returns.
func (b *body) Interrupt() {
	b.interrupted.Store(true)
	_ = b.c.conn.SetReadDeadline(longAgo()) // where it fails, so does the read
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (b *body) sayContinue() error {
	if !b.expects {
		return nil
	}
	b.expects = false
	b.c.saying.Lock()
	defer b.c.saying.Unlock()
	if b.c.unread() > 0 || b.c.said {
		return nil // it did not wait, or is past being told
	}
	_, err := b.c.conn.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	return err
}

// nextChunk reads the line before a chunk and, after the last one, the trailer:
// then it returns io.EOF. RFC 9112, section 7.1.
func (b *body) nextChunk() error {
	if b.left == 0 { // behind a chunk
		if line, err := b.c.line(2); err != nil || len(line) != 0 {
			return malformedChunk(err)
		}
	}
	line, err := b.c.line(maxChunkLine)
	if err != nil {
		return malformedChunk(err)
	}
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		if !validValue(string(line[i:])) {
			return errChunk
		}
		line = bytes.TrimRight(line[:i], " \t") // extensions mean nothing to us
	}
	size, err := strconv.ParseUint(string(line), 16, 62)
	if err != nil || !isHex(line[0]) {
		return errChunk
	}
	if b.left = int64(size); size == 0 {
		return b.trailer()
	}
	return nil
}

func malformedChunk(err error) error {
	if err == nil {
		return errChunk
	}
	return cut(err)
}

func isHex(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }

func (b *body) trailer() error {
	for left := maxTrailer; left > 0; {
		line, err := b.c.line(left)
		switch {
		case errors.Is(err, errChunk):
			return errTrailer
		case err != nil:
			return cut(err)
		case len(line) == 0:
			return io.EOF
		}
		field, value, ok := strings.Cut(string(line), ":")
		name, token := canonicalName(field)
		if !ok || !token || !validValue(value) {
			return errTrailer
		}
		if _, announced := b.trailers[name]; announced {
			b.trailers[name] = append(b.trailers[name], strings.Trim(value, " \t"))
		}
		left -= len(line) + 2
	}
	return errTrailer
}

// drain reads what the handler left. It reports whether the connection stands
// at the next request then.
func (b *body) drain() bool {
	if b.interrupted.Swap(false) {
		// It was being waited for: the answer comes first, and linger reads on.
		_ = b.c.conn.SetReadDeadline(time.Time{}) // where it fails, so does the answer
		b.err = errAfter
		return false
	}
	if b.err == nil && !b.expects && (b.chunked || b.left <= maxDrain) {
		_, _ = io.CopyN(io.Discard, b, maxDrain+1)
	}
	b.err = errAfter
	return b.ended
}
