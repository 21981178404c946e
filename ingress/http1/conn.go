package http1

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstBuffer = 4 << 10
	// A connection that ends with unread bytes is read on, or the reset would
	// overtake the answer: while lingerBytes come within lingerFor, and for
	// lingerMost in all, in which most callers have sent the largest body.
	lingerBytes = 16 << 10
	lingerFor   = 2 * time.Second
	lingerMost  = 5 * time.Second
)

// The states of a connection. Only one that waits for a request is closed by
// a stop.
const (
	stateIdle int32 = iota
	stateActive
	stateClosed
)

// conn serves the requests of one connection, one after the other.
type conn struct {
	srv   *Server
	conn  net.Conn
	state atomic.Int32
	// Nanoseconds, as Server.nanos has them, after which a read or a write is broken off; 0: never.
	readUntil, writeUntil atomic.Int64

	buf        []byte // what was read: buf[start:end] is unread
	start, end int
	out        []byte // what is written

	handedOn bool

	// A body may be read on another goroutine while the answer is begun.
	saying sync.Mutex
	said   bool // guarded by saying; the answer has begun

	head head
	body body
	resp response
	url  url.URL
	req  *http.Request
	ctx  atomic.Pointer[requestContext]
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, conn: nc, buf: make([]byte, firstBuffer)}
	c.head.header = http.Header{}
	c.resp.header = http.Header{}
	c.resp.c, c.body.c = c, c
	c.body.interrupted = new(atomic.Bool)
	c.req = &http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: nc.RemoteAddr().String()}
	c.renewContext()
	return c
}

// renewContext gives the next request a context of its own: one that was asked
// for its Done channel may be held by others, and stays ended.
func (c *conn) renewContext() {
	x := &requestContext{c: c}
	c.ctx.Store(x)
	c.req = c.req.WithContext(x)
}

// serve runs until the connection ends or is handed on.
func (c *conn) serve() {
	defer c.recovered()
	for {
		switch ours, err := c.readHead(); {
		case err != nil:
			c.refuse(err)
			return
		case !ours:
			c.handedOn = true
			c.srv.handOn(c)
			return
		}
		if !c.exchange() {
			return
		}
	}
}

// readHead waits for the next request and reads its head. One that is not ours
// to serve is left unread.
func (c *conn) readHead() (ours bool, err error) {
	c.head.reset() // a refusal must not find the last request's, nor an idle connection keep it
	c.compact()
	if c.unread() == 0 {
		if err := c.awaitRequest(); err != nil {
			return false, err
		}
	}
	if !c.state.CompareAndSwap(stateIdle, stateActive) {
		return false, net.ErrClosed
	}
	n, err := c.awaitHead()
	if err != nil {
		return false, err
	}
	if fault := c.head.parse(c.buf[c.start : c.start+n]); fault != nil {
		return false, fault
	}
	if c.head.proto != "HTTP/1.1" || c.head.upgrade {
		return false, nil
	}
	if fault := c.head.parseTarget(&c.url); fault != nil {
		return false, fault
	}
	c.start += n
	return true, nil
}

// awaitRequest waits for the first byte of a request.
func (c *conn) awaitRequest() error {
	if cap(c.buf) > keptBytes {
		c.buf = make([]byte, firstBuffer)
	}
	// Their strings are parts of the last request's head.
	c.url = url.URL{}
	c.req.Method, c.req.RequestURI, c.req.Host = "", "", ""
	limit := c.srv.limits.IdleTimeout
	if c.req.Header == nil {
		limit = c.srv.limits.ReadHeaderTimeout // it has not asked for anything yet
	}
	c.readUntil.Store(c.srv.nanos(time.Now().Add(limit)))
	return c.fill()
}

