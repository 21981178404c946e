package http1

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves connections with the handler and the limits of an http.Server,
// which serves those that are handed on.
type Server struct {
	handler http.Handler
	limits  *http.Server
	refuse  func(http.ResponseWriter, *http.Request, *Fault)
	log     *slog.Logger

	born     time.Time              // limits are held in nanoseconds since: a clock that is set does not move them
	stopping atomic.Bool            // every answer is the last on its connection
	closing  atomic.Bool            // and connections that wait for a request are closed
	accepted atomic.Uint64          // connections
	now      atomic.Pointer[[]byte] // as Date has it

	mu        sync.Mutex
	others    *handed // connections for the http.Server
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	gone      chan struct{} // closed when the last connection goes, while stopping
	watched   chan struct{} // closed to end the look at limits; nil: nobody looks
}

// New returns a Server that is not listening. Of limits, every time-out and
// MaxHeaderBytes must be set. refuse answers a request that was refused before
// the handler could see it, whose *http.Request says little more than its method.
func New(limits *http.Server, refuse func(http.ResponseWriter, *http.Request, *Fault), log *slog.Logger) *Server {
	handler := limits.Handler
	// Of a connection that is handed on, the first request alone was read strictly.
	limits.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		handler.ServeHTTP(w, r)
	})
	return &Server{
		born: time.Now(), handler: handler, limits: limits, refuse: refuse, log: log,
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
	}
}

// Serve accepts connections until the listener fails or the server is shut
// down: then it returns http.ErrServerClosed. It may be called for several
// listeners at once.
func (s *Server) Serve(ln net.Listener) error {
	if !s.open(ln) {
		_ = ln.Close()
		return http.ErrServerClosed
	}
	defer s.closed(ln)
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		if err != nil {
			if s.stopping.Load() {
				return http.ErrServerClosed
			}
			if pause = acceptAgain(err, pause); pause == 0 {
				return err
			}
			s.log.Warn("connection not accepted", slog.Any("error", err), slog.Duration("again_in", pause))
			time.Sleep(pause)
			continue
		}
		pause = 0
		s.start(nc)
	}
}

// acceptAgain is how long to wait after a failure that passes, such as too many
// open files; 0: it does not pass.
func acceptAgain(err error, last time.Duration) time.Duration {
	if failed, ok := errors.AsType[net.Error](err); !ok || !failed.Temporary() { //nolint:staticcheck // as net/http does: there is no other way to tell
		return 0
	}
	return min(max(2*last, 5*time.Millisecond), time.Second)
}

// open notes a listener, and begins to serve what is handed on.
func (s *Server) open(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.listeners[ln] = struct{}{}
	if s.others == nil {
		s.others = &handed{addr: ln.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})}
		go func() { _ = s.limits.Serve(s.others) }()
	}
	return true
}

func (s *Server) closed(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) start(nc net.Conn) {
	s.accepted.Add(1)
	c := newConn(s, nc)
	s.mu.Lock()
	if s.closing.Load() { // Shutdown has counted the connections already
		s.mu.Unlock()
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	if s.watched == nil {
		s.tell(time.Now())
		s.watched = make(chan struct{})
		go s.watch(s.watched)
	}
	s.mu.Unlock()
	go func() {
		defer s.end(c)
		c.serve()
	}()
}

// end forgets a connection and closes it, unless it was handed on.
func (s *Server) end(c *conn) {
	if !c.handedOn {
		_ = c.conn.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) > 0 {
		return
	}
	if s.watched != nil {
		close(s.watched)
		s.watched = nil
	}
	if s.gone != nil {
		close(s.gone)
		s.gone = nil
	}
}

// handOn gives a connection, and what was read of it, to the http.Server.
func (s *Server) handOn(c *conn) {
	unread := c.buf[c.start:c.end]
	s.mu.Lock()
	delete(s.conns, c) // nobody holds it against our limits any more
	s.mu.Unlock()
	_ = c.conn.SetDeadline(time.Time{})
	s.others.give(&prefixed{Conn: c.conn, unread: unread})
}

const (
	settleQuiet = 20 * time.Millisecond
	settleMost  = time.Second
)

// settle goes on accepting until nobody comes any more, or for settleMost: closing a
// listener resets those who wait to be accepted, closing a connection a request that
// nobody read yet.
func (s *Server) settle(ctx context.Context) {
	quiet := time.NewTicker(settleQuiet)
	defer quiet.Stop()
	most := time.NewTimer(settleMost)
	defer most.Stop()
	for before := s.accepted.Load(); ; {
		select {
		case <-quiet.C:
		case <-most.C:
			return
		case <-ctx.Done():
			return
		}
		now := s.accepted.Load()
		if now == before {
			return
		}
		before = now
	}
}

// Shutdown serves what callers had begun when it was called, stops listening, closes
// connections that wait for a request, and waits for the others to end; when ctx ends
// first, it returns its error. From the call on every answer is the last on its
// connection.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Store(true)
	s.settle(ctx)
	s.mu.Lock()
	s.closing.Store(true)
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for c := range s.conns {
		if c.state.CompareAndSwap(stateIdle, stateClosed) {
			_ = c.conn.SetReadDeadline(longAgo())
		}
	}
	gone := s.gone
	if gone == nil && len(s.conns) > 0 {
		gone = make(chan struct{})
		s.gone = gone
	}
	s.mu.Unlock()
	if err := s.limits.Shutdown(ctx); err != nil {
		return err
	}
	if gone == nil {
		return nil
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops listening and cuts every connection off.
func (s *Server) Close() error {
	s.stopping.Store(true)
	s.mu.Lock()
	s.closing.Store(true)
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for c := range s.conns {
		c.ctx.Load().cancel(context.Canceled)
		_ = c.conn.Close()
	}
	s.mu.Unlock()
	return s.limits.Close()
}

// limitsEvery is how often connections are held against their time-outs, and
// how late it may be seen that a caller has left.
const limitsEvery = 500 * time.Millisecond

func (s *Server) watch(ended <-chan struct{}) {
	t := time.NewTicker(limitsEvery)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			s.tell(now)
			s.enforce(s.nanos(now))
		case <-ended:
			return
		}
	}
}

// enforce breaks off reads and writes that are over their limit, and begins to
// watch the callers of requests that take long.
func (s *Server) enforce(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if until := c.readUntil.Load(); until != 0 && until <= now {
			_ = c.conn.SetReadDeadline(longAgo())
		}
		if until := c.writeUntil.Load(); until != 0 && until <= now {
			_ = c.conn.SetWriteDeadline(longAgo())
		}
		c.ctx.Load().watchIfAsked()
	}
}

// nanos is a time as limits are held; 0 stands for never.
func (s *Server) nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(int64(t.Sub(s.born)), 1)
}

// date is the Date field's value. It is made twice a second.
func (s *Server) date() []byte { return *s.now.Load() }

func (s *Server) tell(now time.Time) {
	text := now.UTC().AppendFormat(nil, http.TimeFormat)
	s.now.Store(&text)
}

// handed is the listener of connections that are handed on.
type handed struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (h *handed) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return h.addr }

// prefixed is a connection of which something was read.
type prefixed struct {
	net.Conn
	unread []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.unread) > 0 {
		n := copy(b, p.unread)
		p.unread = p.unread[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// CloseWrite lets net/http half-close, as it does with a TCP connection.
func (p *prefixed) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
