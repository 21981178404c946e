package ingress

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// accept makes a request durable and answers with its receipt.
func (h *Handler) accept(x *exchange, set *policies.Set, route *policies.Route, m *routeMetrics, target string) outcome {
	s, _ := h.scratch.Get().(*scratch)
	err := h.readMessage(x, s, bodyLimit(set, route), target)
	var accepted buffer.Accepted
	if err == nil {
		accepted, err = h.cfg.Buffer.Append(x.r.Context(), route.Stream, time.Now(), s.msgs[:])
	}
	h.giveBack(s)
	if err != nil {
		o := h.refuse(x, set, route, err)
		if reusable(err) {
			h.recycle(s)
		}
		return o
	}
	s.msgs[0] = buffer.Message{} // a wait for the final state is long; bodies need not last as long
	o := h.acknowledge(x, route, m, accepted, s)
	h.recycle(s)
	return o
}

// bodyLimit is in bytes.
func bodyLimit(set *policies.Set, route *policies.Route) int64 {
	limit := int64(defaultMaxBody)
	if route.MaxBody > 0 {
		limit = route.MaxBody
	}
	if stream := set.Stream(route.Stream); stream != nil && stream.MaxMessageBytes > 0 {
		limit = min(limit, stream.MaxMessageBytes)
	}
	return limit
}

// readMessage fills s.msgs. All that can be refused without the body is
// refused before the body is read.
func (h *Handler) readMessage(x *exchange, s *scratch, limit int64, target string) error {
	if why := idempotencyKeyFault(x.r.Header["Idempotency-Key"]); why != "" {
		return problemBadRequest(why)
	}
	if err := h.readBody(s, x.r, limit); err != nil {
		return err
	}
	s.fields = appendFields(s.fields, x.r, x.id)
	s.msgs[0] = buffer.Message{Method: x.r.Method, Target: target, Header: s.fields, Body: s.body}
	return nil
}

// reusable reports whether the buffer is known to have let go of the message.
// A wait that was broken off may leave it in a commit that is under way.
func reusable(err error) bool {
	if _, ok := errors.AsType[*problem](err); ok {
		return true // it never came to the buffer
	}
	return errors.Is(err, buffer.ErrBufferFull) || errors.Is(err, buffer.ErrDiskFull) ||
		errors.Is(err, buffer.ErrOverloaded) || errors.Is(err, buffer.ErrTooLarge)
}

func (h *Handler) refuse(x *exchange, set *policies.Set, route *policies.Route, err error) outcome {
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
		eta, _, _ := h.cfg.ETA(d.Name, now, 0)
		longest = max(longest, retrySeconds(eta, now))
	}
	return longest
}

// acknowledge answers for a message that is durable: whatever fails from here
// on, the answer is not an error.
func (h *Handler) acknowledge(x *exchange, route *policies.Route, m *routeMetrics, a buffer.Accepted, s *scratch) outcome {
	ref := buffer.Ref{Stream: route.Stream, Offset: a.First}
	st, known, applied := h.stand(x, ref, route, m)
	now := time.Now()
	id := h.cfg.Buffer.ID(ref)
	var receipt Receipt
	if known {
		receipt = newReceipt(id, &st, now, h.cfg.ETA)
	} else {
		receipt = unknownReceipt(id, ref, a)
	}
	o := outcomeAccepted()
	if applied > 0 {
		x.set("Preference-Applied", appliedWait(applied))
		if receipt.State.Final() {
			o.code = http.StatusOK
		}
	}
	if o.code == http.StatusAccepted {
		x.set("Retry-After", strconv.Itoa(receipt.retryAfter(now)))
	}
	x.set("Location", receiptsPrefix+id)
	x.set("Vary", "Prefer")
	x.set("Content-Type", "application/json")
	s.out = append(appendReceipt(s.out, &receipt), '\n')
	x.write(o.code, s.out)
	return o
}

// stand finds where a fresh message stands, and returns whether that is known.
// Where the caller prefers to wait and there is room for it, it waits for the
// final state first; applied is how long that was to be at most.
func (h *Handler) stand(x *exchange, ref buffer.Ref, route *policies.Route, m *routeMetrics) (st buffer.Status, known bool, applied time.Duration) {
	var err error
	limit := min(preferredWait(x.r.Header["Prefer"]), route.WaitMax, h.cfg.WaitMax)
	if limit > 0 && h.receipts.waits.enter() {
		m.waiting.Inc()
		st, err = h.receipts.await(x.r.Context(), ref, limit)
		m.waiting.Dec()
		h.receipts.waits.leave()
		applied = limit
	} else {
		st, err = h.cfg.Buffer.Find(ref, time.Now())
	}
	if err != nil {
		h.log.report(x, err)
		return st, false, applied
	}
	return st, true, applied
}

// unknownReceipt says what is known without a look at the message.
func unknownReceipt(id string, ref buffer.Ref, a buffer.Accepted) Receipt {
	note := "the position is not known at the moment"
	return Receipt{
		ID: id, Stream: ref.Stream, State: buffer.Queued, ETANote: &note,
		AcceptedAt: Timestamp{a.At}, Drains: []DrainReceipt{},
	}
}
