package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"forebay/drain"
	sinkhttp "forebay/drain/sink/http"
	"forebay/ingress"
)

// liveSinks are the sinks as ingress sends live requests to them.
type liveSinks struct{ drains *drain.Drains }

// Enter implements ingress.Live.
func (l liveSinks) Enter(ctx context.Context, sink, stream string, size int64, wait time.Duration) (ingress.Turn, error) {
	t, err := l.drains.Enter(ctx, sink, size, wait)
	if r, ok := errors.AsType[*drain.Refusal](err); ok {
		return nil, refusal(r)
	}
	if err != nil {
		return nil, err
	}
	return turn{t, stream}, nil
}

func refusal(r *drain.Refusal) *ingress.Refusal {
	out := &ingress.Refusal{Of: ingress.NoBudget, Until: r.Until, Waited: r.Waited}
	switch r.By {
	case drain.Paused:
		out.Of = ingress.SinkPaused
	case drain.Breaker:
		out.Of = ingress.SinkUnhealthy
	}
	return out
}

// turn is the leave to send one request.
type turn struct {
	*drain.Turn
	stream string // of the route; empty: none
}

// RoundTrip implements ingress.Turn. The breaker hears of all but what was
// the caller's fault.
func (t turn) RoundTrip(r *http.Request) (*http.Response, error) {
	sink, ok := t.Sink().(interface{ Upstream() http.RoundTripper })
	if !ok {
		return nil, fmt.Errorf("%T takes no live requests", t.Sink())
	}
	resp, err := sink.Upstream().RoundTrip(r.WithContext(t.Context(r.Context())))
	if err == nil {
		o := sinkhttp.LiveOutcome(resp)
		t.Ended(o)
		t.Cancel(r.Context(), t.stream, o.CancelKeys)
		return resp, nil
	}
	f, ok := errors.AsType[*sinkhttp.Failure](err)
	if !ok {
		return nil, err
	}
	if r.Context().Err() == nil && !f.Caller {
		t.Ended(f.Outcome())
	}
	return nil, &ingress.Failure{Word: f.ProxyError(), Held: f.Held, Caller: f.Caller, Unsent: f.Unsent, Timeout: f.Timeout, NoToken: f.NoToken, Err: err}
}
