package http

import (
	"context"
	"errors"
	"fmt"
	nethttp "net/http"
	"net/http/httptrace"
	"time"

	"forebay/drain"
	"forebay/policies"
)

// Reach is the way to a sink that is spoken to over HTTP: its connections, the
// choice of a URL, and what failures mean. It is safe for concurrent use.
type Reach struct {
	timeout   time.Duration
	transport *nethttp.Transport
	upstream  *upstream
}

// NewReach builds one that keeps a connection for each of so many attempts at
// a time. It connects to nothing. An error says what in the policy it cannot work
// with.
func NewReach(p policies.HTTPSink, concurrency int) (*Reach, error) {
	if len(p.URLs) == 0 {
		return nil, errors.New("no urls")
	}
	for _, u := range p.URLs {
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("url %s: not an http or https URL with a host", u.Redacted())
		}
		if u.User != nil {
			return nil, fmt.Errorf("url %s: a user name or password in a URL is not supported", u.Redacted())
		}
	}
	if p.ConnectTimeout <= 0 {
		p.ConnectTimeout = defaultConnectTimeout
	}
	if p.Timeout <= 0 {
		p.Timeout = defaultTimeout
	}
	transport, err := NewTransport(p, concurrency)
	if err != nil {
		return nil, err
	}
	return &Reach{timeout: p.Timeout, transport: transport, upstream: newUpstream(p)}, nil
}

// Exchange makes an attempt: it calls [drain.Begin] with its connection in hand,
// sends the request to one of the URLs and waits for the answer's header. From then
// on the answer has to be closed. Without one the outcome says why. All of it is
// bounded by the sink's time-out.
func (r *Reach) Exchange(ctx context.Context, req *nethttp.Request) (*Answer, drain.Outcome) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	gate := &gate{ctx: ctx, cancel: cancel}
	resp, t, err := r.upstream.send(r.transport, req.WithContext(httptrace.WithClientTrace(ctx, gate.trace())))
	if err == nil {
		return &Answer{Response: resp, reach: r, target: t, cancel: cancel}, drain.Outcome{}
	}
	cancel()
	if gate.closed.Load() {
		err = errHeld
	}
	return nil, instead(err, t)
}

// instead is what there is in the place of an answer.
func instead(err error, t *target) drain.Outcome {
	if errors.Is(err, errHeld) {
		return drain.Outcome{Unsent: true, Error: "not sent"}
	}
	return failure(err, t.url.Host, 0)
}

// Answer is what a sink answered, with its body still to be read.
type Answer struct {
	*nethttp.Response
	reach  *Reach
	target *target
	proof  proof
	cancel context.CancelFunc
}

// Host is who answered.
func (a *Answer) Host() string { return a.target.url.Host }

// Close ends the attempt.
func (a *Answer) Close() {
	a.Body.Close()
	a.cancel()
}

// CutOff is the outcome where the answer's body could not be read to its end.
func (a *Answer) CutOff(err error) drain.Outcome { return failure(err, a.Host(), a.StatusCode) }

// Failed is the outcome of an answer that is neither a success nor a verdict on the
// message: it is tried again, and not before the sink wants to be asked. It is to be
// called once.
func (a *Answer) Failed() drain.Outcome {
	out := drain.Outcome{Class: drain.Retry, Status: a.StatusCode, Error: fmt.Sprintf("status %d from %s", a.StatusCode, a.Host())}
	now := time.Now()
	wait := retryAfter(a.Header, now)
	u := a.reach.upstream
	switch a.StatusCode {
	case nethttp.StatusTooManyRequests:
		out.RetryAfter = wait // the sink as a whole
	case nethttp.StatusServiceUnavailable:
		u.rest(a.target, now, wait)
		if wait > 0 {
			out.RetryAfter = u.pause(a.target, now, wait) // the sink once no URL is left
		}
	case nethttp.StatusBadGateway, nethttp.StatusGatewayTimeout:
		u.rest(a.target, now, 0)
	}
	return out
}

// CloseIdleConnections closes connections that are not in use.
func (r *Reach) CloseIdleConnections() { r.transport.CloseIdleConnections() }

// LimitRest bounds how long a URL rests that answered 503 with a Retry-After, from
// now on: what the drains to the sink honour.
func (r *Reach) LimitRest(longest time.Duration) { r.upstream.limitRest(time.Now(), longest) }

// Targets says how the URLs are.
func (r *Reach) Targets(now time.Time) []drain.Target {
	u := r.upstream
	u.mu.Lock()
	defer u.mu.Unlock()
	targets := make([]drain.Target, 0, len(u.targets))
	for _, t := range u.targets {
		x := drain.Target{URL: t.url.Redacted(), InFlight: t.inFlight}
		if t.rested.After(now) {
			x.Resting = t.rested
		}
		targets = append(targets, x)
	}
	return targets
}