// awaitHead reads until the head is whole and returns its length.
func (c *conn) awaitHead() (int, error) {
	for searched := 0; ; {
		unread := c.buf[c.start:c.end]
		n := endOfHead(unread, max(searched-3, 0))
		if strayLineEnd(unread[:cmp.Or(n, len(unread))], searched) {
			return 0, bad("a line ends without CRLF")
		}
		if n > 0 {
			return n, nil
		}
		if searched == 0 {
			c.readUntil.Store(c.srv.nanos(time.Now().Add(c.srv.limits.ReadHeaderTimeout)))
		}
		searched = len(unread)
		if searched >= c.srv.limits.MaxHeaderBytes {
			return 0, tooLarge(unread)
		}
		if err := c.more(); err != nil {
			return 0, err // the caller has left, or is too slow
		}
	}
}

func tooLarge(head []byte) *Fault {
	if bytes.IndexByte(head, '\n') < 0 {
		return &Fault{http.StatusRequestURITooLong, "the request line is too long"}
	}
	return &Fault{http.StatusRequestHeaderFieldsTooLarge, "the header is too large"}
}

// exchange has the request at hand answered. It reports whether another may follow.
func (c *conn) exchange() bool {
	now := time.Now()
	c.readUntil.Store(c.srv.nanos(now.Add(c.srv.limits.ReadTimeout)))
	c.body.reset(&c.head)
	c.said = false // nobody else is there yet
	c.writeUntil.Store(c.srv.nanos(now.Add(c.srv.limits.WriteTimeout)))
	c.resp.reset(c.request(), c.head.close)
	c.srv.handler.ServeHTTP(&c.resp, c.req)
	again := c.answer()
	c.ctx.Load().end()
	c.readUntil.Store(0)
	c.writeUntil.Store(0)
	c.forget()
	if !again {
		c.linger()
		return false
	}
	// A stop that did not find it idle is found here.
	return c.state.CompareAndSwap(stateActive, stateIdle) && !c.srv.stopping.Load()
}

// answer sends what the handler left to be sent. It reports whether another
// request may follow. What is unread of the body is read first: a caller who
// sends all before reading would block.
func (c *conn) answer() bool {
	c.resp.close = c.resp.closes() || c.srv.stopping.Load() || !c.body.drain()
	return c.resp.finish() && !c.resp.close
}

// request fills in the request that the handler sees.
func (c *conn) request() *http.Request {
	h, r := &c.head, c.req
	r.Method, r.URL, r.RequestURI, r.Host = h.method, &c.url, h.target, h.host
	r.Header, r.ContentLength, r.Close = h.header, h.length, h.close
	r.Body, r.TransferEncoding = &c.body, nil
	if h.length == 0 {
		r.Body = http.NoBody
	}
	if h.length < 0 {
		r.TransferEncoding = []string{"chunked"}
	}
	r.Form, r.PostForm, r.MultipartForm, r.Trailer, r.Pattern = nil, nil, nil, c.body.trailers, ""
	return r
}

// forget lets go of memory that only a large exchange needs.
func (c *conn) forget() {
	if cap(c.out) > keptBytes {
		c.out = nil
	}
	if cap(c.resp.body) > keptBytes {
		c.resp.body = nil
	}
}

// refuse answers a request that could not be read, where there was one, and
// says nothing to a caller who has just left.
func (c *conn) refuse(err error) {
	fault, ok := errors.AsType[*Fault](err)
	if !ok {
		return
	}
	c.req.Method, c.req.URL, c.req.Host, c.req.Header = c.head.method, &c.url, "", http.Header{}
	c.url = url.URL{}
	if t := c.head.target; t != "" && t[0] == '/' && plainTarget(t) {
		c.url.Path, c.url.RawQuery, _ = strings.Cut(t, "?")
	}
	c.req.Body, c.req.ContentLength = http.NoBody, 0
	c.body.ended = false // where it ends is not known
	c.writeUntil.Store(c.srv.nanos(time.Now().Add(c.srv.limits.WriteTimeout)))
	c.resp.reset(c.req, true)
	c.srv.refuse(&c.resp, c.req, fault)
	if c.resp.finish(); c.resp.err == nil {
		c.linger()
	}
}

