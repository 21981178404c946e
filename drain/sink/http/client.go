package http

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	nethttp "net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"forebay/drain"
	"forebay/policies"
)

// maxLean is the longest body that client writes. A longer one may have to be written
// while its answer is read, and goes another way.
const maxLean = 64 << 10

// errHeld is why an attempt was not written: it may not be.
var errHeld = errors.New("the attempt may not be written now")

// client makes the exchanges of drains: one request at a time on a connection, written
// and answered in the goroutine of the attempt. It is safe for concurrent use.
type client struct {
	dialer  *net.Dialer
	tls     *tls.Config
	connect time.Duration // of a handshake

	maxIdle int // of a place

	mu    sync.Mutex
	idle  map[place][]*conn // guarded by mu; those used last are last
	quits bool              // guarded by mu; what comes back is closed
	sweep *time.Timer       // guarded by mu; nil: nothing is idle
}

// place is where a connection leads to.
type place struct{ scheme, host string }

func newClient(p policies.HTTPSink, transport *nethttp.Transport, concurrency int) *client {
	return &client{
		dialer:  newDialer(p),
		tls:     transport.TLSClientConfig,
		connect: p.ConnectTimeout,
		maxIdle: concurrency,
		idle:    make(map[place][]*conn),
	}
}

// spelledOut reports whether all hosts are written as they are looked up.
func spelledOut(urls []*url.URL) bool {
	for _, u := range urls {
		if strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' }) {
			return false
		}
	}
	return true
}

// posting is a request that is to be written.
type posting struct {
	text     []byte
	headOnly bool // the answer has no body
	all      bool // of the answer every field is wanted, not those for us alone
}

// ask makes an exchange: it calls [drain.Begin] with its connection in hand, and writes the
// request once. The context or the time end it, up to the end of the answer's body,
// which must be closed; then the answer is not to be used any more.
func (c *client) ask(ctx context.Context, until time.Time, at place, q posting) (*nethttp.Response, error) {
	cn := c.take(ctx, at)
	used := cn != nil
	if !used {
		var err error
		if cn, err = c.dial(ctx, until, at); err != nil {
			return nil, err
		}
	}
	if err := drain.Begin(ctx); err != nil {
		c.put(cn) // nothing was written to it
		return nil, errHeld
	}
	cn.begin(ctx, until)
	n, err := cn.nc.Write(q.text)
	if err != nil && n == 0 && used && ctx.Err() == nil {
		cn.close()
		if cn, err = c.dial(ctx, until, at); err != nil {
			return nil, err
		}
		cn.begin(ctx, until)
		_, err = cn.nc.Write(q.text)
	}
	resp, err := cn.answer(q, err)
	if err != nil {
		cn.close()
		return nil, ended(ctx, err)
	}
	return resp, nil
}

// requests holds what requests are written into.
//
//nolint:gochecknoglobals // a pool
var requests = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// take returns a connection that the other side has not closed, or nil.
func (c *client) take(ctx context.Context, at place) *conn {
	for {
		c.mu.Lock()
		c.quits = false
		all := c.idle[at]
		if len(all) == 0 {
			c.mu.Unlock()
			return nil
		}
		cn := all[len(all)-1]
		all[len(all)-1] = nil
		c.idle[at] = all[:len(all)-1]
		c.mu.Unlock()
		if cn.quiet() && cn.watches(ctx) {
			return cn
		}
		cn.close()
	}
}

// put keeps a connection for the next request.
func (c *client) put(cn *conn) {
	cn.since = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.idle[cn.at]
	if c.quits || len(all) >= c.maxIdle {
		cn.close()
		return
	}
	c.idle[cn.at] = append(all, cn)
	if c.sweep == nil {
		c.sweep = time.AfterFunc(idleTimeout, c.tidy)
	}
}

// tidy closes what was not used for long, and comes back for what is left.
func (c *client) tidy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, oldest := time.Now(), time.Time{}
	for at, all := range c.idle {
		n := 0
		for n < len(all) && now.Sub(all[n].since) >= idleTimeout {
			all[n].close()
			n++
		}
		if all = append(all[:0], all[n:]...); len(all) == 0 {
			delete(c.idle, at)
			continue
		}
		c.idle[at] = all
		if oldest.IsZero() || all[0].since.Before(oldest) {
			oldest = all[0].since
		}
	}
	if c.sweep = nil; !oldest.IsZero() {
		c.sweep = time.AfterFunc(max(time.Second, idleTimeout-now.Sub(oldest)), c.tidy)
	}
}

// closeIdle closes what is not in use, and what comes back before there is another
// request.
func (c *client) closeIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quits = true
	for _, all := range c.idle {
		for _, cn := range all {
			cn.close()
		}
	}
	clear(c.idle)
	if c.sweep != nil {
		c.sweep.Stop()
		c.sweep = nil
	}
}

func (c *client) dial(ctx context.Context, until time.Time, at place) (*conn, error) {
	bounded, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	u := url.URL{Scheme: at.scheme, Host: at.host}
	port := u.Port()
	switch {
	case port != "":
	case at.scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	nc, err := c.dialer.DialContext(bounded, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, ended(ctx, err)
	}
	cn := newConn(c, at, nc)
	if at.scheme == "https" {
		if cn.nc, err = c.secure(bounded, nc, u.Hostname()); err != nil {
			return nil, ended(ctx, err)
		}
		cn.r.Reset(cn.nc)
	}
	cn.watches(ctx)
	return cn, nil
}

// secure makes the handshake, and closes the connection where that fails.
func (c *client) secure(ctx context.Context, nc net.Conn, name string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.connect)
	defer cancel()
	config := c.tls.Clone()
	config.ServerName = name
	secured := tls.Client(nc, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = nc.Close() // the handshake's error says more
		return nil, err
	}
	return secured, nil
}

// ended is the context's error, where that is the reason for another.
func ended(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	return err
}
