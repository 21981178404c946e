package http

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"forebay/drain"
)

// gate holds an attempt that has its connection until it may be written.
type gate struct {
	ctx    context.Context // of the attempt
	cancel context.CancelFunc
	closed atomic.Bool // it must not be written
	passed atomic.Bool // it may have been
}

// trace returns a hook that the transport calls between finding a connection and
// writing to it. It cannot refuse, so the connection is made to: a write whose
// deadline is over writes nothing. That costs the connection.
func (g *gate) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if drain.Begin(g.ctx) == nil {
			g.passed.Store(true)
			return
		}
		g.closed.Store(true)
		if info.Conn.SetWriteDeadline(time.Unix(1, 0)) != nil {
			info.Conn.Close() // it is broken already
		}
		g.cancel()
	}}
}
