package ingress

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// intake is what a request asks to store.
type intake struct {
	msgs []buffer.Message
	once buffer.OnceKey // zero TTL: nothing tells whether it is sent again
}

// accept makes a request durable and answers with its receipt, or with what
// became of the messages its body was split into.
func (h *Handler) accept(x *exchange, set *policies.Set, route *policies.Route, m *routeMetrics, target string) outcome {
	s, _ := h.scratch.Get().(*scratch)
	var in intake
	err := h.intakeOpen(route)
	if err == nil { // all that can be refused without the body is refused before it is read
		in, err = h.read(x, s, set, route, target)
	}
	var accepted buffer.Accepted
	var replayed bool
	if err == nil {
		err = h.feasible(x, route, in)
	}
	if err == nil {
		accepted, replayed, err = h.store(x, route, in)
	}
	return h.answer(x, s, set, route, m, accepted, replayed, err)
}

// answer tells the caller what became of a request that was to be stored, and gives
// back what it was worked on in.
func (h *Handler) answer(x *exchange, s *scratch, set *policies.Set, route *policies.Route, m *routeMetrics, accepted buffer.Accepted, replayed bool, err error) outcome {
	h.giveBack(s)
	if err != nil {
		if route.Split != policies.SplitNone {
			err = batchFault(err)
		}
		o := h.refuse(x, set, route, err)
		h.recycle(s)
		return o
	}
	s.msgs[0] = buffer.Message{} // a wait for the final state is long; bodies need not last as long
	o := outcomeAccepted()
	if replayed {
		x.set("Idempotent-Replayed", "true")
		o = outcomeReplayed()
	}
	if route.Split == policies.SplitNone {
		o = h.acknowledge(x, route, m, accepted, s, o)
	} else {
		h.acknowledgeBatch(x, route, accepted, s, replayed)
	}
	h.recycle(s)
	return o
}

// intakeOpen refuses what is to be stored while the stream's intake is closed.
func (h *Handler) intakeOpen(route *policies.Route) error {
	if _, closed := h.cfg.Closed(route.Stream); closed {
		return problemUnavailable(reasonStreamClosed)
	}
	return nil
}

// read makes messages of a request.
func (h *Handler) read(x *exchange, s *scratch, set *policies.Set, route *policies.Route, target string) (intake, error) {
	key, err := repeatKeyOf(x.r.Header, route)
	if err != nil {
		return intake{}, err
	}
	times, err := x.times(set, route)
	if err != nil {
		return intake{}, err
	}
	if route.Split != policies.SplitNone {
		in, err := h.readBatch(x, s, set, route, target, key)
		for i := range in.msgs {
			times.put(&in.msgs[i])
		}
		return in, err
	}
	stream := set.Stream(route.Stream)
	body, err := h.bodyOf(s, x.r, min(bodyLimit(route), messageLimit(stream)))
	if err != nil {
		return intake{}, err
	}
	if err := h.limitBody(x, body); err != nil {
		return intake{}, err
	}
	s.fields = appendFields(s.fields, x.r, x.id, h.trusted.origin(x.r))
	s.fields = withoutKeys(s.fields, set)
	m := &s.msgs[0]
	*m = buffer.Message{Method: x.r.Method, Target: target, Header: s.fields, Body: body, KeepAnswer: int(route.StoreResult)}
	m.Owner = buffer.OwnerOf(x.principal)
	times.put(m)
	x.readKeys(stream, m)
	in := intake{msgs: s.msgs[:]}
	if key.value != "" {
		in.once = onceKey(s, key, route, x.principal, m)
	}
	return in, nil
}

// feasible refuses what would be late before it leaves. What was accepted before, and
// is sent again, was feasible then.
func (h *Handler) feasible(x *exchange, route *policies.Route, in intake) error {
	again, ok := h.cfg.Feasible(route.Stream, x.start, len(in.msgs))
	if ok {
		return nil
	}
	if in.once.TTL > 0 {
		if _, err := h.cfg.Buffer.Lookup(x.r.Context(), route.Stream, in.once.Key, x.start); err == nil {
			return nil
		}
	}
	return problemInfeasible(again, x.start)
}

// readKeys reads what a message is ordered and cancelled by, from its request's
// header and its own body.
func (x *exchange) readKeys(stream *policies.Stream, m *buffer.Message) {
	if !stream.OrderingKey.IsZero() {
		m.Key, _ = stream.OrderingKey.Extract(x.field, m.Body)
	}
	m.CancelKeys = stream.CancelKey.Extract(x.field, m.Body)
}

