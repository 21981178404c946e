package http

import (
	"context"
	"errors"
	"fmt"
	nethttp "net/http"
	"net/http/httptrace"
	"slices"
	"time"

	"forebay/drain"
	"forebay/policies"
)

// Sink delivers messages as HTTP requests. It is safe for concurrent use.
type Sink struct {
	policy    policies.HTTPSink
	transport *nethttp.Transport
	upstream  *upstream
}

// New builds a sink. It connects to nothing. An error says what in the policy
// it cannot work with.
func New(p policies.Sink) (*Sink, error) {
	if p.HTTP == nil {
		return nil, errors.New("not an http sink")
	}
	h := *p.HTTP
	if len(h.URLs) == 0 {
		return nil, errors.New("no urls")
	}
	for _, u := range h.URLs {
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("url %s: not an http or https URL with a host", u.Redacted())
		}
		if u.User != nil {
			return nil, fmt.Errorf("url %s: a user name or password in a URL is not supported", u.Redacted())
		}
	}
	if h.ConnectTimeout <= 0 {
		h.ConnectTimeout = defaultConnectTimeout
	}
	if h.Timeout <= 0 {
		h.Timeout = defaultTimeout
	}
	transport := newTransport(h, max(1, p.Budget.Concurrency))
	return &Sink{policy: h, transport: transport, upstream: newUpstream(transport, h)}, nil
}

// Drained is the sink as drains have it: with batches, where the policy asks for them.
func (s *Sink) Drained() drain.Sink {
	if b := s.policy.Batch; b != nil {
		return batchSink{s, *b}
	}
	return s
}

// Upstream is the way to the sink for live requests: a RoundTripper that
// chooses among the sink's URLs and replaces scheme, host, Host and, where the
// URL has one, the path of a request. Like Deliver it calls [drain.Begin]. An
// attempt is given up once nothing was sent or received for as long as the
// sink's total time-out: connecting and the answer's header take that long at
// most, and bodies may stream on. It does not close the request's body; that of its answer must be closed.
// An error is a [*Failure].
func (s *Sink) Upstream() nethttp.RoundTripper { return live{s} }

// CloseIdleConnections closes connections that are not in use.
func (s *Sink) CloseIdleConnections() { s.transport.CloseIdleConnections() }

// LimitRest bounds how long a URL rests that answered 503 with a Retry-After, from
// now on: what the drains to the sink honour.
func (s *Sink) LimitRest(longest time.Duration) { s.upstream.limitRest(time.Now(), longest) }

// Deliver implements drain.Sink: one request per message, one after the other.
// It blocks for at most the sink's total time-out per message.
func (s *Sink) Deliver(ctx context.Context, msgs []drain.Delivery) []drain.Outcome {
	outcomes := make([]drain.Outcome, len(msgs))
	for i, m := range msgs {
		outcomes[i] = s.attempt(ctx, m)
	}
	return outcomes
}

func (s *Sink) attempt(ctx context.Context, m drain.Delivery) drain.Outcome {
	ctx, cancel := context.WithTimeout(ctx, s.policy.Timeout)
	defer cancel()
	req, err := newRequest(ctx, m)
	if err != nil {
		return drain.Outcome{Class: drain.Permanent, Error: "unusable request: " + clean(err)}
	}
	resp, t, failed := s.exchange(ctx, cancel, req)
	if failed != nil {
		return *failed
	}
	defer resp.Body.Close()
	answer, err := read(resp, m.KeepAnswer)
	if err != nil {
		return failure(err, t.url.Host, resp.StatusCode)
	}
	out := s.outcome(resp, t)
	out.Answer, out.CancelKeys, out.Advice = answer, cancelKeys(resp.Header), advice(resp)
	return out
}

// exchange sends a request once it may be written, and returns its answer, or what
// there is instead.
func (s *Sink) exchange(ctx context.Context, cancel context.CancelFunc, req *nethttp.Request) (*nethttp.Response, *target, *drain.Outcome) {
	gate := &gate{ctx: ctx, cancel: cancel}
	resp, t, err := s.upstream.send(req.WithContext(httptrace.WithClientTrace(ctx, gate.trace())))
	if err != nil && gate.closed.Load() {
		return nil, t, &drain.Outcome{Unsent: true, Error: "not sent"}
	}
	if err != nil {
		failed := failure(err, t.url.Host, 0)
		return nil, t, &failed
	}
	return resp, t, nil
}

// outcome says what an answer means.
func (s *Sink) outcome(resp *nethttp.Response, t *target) drain.Outcome {
	status := resp.StatusCode
	if status >= 200 && status < 300 {
		return drain.Outcome{Class: drain.Success, Status: status}
	}
	out := drain.Outcome{Class: drain.Retry, Status: status, Error: fmt.Sprintf("status %d from %s", status, t.url.Host)}
	if slices.Contains(s.policy.Permanent, status) {
		out.Class = drain.Permanent
		return out
	}
	now := time.Now()
	wait := retryAfter(resp.Header, now)
	switch status {
	case nethttp.StatusTooManyRequests:
		out.RetryAfter = wait // the sink as a whole
	case nethttp.StatusServiceUnavailable:
		s.upstream.rest(t, now, wait)
		if wait > 0 {
			out.RetryAfter = s.upstream.pause(t, now, wait) // the sink once no URL is left
		}
	case nethttp.StatusBadGateway, nethttp.StatusGatewayTimeout:
		s.upstream.rest(t, now, 0)
	}
	return out
}

// Targets says how the URLs are.
func (s *Sink) Targets(now time.Time) []drain.Target {
	u := s.upstream
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
