package http1

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// requestContext is done when the caller has left, when the server is cut off,
// and when the request has ended. The connection is watched for a caller who
// leaves only from the server's next look at it on, and only if somebody called
// Done: a request that is answered soon costs nothing for it.
type requestContext struct {
	c *conn

	mu       sync.Mutex
	done     chan struct{}
	err      error
	ready    bool          // nothing is left to be read of the request
	watching chan struct{} // closed when the look at the connection has ended
}

var _ context.Context = (*requestContext)(nil)

// Deadline implements context.Context.
func (x *requestContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context.
func (x *requestContext) Value(any) any { return nil }

// Err implements context.Context.
func (x *requestContext) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

// Done implements context.Context.
func (x *requestContext) Done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done == nil {
		x.done = make(chan struct{})
		if x.err != nil {
			close(x.done)
		}
	}
	return x.done
}

// mayWatch says that nothing is left to be read of the request.
func (x *requestContext) mayWatch() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ready = true
}

// watchIfAsked begins to watch for the caller's leaving where somebody wants to
// know of it.
func (x *requestContext) watchIfAsked() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ready && x.done != nil && x.err == nil && x.watching == nil {
		x.watching = make(chan struct{})
		go x.watch(x.watching)
	}
}

// ending reports whether the request is over for whoever reads on.
func (x *requestContext) ending() bool { return x.Err() != nil }

// watch waits for the caller to leave, or for the first byte of the next
// request, which it keeps.
func (x *requestContext) watch(ended chan<- struct{}) {
	defer close(ended)
	if err := x.c.fill(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		x.cancel(context.Canceled)
	}
}

func (x *requestContext) cancel(cause error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil {
		return
	}
	x.err = cause
	if x.done != nil {
		close(x.done)
	}
}

// end cancels what still hangs on the request, and waits until nobody reads the
// connection any more.
func (x *requestContext) end() {
	x.mu.Lock()
	quiet := x.done == nil && x.err == nil
	x.ready = false
	watching := x.watching
	x.mu.Unlock()
	if quiet {
		return
	}
	x.cancel(context.Canceled)
	if watching != nil {
		_ = x.c.conn.SetReadDeadline(longAgo())
		<-watching
		_ = x.c.conn.SetReadDeadline(time.Time{})
	}
	x.c.renewContext() // whoever still holds this one finds it ended
}

func longAgo() time.Time { return time.Unix(1, 0) }
