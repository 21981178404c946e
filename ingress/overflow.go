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
	x.r.Body = http.NoBody // a wait for the end is long, and the body need not last as long
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
	x.async = prefersAsync(x.r.Header["Prefer"])
	if in.once.TTL > 0 {
		ctx := x.r.Context()
		if err = h.claims.take(ctx, in.once); err == nil {
			defer h.claims.drop(in.once)
			p.accepted, p.replayed, err = h.cfg.Buffer.Repeated(ctx, route.Stream, time.Now(), in.once)
		}
		if p.replayed || err != nil {
			h.metrics.lookups.count(p.replayed, err)
			return p, err
		}
	}
	if passage := h.passage(x, route, &in.msgs[0]); passage != nil {
		defer passage.End() // once what may be stored is: those behind it stay behind it
		if p.outcome, p.live = h.tryLive(x, route, m, in, passage); p.live {
			if in.once.TTL > 0 {
				h.metrics.lookups.fresh.Inc()
			}
			return p, nil
		}
	}
	if err = h.intakeOpen(route); err == nil {
		err = h.feasible(x, route, in)
	}
	if err == nil {
		p.accepted, p.replayed, err = h.store(x, route, in)
	}
	return p, err
}

// passage begins a live request; nil: it is to be stored.
func (h *Handler) passage(x *exchange, route *policies.Route, m *buffer.Message) buffer.Passage {
	if x.async || !m.DeliverAfter.IsZero() {
		return nil
	}
	p, err := h.cfg.Buffer.BeginLive(x.r.Context(), route.Stream, m.Key)
	if err != nil {
		h.log.report(x, err) // in the buffer it keeps its place, whatever is there
		return nil
	}
	return p
}

// tryLive sends a request if its sink has room for it. done is false where it is to
// be stored.
func (h *Handler) tryLive(x *exchange, route *policies.Route, m *routeMetrics, in intake, passage buffer.Passage) (o outcome, done bool) {
	turn, decision, err := h.enter(x, route, m)
	if x.r.Context().Err() != nil {
		o, done = outcome{decisionError, statusClientClosed}, true
	}
	if err != nil {
		return o, done
	}
	defer turn.End()
	if done || decision == decisionHeld && !passage.Clear() {
		return o, done // another one of its key was stored while it waited
	}
	x.spill = &spill{again: in.once.TTL > 0}
	o = h.relay(x, m, turn, newLiveBody(x, bodyLimit(route)), decision)
	return o, !x.spill.taken
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
