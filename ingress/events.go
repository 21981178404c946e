package ingress

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"forebay/buffer"
)

const (
	// heartbeat keeps proxies from taking a quiet stream for a dead one.
	heartbeat = 15 * time.Second
	// eventTimeout is how long a caller may take to read one event.
	eventTimeout = 10 * time.Second
)

// wantsEvents reports whether Accept names text/event-stream, and prefers it to
// JSON if it names that too (RFC 9110, section 12.5.1).
func wantsEvents(values []string) bool {
	events, json := 0.0, 0.0
	for _, v := range values {
		for kind := range strings.SplitSeq(v, ",") {
			kind, params, _ := strings.Cut(kind, ";")
			switch strings.ToLower(strings.TrimSpace(kind)) {
			case "text/event-stream":
				events = max(events, quality(params))
			case "application/json":
				json = max(json, quality(params))
			}
		}
	}
	return events > 0 && events >= json
}

// quality is the weight among the parameters of a range; 1 where there is none.
func quality(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(p, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		if q, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
			return q
		}
	}
	return 1
}

// serveEvents streams a receipt: an event at once and for every change, up to
// the final state. An event's id is the receipt's entity tag; a caller who has
// the final one already is told with 204 not to connect again.
func (s *Receipts) serveEvents(x *exchange, id string) {
	ref, st, err := s.find(id, x.start)
	if err != nil {
		s.fail(x, err)
		return
	}
	receipt := newReceipt(id, &st, x.start, s.outlook)
	x.set("Cache-Control", "no-store")
	x.set("Vary", receiptVary)
	if last := x.r.Header.Get("Last-Event-Id"); receipt.State.Final() && last == receipt.entityTag() {
		x.w.WriteHeader(http.StatusNoContent)
		return
	}
	x.set("Content-Type", "text/event-stream")
	x.set("X-Accel-Buffering", "no")
	x.set("X-Content-Type-Options", "nosniff")
	if !s.waits.enter() {
		_ = newEventStream(x).send(&receipt, receipt.entityTag(), true) // fails if the caller is gone
		return
	}
	defer s.waits.leave()
	s.waiting.Inc()
	defer s.waiting.Dec()
	if err := s.stream(x, id, ref); err != nil {
		s.log.report(x, err) // the status is out: all that is left is to end
	}
}

// stream sends events until the message is final, the caller leaves or the
// process is to stop.
func (s *Receipts) stream(x *exchange, id string, ref buffer.Ref) error {
	out := newEventStream(x)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for last, sent := false, ""; ; {
		// Watch first: a change between the two would be missed the other way round.
		changed, release := s.buf.Watch(ref)
		now := time.Now()
		st, err := s.buf.Find(ref, now)
		if err != nil {
			release()
			return err
		}
		receipt := newReceipt(id, &st, now, s.outlook)
		last = last || receipt.State.Final()
		if tag := receipt.entityTag(); tag != sent || last {
			err, sent = out.send(&receipt, tag, last), tag
		} else {
			err = out.write([]byte(": heartbeat\n\n"))
		}
		if err != nil || last {
			release()
			return nil // a failed write means that the caller is gone
		}
		out.rest()
		select {
		case <-changed:
		case <-beat.C:
		case <-x.r.Context().Done():
			release()
			return nil
		case <-s.waits.done:
			last = true
		}
		release()
	}
}

// eventStream writes events, each within eventTimeout.
type eventStream struct {
	x       *exchange
	control *http.ResponseController
}

func newEventStream(x *exchange) *eventStream {
	return &eventStream{x: x, control: http.NewResponseController(x.w)}
}

// send writes an event. The last one of a message that goes on says when to
// connect again.
func (e *eventStream) send(r *Receipt, tag string, last bool) error {
	var b []byte
	if last && !r.State.Final() {
		b = append(b, "retry: 5000\n"...)
	}
	b = append(append(append(b, "id: "...), tag...), "\ndata: "...)
	return e.write(append(appendReceipt(b, r), "\n\n"...))
}

func (e *eventStream) write(b []byte) error {
	// A writer without deadlines is not bound by one.
	_ = e.control.SetWriteDeadline(time.Now().Add(eventTimeout))
	if _, err := e.x.w.Write(b); err != nil {
		return err
	}
	return e.control.Flush()
}

// rest lifts the deadline until the next event: HTTP/2 ends a stream whose
// deadline passes, even while nothing is written.
func (e *eventStream) rest() { _ = e.control.SetWriteDeadline(time.Time{}) }
