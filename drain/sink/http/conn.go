package http

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"syscall"
	"time"
)

// answerBuffer is what is read of an answer at once.
const answerBuffer = 4 << 10

// conn is a connection with at most one exchange at a time.
type conn struct {
	client *client
	at     place
	nc     net.Conn
	r      *bufio.Reader
	since  time.Time // idle

	raw    syscall.RawConn // nil: not to be looked at
	peek   func(fd uintptr) bool
	silent bool // what peek found

	ctx  context.Context // of the present exchange
	stop func() bool     // stops watching it
}

func newConn(c *client, at place, nc net.Conn) *conn {
	cn := &conn{client: c, at: at, nc: nc, r: bufio.NewReaderSize(nc, answerBuffer)}
	if s, ok := nc.(syscall.Conn); ok {
		cn.raw, _ = s.SyscallConn() // nil where it cannot be looked at
	}
	cn.peek = func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		cn.silent = err == syscall.EAGAIN //nolint:errorlint // an errno
		return true
	}
	return cn
}

// quiet reports whether the other side has neither closed the connection nor said
// anything that was not asked for.
func (cn *conn) quiet() bool {
	if cn.r.Buffered() > 0 || cn.raw == nil {
		return false
	}
	return cn.raw.Read(cn.peek) == nil && cn.silent
}

// begin watches the context until end.
func (cn *conn) begin(ctx context.Context) {
	until, _ := ctx.Deadline()
	_ = cn.nc.SetDeadline(until) // a connection that is broken says so when it is written to
	cn.ctx = ctx
	cn.stop = context.AfterFunc(ctx, func() { _ = cn.nc.SetDeadline(time.Unix(1, 0)) })
}

// end is the end of an exchange, after which the connection may be used again or not.
func (cn *conn) end(again bool) {
	if stopped := cn.stop(); !stopped || !again || cn.r.Buffered() > 0 {
		cn.close()
		return
	}
	cn.ctx, cn.stop = nil, nil
	cn.client.put(cn)
}

// why is the reason that an exchange failed.
func (cn *conn) why(err error) error { return ended(cn.ctx, err) }

// close does not wait for anything: a TLS connection would want to say goodbye.
func (cn *conn) close() {
	nc := cn.nc
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	_ = nc.Close() // nothing is lost
}
