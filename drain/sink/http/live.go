package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"forebay/drain"
)

// errSilent is why a live request is given up whose sink says nothing for too long.
var errSilent = errors.New("the sink was silent for too long")

// live is the way to the sink for requests whose callers wait for the answer.
type live struct{ sink *Sink }

// RoundTrip implements http.RoundTripper; see Sink.Upstream.
func (l live) RoundTrip(req *nethttp.Request) (*nethttp.Response, error) {
	p, err := l.authorize(req.Context())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	a := &liveAttempt{limit: l.sink.timeout, cancel: cancel}
	a.timer = time.AfterFunc(a.limit, a.giveUp)
	gate := &gate{ctx: ctx, cancel: func() { cancel(context.Canceled) }}
	out := req.WithContext(httptrace.WithClientTrace(ctx, gate.trace()))
	if p.of != nil {
		out.Header = req.Header.Clone() // a RoundTripper must not change req
		p.put(out.Header)
	}
	if req.Body != nil && req.Body != nethttp.NoBody {
		out.Body = &question{progress{ReadCloser: req.Body, a: a}}
	}
	resp, t, err := l.sink.upstream.send(l.sink.transport, out)
	if err != nil {
		a.end()
		return nil, &Failure{
			category: category(err), host: t.url.Host, err: err,
			Held: gate.closed.Load(), Caller: a.broken.Load(), Unsent: !gate.passed.Load(), Timeout: a.silent.Load() || category(err) == timedOut,
		}
	}
	a.timer.Reset(a.limit)
	l.sink.live(resp, t)
	p.refused(resp.StatusCode) // its caller is told all the same
	resp.Body = a.body(resp)
	return resp, nil
}

// authorize makes the proof of a live request, which has no signature: its body streams.
func (l live) authorize(ctx context.Context) (proof, error) {
	i := &l.sink.identity
	if i.tokens == nil && len(i.keys) == 0 {
		return proof{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.sink.timeout)
	defer cancel()
	p, err := i.authorize(ctx)
	if err == nil {
		return p, nil
	}
	out := l.sink.unproven(err)
	return proof{}, &Failure{category: out.Error, err: err, Unsent: true, NoToken: true}
}

// live takes note of what an answer to a live request says of its URL.
func (s *Sink) live(resp *nethttp.Response, t *target) {
	now := time.Now()
	switch resp.StatusCode {
	case nethttp.StatusServiceUnavailable:
		s.upstream.rest(t, now, retryAfter(resp.Header, now))
	case nethttp.StatusBadGateway, nethttp.StatusGatewayTimeout:
		s.upstream.rest(t, now, 0)
	}
}

// liveAttempt watches over a live request: it goes on for as long as something
// is sent or received at least once in limit.
type liveAttempt struct {
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
	silent atomic.Bool
	asks   atomic.Bool // the caller is asked for more of the body
	broken atomic.Bool // the caller's body has no end

	mu     sync.Mutex
	tunnel io.Closer // guarded by mu; what to close where cancelling does not
}

func (a *liveAttempt) giveUp() {
	a.silent.Store(true)
	if a.asks.Load() {
		a.broken.Store(true) // it is not the sink that is waited for
	}
	a.cancel(errSilent)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tunnel != nil {
		_ = a.tunnel.Close() // it is given up anyway
	}
}

// end lets go of all that the attempt holds.
func (a *liveAttempt) end() {
	a.timer.Stop()
	a.cancel(context.Canceled)
}

// body is the answer's body. That of 101 is a connection, and can be written to.
func (a *liveAttempt) body(resp *nethttp.Response) io.ReadCloser {
	b := &progress{ReadCloser: resp.Body, a: a, last: true}
	w, ok := resp.Body.(io.Writer)
	if resp.StatusCode != nethttp.StatusSwitchingProtocols || !ok {
		return b
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tunnel = resp.Body
	return &tunnel{b, w}
}

// progress takes note of what is read.
type progress struct {
	io.ReadCloser
	a    *liveAttempt
	last bool // with it the attempt ends
}

// Read implements io.Reader.
func (p *progress) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if n > 0 && !p.a.silent.Load() {
		p.a.timer.Reset(p.a.limit)
	}
	return n, err
}

// question is the body of a request.
type question struct{ progress }

// Read implements io.Reader.
func (q *question) Read(b []byte) (int, error) {
	q.a.asks.Store(true)
	n, err := q.progress.Read(b)
	q.a.asks.Store(false)
	if err != nil && !errors.Is(err, io.EOF) {
		q.a.broken.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (p *progress) Close() error {
	if p.last {
		defer p.a.end()
	}
	return p.ReadCloser.Close()
}

// tunnel is the body of an answer that changed the protocol.
type tunnel struct {
	*progress
	w io.Writer
}

// Write implements io.Writer.
func (t *tunnel) Write(b []byte) (int, error) {
	t.a.timer.Reset(t.a.limit)
	return t.w.Write(b)
}

// Failure is why a live request has no answer. It is an error.
type Failure struct {
	Held    bool // the sink's rate did not allow it to be written in time: there was no attempt
	Caller  bool // the request's body had no end, or came too slowly
	Unsent  bool // nothing of it was written
	Timeout bool
	NoToken bool // none could be had that shows the sink who sends

	category, host string
	err            error
}

// Error implements error. It says nothing of what the peer sent.
func (f *Failure) Error() string {
	if f.host == "" {
		return f.category
	}
	return f.category + ": " + f.host
}

// Unwrap returns what the transport said.
func (f *Failure) Unwrap() error { return f.err }

// Outcome is the failure as a breaker counts it.
func (f *Failure) Outcome() drain.Outcome {
	o := drain.Outcome{Class: drain.Retry, Error: f.Error(), Unsent: f.Held}
	if f.Timeout {
		o.Class = drain.Timeout
	}
	return o
}

// LiveOutcome is an answer to a live request as a breaker counts it. What it asks
// for is its caller's business, a quota too, which may be the caller's own; but
// Forebay-Rate and Forebay-Cancel-Key are for us.
func LiveOutcome(resp *nethttp.Response) drain.Outcome {
	o := drain.Outcome{Status: resp.StatusCode, Advice: askedRate(resp.Header), CancelKeys: cancelKeys(resp.Header)}
	if o.Status < 400 {
		o.Class = drain.Success
		return o
	}
	o.Class, o.Error = drain.Retry, fmt.Sprintf("status %d from %s", o.Status, resp.Request.URL.Host)
	return o
}

// ProxyError is the failure in the words of RFC 9209, section 2.3.
func (f *Failure) ProxyError() string {
	if f.NoToken {
		return "destination_unavailable"
	}
	if f.Timeout {
		if f.Unsent {
			return "connection_timeout"
		}
		return "http_response_timeout"
	}
	if word, ok := proxyErrors[f.category]; ok {
		return word
	}
	return "http_protocol_error"
}

var proxyErrors = map[string]string{
	"refused address":    "destination_ip_prohibited",
	"unresolved host":    "dns_error",
	"connection refused": "connection_refused",
	"connection reset":   "connection_terminated",
	"tls":                "tls_protocol_error",
	"unreachable":        "destination_ip_unroutable",
}