// bodyLimit and messageLimit are in bytes.
func bodyLimit(route *policies.Route) int64 { return cmp.Or(route.MaxBody, defaultMaxBody) }

func messageLimit(stream *policies.Stream) int64 {
	return cmp.Or(stream.MaxMessageBytes, defaultMaxMessage)
}

func (h *Handler) refuse(x *exchange, set *policies.Set, route *policies.Route, err error) outcome {
	x.partIf(h.receipts.waits.stopped())
	p := problemOf(err)
	switch {
	case p.reason == reasonBufferFull || p.reason == reasonDiskFull:
		p.retryAfter = h.roomAfter(set, route.Stream, time.Now())
	case p.status == http.StatusInternalServerError:
		h.log.report(x, err)
	}
	x.fail(p)
	if x.r.Context().Err() != nil {
		return outcome{decisionError, statusClientClosed}
	}
	h.metrics.route(route.Name).refused(p.reason)
	return p.outcome()
}

// roomAfter is the seconds until the slowest of a stream's drains makes room:
// until its next message leaves.
func (h *Handler) roomAfter(set *policies.Set, stream string, now time.Time) int {
	longest := 1
	for i := range set.Drains {
		d := &set.Drains[i]
		if d.Stream != stream {
			continue
		}
		eta, _, _ := h.cfg.ETA(d.Name, now, time.Time{}, 0)
		longest = max(longest, retrySeconds(eta, now))
	}
	return longest
}

// acknowledge answers for a message that is durable: whatever fails from here
// on, the answer is not an error.
func (h *Handler) acknowledge(x *exchange, route *policies.Route, m *routeMetrics, a buffer.Accepted, s *scratch, o outcome) outcome {
	ref := buffer.Ref{Stream: route.Stream, Offset: a.First}
	st, note, applied := h.stand(x, ref, route, m)
	x.partIf(h.receipts.waits.stopped()) // it may have stopped since the request came
	now := time.Now()
	id := h.cfg.Buffer.ID(ref)
	if d := sinkAnswer(&st, route.WaitFor); d != nil && applied > 0 {
		x.applied(applied)
		x.set("Vary", "Prefer")
		x.relay(id, d)
		o.code = d.Status
		return o
	}
	var receipt Receipt
	if note == "" {
		receipt = newReceipt(id, &st, now, h.receipts.outlook)
	} else {
		receipt = unknownReceipt(id, ref, a, note)
	}
	x.applied(applied)
	if applied > 0 && note == "" && settled(&st, route.WaitFor) {
		o.code = http.StatusOK
	}
	if o.code == http.StatusAccepted || !receipt.State.Final() {
		x.set("Retry-After", strconv.Itoa(receipt.retryAfter(now)))
	}
	x.set("Location", receiptsPrefix+id)
	x.set("Vary", "Prefer")
	x.set("Content-Type", "application/json")
	s.out = append(appendReceipt(s.out, &receipt), '\n')
	x.write(o.code, s.out)
	if applied > 0 && x.r.Context().Err() != nil {
		return outcome{decisionError, statusClientClosed} // nobody reads the answer
	}
	return o
}

// stand finds where a message stands; note says why that is not known. Where
// the caller prefers to wait and there is room for it, it waits for the final
// state first; applied is how long that was to be at most.
func (h *Handler) stand(x *exchange, ref buffer.Ref, route *policies.Route, m *routeMetrics) (st buffer.Status, note string, applied time.Duration) {
	var err error
	limit := min(preferredWait(x.r.Header["Prefer"]), route.WaitMax, h.cfg.WaitMax)
	if limit > 0 && h.receipts.waits.enter() {
		m.waiting.Inc()
		st, err = h.receipts.await(x.r.Context(), ref, limit, route.WaitFor)
		m.waiting.Dec()
		h.receipts.waits.leave()
		applied = limit
	} else {
		st, err = h.cfg.Buffer.Find(ref, time.Now())
	}
	switch {
	case errors.Is(err, buffer.ErrGone): // it is sent again after its end
		return st, "the message was finished longer ago than receipts are kept", applied
	case err != nil:
		h.log.report(x, err)
		return st, "the position is not known at the moment", applied
	}
	return st, "", applied
}

// unknownReceipt says what is known without a look at the message.
func unknownReceipt(id string, ref buffer.Ref, a buffer.Accepted, note string) Receipt {
	return Receipt{
		ID: id, Stream: ref.Stream, State: buffer.Queued, ETANote: &note,
		AcceptedAt: Timestamp{a.At}, Drains: []DrainReceipt{},
	}
}
