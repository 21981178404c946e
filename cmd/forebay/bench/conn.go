package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// conn is one connection, opened again whenever the target ends it. It has one
// request at a time and is no client for anything else: what it spends is missing
// where target and load share a machine.
type conn struct {
	cfg    Config
	addr   string
	head   []byte        // of every request, up to the fields that differ
	asked  *http.Request // tells the reader of answers the method
	opened *atomic.Int64

	nc     net.Conn // nil: not open
	r      *bufio.Reader
	out    []byte
	unhook func() bool // takes the end of the run off nc
}

func newConn(cfg Config, opened *atomic.Int64) *conn {
	return &conn{
		cfg: cfg, addr: address(cfg.Target), head: head(cfg), asked: &http.Request{Method: cfg.Method},
		opened: opened, r: bufio.NewReaderSize(nil, 4<<10),
	}
}

func address(target *url.URL) string {
	port := target.Port()
	if port == "" {
		port = "80"
		if target.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(target.Hostname(), port)
}

// head writes the request line and the fields that all requests share.
func head(cfg Config) []byte {
	var b bytes.Buffer
	host := cfg.Header.Get("Host")
	if host == "" {
		host = cfg.Target.Host
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", cfg.Method, cfg.Target.RequestURI(), host)
	fields := cfg.Header.Clone()
	if fields == nil {
		fields = http.Header{}
	}
	fields.Del("Host")
	if fields["User-Agent"] == nil {
		fields.Set("User-Agent", "forebay-bench")
	}
	_ = fields.Write(&b) // into memory
	return b.Bytes()
}

// open dials. The end of ctx breaks off whatever the connection does from then on.
func (c *conn) open(ctx context.Context, deadline time.Time) error {
	dialing, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	nc, err := c.dial(dialing)
	if err != nil {
		return err
	}
	c.opened.Add(1)
	c.nc = nc
	c.r.Reset(nc)
	c.unhook = context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) }) // fails where nothing is under way
	return nil
}

func (c *conn) dial(ctx context.Context) (net.Conn, error) {
	if c.cfg.Target.Scheme == "https" {
		d := tls.Dialer{Config: &tls.Config{
			ServerName: c.cfg.Target.Hostname(), RootCAs: c.cfg.Roots,
			NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12,
		}}
		return d.DialContext(ctx, "tcp", c.addr)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", c.addr)
}

func (c *conn) close() {
	if c.nc == nil {
		return
	}
	c.unhook()
	_ = c.nc.Close() // it has been of use
	c.nc = nil
}

// exchange sends request number n and reads its answer to the end. Status is zero
// where there was none.
func (c *conn) exchange(ctx context.Context, n uint64, deadline time.Time) (status int, failure Failure) {
	if c.nc == nil {
		if err := c.open(ctx, deadline); err != nil {
			return 0, dialFailure(ctx, err)
		}
	}
	if err := c.nc.SetDeadline(deadline); err != nil {
		c.close()
		return 0, exchangeFailure(ctx, err)
	}
	if ctx.Err() != nil { // the deadline may have been set over the end of the run
		return 0, Interrupted
	}
	status, keep, err := c.roundTrip(n)
	if !keep {
		c.close()
	}
	if err != nil {
		return 0, exchangeFailure(ctx, err)
	}
	return status, Answered
}

func (c *conn) roundTrip(n uint64) (status int, keep bool, err error) {
	_, wrote := c.nc.Write(c.request(n))
	// A target may answer before it has the whole request, and close.
	resp, err := c.answer()
	if err != nil && wrote != nil {
		return 0, false, wrote
	}
	if err != nil {
		return 0, false, err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, false, err
	}
	return resp.StatusCode, wrote == nil && !resp.Close, nil
}

// request writes a request into memory that the next one is written over.
func (c *conn) request(n uint64) []byte {
	b := append(c.out[:0], c.head...)
	if c.cfg.IdempotencyKey != "" {
		b = append(append(b, "Idempotency-Key: "...), c.cfg.IdempotencyKey...)
		b = append(strconv.AppendUint(append(b, '-'), n, 10), "\r\n"...)
	}
	var body []byte
	if len(c.cfg.Bodies) > 0 {
		body = c.cfg.Bodies[n%uint64(len(c.cfg.Bodies))]
		b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10)
		b = append(b, "\r\n"...)
	}
	c.out = append(append(b, "\r\n"...), body...)
	return c.out
}

// answer reads the head of the final answer.
func (c *conn) answer() (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(c.r, c.asked)
		if err != nil || resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
}