// linger lets a caller who may still be sending read the answer.
func (c *conn) linger() {
	if c.body.ended && c.unread() == 0 {
		return
	}
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.readUntil.Store(0)
	for began := time.Now(); time.Since(began) < lingerMost && !c.srv.stopping.Load(); {
		_ = c.conn.SetReadDeadline(time.Now().Add(lingerFor))
		if _, err := io.CopyN(io.Discard, c.conn, lingerBytes); err != nil {
			return
		}
	}
}

// recovered ends a connection whose handler panicked; the others go on.
func (c *conn) recovered() {
	c.ctx.Load().cancel(context.Canceled)
	p := recover()
	if err, ok := p.(error); p == nil || ok && errors.Is(err, http.ErrAbortHandler) {
		return
	}
	c.srv.log.Error("handler panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
}

// unread is how many bytes have been read and not used.
func (c *conn) unread() int { return c.end - c.start }

// compact moves what is unread to the front.
func (c *conn) compact() {
	if c.start > 0 {
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start = 0
	}
}

// more reads more behind what is unread, and makes room for it.
func (c *conn) more() error {
	if c.end == len(c.buf) {
		if c.start > 0 {
			c.compact()
		} else {
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
	}
	return c.fill()
}

// fill reads once into the free end of the buffer. A read that was broken off
// for a limit that has moved since is tried again.
func (c *conn) fill() error {
	for {
		n, err := c.conn.Read(c.buf[c.end:])
		c.end += n
		if n > 0 {
			return nil
		}
		if err == nil {
			continue
		}
		if !c.stillTime(err) {
			return err
		}
	}
}

// read gives what is unread, then reads from the network.
func (c *conn) read(p []byte) (int, error) {
	if c.unread() > 0 {
		n := copy(p, c.buf[c.start:c.end])
		c.start += n
		return n, nil
	}
	for {
		n, err := c.conn.Read(p)
		if n > 0 {
			return n, nil
		}
		if err != nil && !c.stillTime(err) {
			return 0, err
		}
	}
}

// line reads up to the next CRLF, which it leaves out. A line over limit bytes,
// its end included, or with a bare LF is malformed.
func (c *conn) line(limit int) ([]byte, error) {
	for {
		unread := c.buf[c.start:c.end]
		i := bytes.IndexByte(unread, '\n')
		switch {
		case i > limit || i < 0 && len(unread) > limit:
			return nil, errChunk
		case i == 0 || i > 0 && unread[i-1] != '\r':
			return nil, errChunk
		case i > 0:
			c.start += i + 1
			return unread[:i-1], nil
		}
		if err := c.more(); err != nil {
			return nil, err
		}
	}
}

// stillTime reports whether a read was broken off by a look at a limit that was
// moved in the same moment.
func (c *conn) stillTime(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	until := c.readUntil.Load()
	if until != 0 && until <= c.srv.nanos(time.Now()) || c.over() {
		return false
	}
	// Looked at again: what ended it in between was to break this read off.
	return c.conn.SetReadDeadline(time.Time{}) == nil && !c.over()
}

// over reports whether nobody is to read on: the request has ended, its body is
// not wanted any more, or an idle connection was closed by a stop.
func (c *conn) over() bool {
	return c.ctx.Load().ending() || c.state.Load() == stateClosed || c.body.interrupted.Load()
}

// bodyEnded says that all of the request was read: from now on the next byte, or
// the end, says something about the caller.
func (c *conn) bodyEnded() {
	c.readUntil.Store(0)
	if c.unread() > 0 {
		return // the caller is there
	}
	if !c.body.lent {
		c.start, c.end = 0, 0
	}
	if c.end < len(c.buf) {
		c.ctx.Load().mayWatch()
	}
}
