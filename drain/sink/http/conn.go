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
	done <-chan struct{} // whose end is watched
	stop func() bool     // stops watching; nil: nothing is watched
}

func newConn(c *client, at place, nc net.Conn) *conn {
	cn := &conn{client: c, at: at, nc: nc, r: bufio.NewReaderSize(nc, answerBuffer)}
	if s, ok := nc.(syscall.Conn); ok {
		cn.raw, _ = s.SyscallConn() // nil where it cannot be looked at
	}
	cn.peek = func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		cn.silent = err == syscall.EAGAIN
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

// watches has the end of a context end whatever is under way, from now on. What drains
// give has the same end for all attempts, so that it is watched once. It is false where
// the connection cannot be used any more.
func (cn *conn) watches(ctx context.Context) bool {
	switch {
	case cn.stop == nil:
	case cn.done == ctx.Done():
		return true
	case !cn.stop():
		return false // it may be ended at any time
	}
	cn.done = ctx.Done()
	cn.stop = context.AfterFunc(ctx, func() { _ = cn.nc.SetDeadline(time.Unix(1, 0)) })
	return true
}

// begin bounds an exchange in time.
func (cn *conn) begin(ctx context.Context, until time.Time) {
	_ = cn.nc.SetDeadline(until) // a connection that is broken says so when it is written to
	cn.ctx = ctx
	if ctx.Err() != nil {
		_ = cn.nc.SetDeadline(time.Unix(1, 0)) // what watches may have come before
	}
}

// end is the end of an exchange, after which the connection may be used again or not.
func (cn *conn) end(again bool) {
	if !again || cn.r.Buffered() > 0 {
		cn.close()
		return
	}
	cn.ctx = nil // it may hold a message
	cn.client.put(cn)
}

// why is the reason that something failed.
func (cn *conn) why(err error) error { return ended(cn.ctx, err) }

// close does not wait for anything: a TLS connection would want to say goodbye.
func (cn *conn) close() {
	if cn.stop != nil {
		cn.stop()
	}
	nc := cn.nc
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	_ = nc.Close() // nothing is lost
}
