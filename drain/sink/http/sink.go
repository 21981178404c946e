package http

import (
	"context"
	"errors"
	"fmt"
	nethttp "net/http"
	"slices"
	"time"

	"forebay/drain"
	"forebay/policies"
)

// Sink delivers messages as HTTP requests. It is safe for concurrent use.
type Sink struct {
	*Reach
	policy   policies.HTTPSink
	identity identity
	client   *client // nil: the transport does it all
}

// New builds a sink. It connects to nothing. An error says what in the policy
// it cannot work with.
func New(p policies.Sink) (*Sink, error) {
	if p.HTTP == nil {
		return nil, errors.New("not an http sink")
	}
	r, err := NewReach(*p.HTTP, p.Budget.Concurrency)
	if err != nil {
		return nil, err
	}
	s := &Sink{Reach: r, policy: *p.HTTP}
	s.policy.Timeout = r.timeout
	if s.identity, err = newIdentity(s.policy); err != nil {
		return nil, err
	}
	if spelledOut(p.HTTP.URLs) {
		s.client = newClient(*p.HTTP, r.transport, max(1, p.Budget.Concurrency))
	}
	return s, nil
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
func (s *Sink) CloseIdleConnections() {
	s.Reach.CloseIdleConnections()
	if t := s.identity.tokens; t != nil {
		t.via.CloseIdleConnections()
	}
	if s.client != nil {
		s.client.closeIdle()
	}
}

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
	until := time.Now().Add(s.timeout)
	p, err := s.prove(ctx, until, m.ID, m.Body)
	if err != nil {
		return s.unproven(err)
	}
	if s.client != nil && len(m.Body) <= maxLean {
		a, failed := s.ask(ctx, until, m, p)
		return s.answered(a, failed, m)
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	req, err := newRequest(ctx, m, p)
	if err != nil {
		return drain.Outcome{Class: drain.Permanent, Error: "unusable request: " + clean(err)}
	}
	a, failed := s.exchange(ctx, req, p)
	return s.answered(a, failed, m)
}

// exchange is Exchange with a proof that the request has.
func (s *Sink) exchange(ctx context.Context, req *nethttp.Request, p proof) (*Answer, drain.Outcome) {
	a, failed := s.Exchange(ctx, req)
	if a != nil {
		a.proof = p
	}
	return a, failed
}

// answered reads an answer to its end; a is nil where there is none.
func (s *Sink) answered(a *Answer, failed drain.Outcome, m drain.Delivery) drain.Outcome {
	if a == nil {
		return failed
	}
	defer a.Close()
	answer, err := read(a.Response, m.KeepAnswer)
	if err != nil {
		return a.CutOff(err)
	}
	out := s.outcome(a)
	out.Answer, out.CancelKeys, out.Advice = answer, cancelKeys(a.Header), advice(a.Response)
	return out
}

// ask sends a message once it may be written, and returns the answer, or what there is
// instead.
func (s *Sink) ask(ctx context.Context, until time.Time, m drain.Delivery, p proof) (*Answer, drain.Outcome) {
	text := requests.Get().(*[]byte)
	defer requests.Put(text)
	q := posting{headOnly: m.Method == nethttp.MethodHead, all: m.KeepAnswer > 0}
	resp, t, err := s.upstream.try(ctx, func(t *target) (_ *nethttp.Response, err error) {
		if *text, err = appendMessage((*text)[:0], m, p, t.url, s.policy.PreserveHost); err != nil {
			return nil, err
		}
		q.text = *text
		return s.client.ask(ctx, until, place{t.url.Scheme, t.url.Host}, q)
	})
	if err != nil {
		return nil, instead(err, t)
	}
	return &Answer{resp, s.Reach, t, p, func() {}}, drain.Outcome{}
}

// outcome says what an answer means.
func (s *Sink) outcome(a *Answer) drain.Outcome {
	status := a.StatusCode
	switch {
	case status >= 200 && status < 300:
		return drain.Outcome{Class: drain.Success, Status: status}
	case a.proof.refused(status):
		return drain.Outcome{Class: drain.Retry, Error: fmt.Sprintf("token: status %d from %s", status, a.Host())}
	case slices.Contains(s.policy.Permanent, status):
		return drain.Outcome{Class: drain.Permanent, Status: status, Error: fmt.Sprintf("status %d from %s", status, a.Host())}
	default:
		return a.Failed()
	}
}
