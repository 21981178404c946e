package ingress

import (
	"cmp"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"forebay/ingress/http1"
)

// ServerConfig bounds what one listener may be made to hold. A zero field has
// the default that stands with it.
type ServerConfig struct {
	ReadHeaderTimeout time.Duration // 5 s
	ReadTimeout       time.Duration // of a whole request; 30 s
	IdleTimeout       time.Duration // 2 min
	// WaitMax is that of Config; answers have half a minute beyond it.
	WaitMax        time.Duration // 30 s
	MaxHeaderBytes int           // 32 KiB
}

// NewServer returns a server for handler with every limit set. It does not
// listen. What it reports itself, panics included, goes to log.
func NewServer(handler http.Handler, cfg ServerConfig, log *slog.Logger) *http1.Server {
	return http1.New(limits(handler, cfg, log), refuse, log)
}

// refuse answers what is no request that a handler could see.
func refuse(w http.ResponseWriter, r *http.Request, fault *http1.Fault) {
	x := begin(w, r, true)
	x.fail(problemOfFault(fault))
}

func limits(handler http.Handler, cfg ServerConfig, log *slog.Logger) *http.Server {
	read := cmp.Or(cfg.ReadTimeout, 30*time.Second)
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: cmp.Or(cfg.ReadHeaderTimeout, 5*time.Second),
		ReadTimeout:       read,
		// It runs from the end of the header, so that it covers the body, the
		// longest wait, and the answer's way to a slow caller.
		WriteTimeout:   read + cmp.Or(cfg.WaitMax, defaultWaitMax) + 30*time.Second,
		IdleTimeout:    cmp.Or(cfg.IdleTimeout, 2*time.Minute),
		MaxHeaderBytes: cmp.Or(cfg.MaxHeaderBytes, 32<<10),
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: 250},
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// OPTIONS * is answered by the handler, as everything is.
		DisableGeneralOptionsHandler: true,
	}
}

// LimitListener returns a listener that has at most n connections open at a
// time; n is at least 1. Those beyond it wait in the kernel's queue. Close unblocks Accept and
// leaves open connections alone.
func LimitListener(l net.Listener, n int) net.Listener {
	return &limitListener{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

type limitListener struct {
	net.Listener
	slots  chan struct{} // one element for each open connection
	once   sync.Once
	closed chan struct{} // closed by Close
}

// Accept waits for a slot, then for a connection.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, release: func() { <-l.slots }}, nil
}

// Close stops listening.
func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

// CloseWrite lets net/http half-close after it refused a body, so that the
// refusal reaches a caller who is still sending.
func (c *limitedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close gives the slot back, once.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}
