package ingress

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"forebay/buffer"
	"forebay/policies"
)

// receiptVary lists what the answer about a receipt depends on.
const receiptVary = "Accept, Prefer"

// Receipts finds messages by the ids of their receipts. It is safe for
// concurrent use.
type Receipts struct {
	buf     buffer.Receipts
	outlook *outlook
	log     *failureLog
	waits   *waits
	waitMax time.Duration
	waiting prometheus.Gauge // requests for receipts that wait
}

// Get returns the receipt with that id as it stands at now. It may read the
// disk. Errors are the buffer's: buffer.ErrNoMessage for an id that was never given out and
// buffer.ErrGone for one past its stream's keep_delivered.
func (s *Receipts) Get(id string, now time.Time) (Receipt, error) {
	_, st, err := s.find(id, now)
	if err != nil {
		return Receipt{}, err
	}
	return newReceipt(id, &st, now, s.outlook), nil
}

func (s *Receipts) find(id string, now time.Time) (buffer.Ref, buffer.Status, error) {
	ref, err := s.buf.Ref(id)
	if err != nil {
		return buffer.Ref{}, buffer.Status{}, err
	}
	st, err := s.buf.Find(ref, now)
	return ref, st, err
}

// Cancel ends a message with every drain where it waits and returns its
// receipt once that is durable. Errors are those of Get, buffer.ErrDelivering or
// buffer.ErrFinal where it waits with no drain, and one that says so where the
// stream has none.
func (s *Receipts) Cancel(ctx context.Context, id string, now time.Time) (Receipt, error) {
	ref, err := s.buf.Ref(id)
	if err != nil {
		return Receipt{}, err
	}
	if err := s.buf.Cancel(ctx, ref, now); err != nil {
		return Receipt{}, s.whyNot(err, ref, now)
	}
	return s.Get(id, now)
}

// whyNot makes the reason that a message cannot be cancelled exact: with no
// drain it waits nowhere, and is not final either.
func (s *Receipts) whyNot(err error, ref buffer.Ref, now time.Time) error {
	if !errors.Is(err, buffer.ErrFinal) {
		return err
	}
	if st, found := s.buf.Find(ref, now); found == nil && len(st.Drains) == 0 {
		return problemNotCancellable("no drain reads the message's stream: it waits with none, and none will deliver it unless one is added")
	}
	return err
}

// Handler serves receipts at prefix followed by an id, the way the data plane
// does under /.forebay/receipts/. Prefix ends in a slash. Whoever mounts it
// says who may ask.
func (s *Receipts) Handler(prefix string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := begin(w, r, s.waits.stopped())
		id, ok := strings.CutPrefix(r.URL.Path, prefix)
		if !ok || id == "" || strings.Contains(id, "/") {
			x.fail(problemNoReceipt())
			return
		}
		s.serve(x, id)
	})
}

// owned returns the problem with a request for a receipt from somebody whose
// it is not: for him there is none. The receipt of a message without an owner is that of
// whoever has its id. An id that leads nowhere is left to who looks it up.
func (s *Receipts) owned(x *exchange, id string, set *policies.Set) error {
	ref, err := s.buf.Ref(id)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	owner, err := s.buf.Owner(ref)
	if err != nil {
		return err
	}
	if owner == 0 {
		return nil
	}
	for i := range set.Auth {
		if buffer.OwnerOf(x.shown(&set.Auth[i])) == owner {
			return nil
		}
	}
	return problemNoReceipt()
}

func (s *Receipts) serve(x *exchange, id string) {
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
		if x.r.Method == http.MethodGet && wantsEvents(x.r.Header["Accept"]) {
			s.serveEvents(x, id)
			return
		}
		s.serveGet(x, id)
	case http.MethodDelete:
		receipt, err := s.Cancel(x.r.Context(), id, x.start)
		if err != nil {
			s.fail(x, err)
			return
		}
		x.writeReceipt(&receipt, x.start)
	default:
		x.fail(problemMethodNotAllowed([]string{http.MethodDelete, http.MethodGet, http.MethodHead}))
	}
}

func (s *Receipts) serveGet(x *exchange, id string) {
	st, err := s.findOrWait(x, id)
	x.partIf(s.waits.stopped()) // it may have stopped meanwhile
	if err != nil {
		s.fail(x, err)
		return
	}
	now := time.Now()
	receipt := newReceipt(id, &st, now, s.outlook)
	tag := receipt.entityTag()
	x.set("Etag", tag)
	if matches(x.r.Header["If-None-Match"], tag) {
		x.receiptFields(&receipt, now)
		x.w.WriteHeader(http.StatusNotModified)
		return
	}
	x.writeReceipt(&receipt, now)
}

// findOrWait waits as the caller prefers, where there is anything to wait for
// and room to do so.
func (s *Receipts) findOrWait(x *exchange, id string) (buffer.Status, error) {
	ref, st, err := s.find(id, x.start)
	limit := min(preferredWait(x.r.Header["Prefer"]), s.waitMax)
	if err != nil || limit <= 0 {
		return st, err
	}
	if !st.State().Final() {
		if !s.waits.enter() {
			return st, nil
		}
		defer s.waits.leave()
		s.waiting.Inc()
		defer s.waiting.Dec()
		if st, err = s.await(x.r.Context(), ref, limit, ""); err != nil {
			return st, err
		}
	}
	x.set("Preference-Applied", appliedWait(limit))
	return st, nil
}

// appliedWait tells the longest that a caller may wait for the answer, in whole
// seconds as the preference is: part of one counts as one.
func appliedWait(d time.Duration) string {
	return "wait=" + strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

func (s *Receipts) fail(x *exchange, err error) {
	p := problemOf(err)
	if p.status == http.StatusInternalServerError {
		s.log.report(x, err)
	}
	x.fail(p)
}

// receiptFields sets what every answer about a receipt has, 304 included.
func (x *exchange) receiptFields(r *Receipt, now time.Time) {
	x.set("Cache-Control", "no-store")
	x.set("Vary", receiptVary)
	if !r.State.Final() {
		x.set("Retry-After", strconv.Itoa(r.retryAfter(now)))
	}
}

func (x *exchange) writeReceipt(r *Receipt, now time.Time) {
	x.receiptFields(r, now)
	x.set("Content-Type", "application/json")
	x.set("X-Content-Type-Options", "nosniff")
	x.write(http.StatusOK, append(appendReceipt(nil, r), '\n'))
}

// matches evaluates If-None-Match by weak comparison.
func matches(values []string, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for _, v := range values {
		for candidate := range strings.SplitSeq(v, ",") {
			candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
			if candidate == tag || candidate == "*" {
				return true
			}
		}
	}
	return false
}
