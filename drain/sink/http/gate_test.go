package http_test

import (
	"errors"
	nethttp "net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"forebay/drain"
)

// The sink asks with its connection in hand and before it has written; what it is
// refused is never seen, on a new connection and on one that was used before, and
// the next attempt is as any other.
func TestDeliverAsksBeforeItWrites(t *testing.T) {
	var seen atomic.Int64
	srv := httptest.NewServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) { seen.Add(1) }))
	defer srv.Close()
	for _, body := range []string{"", "x"} {
		s := newSink(t, policy(t, srv.URL))
		for i, allowed := range []bool{false, true, true, false, true} {
			m := order()
			m.Body = []byte(body)
			before, asked := seen.Load(), 0
			ctx := drain.WithBegin(t.Context(), func() error {
				asked++
				if seen.Load() != before {
					t.Error("asked after it was written")
				}
				if !allowed {
					return errors.New("not now")
				}
				return nil
			})
			got := s.Deliver(ctx, []drain.Delivery{m})[0]
			if got.Unsent == allowed || (got.Class == drain.Success) != allowed || asked != 1 {
				t.Errorf("body %q, attempt %d, allowed %v: asked %d times, outcome %+v", body, i, allowed, asked, got)
			}
			if n := seen.Load() - before; (n == 1) != allowed {
				t.Errorf("body %q, attempt %d, allowed %v: the sink saw %d requests", body, i, allowed, n)
			}
		}
	}
}
