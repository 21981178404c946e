package ingress

import (
	"errors"
	"net/http"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// errBusy stands for an answer that says no more than that the sink is busy.
var errBusy = errors.New("the sink is busy")

// spill is how a request that its sink has no answer for can be stored instead.
type spill struct {
	again bool // after it was sent, too: the sink knows it by its idempotency key
	taken bool // it is to be stored
}

// busy reports whether the sink did nothing about a request but to answer that it
// is busy.
func (s *spill) busy(status int) bool {
	return s != nil && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable)
}

// take decides on a request that has no answer, and reports whether it is to be stored.
func (s *spill) take(err error) bool {
	if s == nil {
		return false
	}
	f, failed := errors.AsType[*Failure](err)
	s.taken = errors.Is(err, errBusy) || failed && !f.Caller && (f.Unsent || f.Held || s.again)
	return s.taken
}

// placed is where a request of an overflow route ended up: with the sink, whose
// answer its caller has, or in the buffer.
type placed struct {
	live     bool
	outcome  outcome // of what is live
	accepted buffer.Accepted
	replayed bool
}

// overflow sends a request to the sink while that has room for it, and stores it
// else. Requests of one ordering key reach the sink in the order in which they were
// answered: none goes live while something of its key is stored and unfinished.
func (h *Handler) overflow(x *exchange, set *policies.Set, route *policies.Route, m *routeMetrics, target string) outcome {
	s, _ := h.scratch.Get().(*scratch)
	in, err := h.read(x, s, set, route, target)
	var p placed
	if err == nil {
		x.keepBody(in.msgs[0].Body)
		p, err = h.place(x, route, m, in)
	}
	if p.live {
		h.giveBack(s)
		h.recycle(s)
		return p.outcome
	}
	return h.answer(x, s, set, route, m, p.accepted, p.replayed, err)
}

// place finds a place for a request. Before it is told what it was, the caller may
// wait for the end of a stored message: neither key is held then any more.
func (h *Handler) place(x *exchange, route *policies.Route, m *routeMetrics, in intake) (p placed, err error) {
	ctx := x.r.Context()
	if in.once.TTL > 0 {
		if err := h.claims.take(ctx, in.once); err != nil {
			h.metrics.lookups.count(false, err)
			return p, err
		}
		defer h.claims.drop(in.once)
		p.accepted, p.replayed, err = h.cfg.Buffer.Repeated(ctx, route.Stream, time.Now(), in.once)
		if p.replayed || err != nil {
			h.metrics.lookups.count(p.replayed, err)
			return p, err
		}
	}
	if x.async = prefersAsync(x.r.Header["Prefer"]); !x.async {
		passage, err := h.cfg.Buffer.BeginLive(ctx, route.Stream, in.msgs[0].Key)
		if err != nil {
			h.log.report(x, err) // in the buffer it keeps its place, whatever is there
		}
		if passage != nil {
			defer passage.End() // once what may be stored is: those behind it stay behind it
			if p.outcome, p.live = h.tryLive(x, route, m, in, passage); p.live {
				return p, nil
			}
		}
	}
	if err = h.intakeOpen(route); err == nil {
		p.accepted, p.replayed, err = h.store(x, route, in)
	}
	return p, err
}

// tryLive sends a request if its sink has room for it. done is false where it is to
// be stored.
func (h *Handler) tryLive(x *exchange, route *policies.Route, m *routeMetrics, in intake, passage buffer.Passage) (o outcome, done bool) {
	turn, held := h.turn(x, route)
	if x.r.Context().Err() != nil {
		o, done = outcome{decisionError, statusClientClosed}, true
	}
	if turn == nil {
		return o, done
	}
	defer turn.End()
	decision := decisionPass
	if held {
		decision = decisionHeld
	}
	if done || held && !passage.Clear() {
		return o, done // another one of its key was stored while it waited
	}
	x.spill = &spill{again: in.once.TTL > 0}
	if in.once.TTL > 0 {
		h.metrics.lookups.fresh.Inc()
	}
	o = h.relay(x, m, turn, bodyLimit(route), decision)
	return o, !x.spill.taken
}

// turn is the leave to send a request, at once or after a wait; nil: there is none.
func (h *Handler) turn(x *exchange, route *policies.Route) (t Turn, held bool) {
	t, err := h.cfg.Live.Enter(x.r.Context(), route.Sink, 0)
	if r, ok := errors.AsType[*Refusal](err); ok && r.Of == NoBudget && route.HoldUpTo > 0 {
		held = true
		t, err = h.cfg.Live.Enter(x.r.Context(), route.Sink, route.HoldUpTo)
	}
	if err != nil {
		return nil, held
	}
	return t, held
}

// keepBody has a body read again that was read.
func (x *exchange) keepBody(body []byte) {
	x.r.Body, x.r.ContentLength = &keptBody{body: body}, int64(len(body))
	x.r.TransferEncoding, x.r.Trailer = nil, nil
}

// keptBody is a body that is there as a whole.
type keptBody struct {
	body []byte
}

// Whole is for wholeBody.
func (b *keptBody) Whole() []byte { return b.body }

// Read implements io.Reader. Nobody reads what there is as a whole.
func (b *keptBody) Read([]byte) (int, error) { return 0, errEnded }

// Close implements io.Closer.
func (b *keptBody) Close() error { return nil }
