package main_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// whyView is what `why` says of a drain.
type whyView struct {
	Binding     string
	Constraints []struct {
		Name, Detail string
		Until        *time.Time
	}
}

// heldBy waits until the drain is held by a constraint, and returns its detail
// and end.
func heldBy(t *testing.T, srv *server, constraint string) (detail string, ends time.Time) {
	t.Helper()
	until(t, 10*time.Second, "held by "+constraint, func() bool {
		var w whyView
		cliJSON(t, srv, "why orders-to-shop", "", &w)
		for _, c := range w.Constraints {
			if c.Name == constraint && w.Binding == constraint && c.Until != nil {
				detail, ends = c.Detail, *c.Until
				return true
			}
		}
		return false
	})
	return detail, ends
}

// A sink that asks for three seconds is left alone for them, and is not flooded
// by what waited.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const rate, pause = 50, 3 * time.Second
	tests := []struct {
		name   string
		status int
		value  func(now time.Time) string
	}{
		{"503", http.StatusServiceUnavailable, func(time.Time) string { return "3" }},
		{"429", http.StatusTooManyRequests, func(time.Time) string { return "3" }},
		// A date has whole seconds: the next one keeps what is left above the pause.
		{"429 with a date", http.StatusTooManyRequests, func(now time.Time) string {
			return now.Add(pause + time.Second).UTC().Format(http.TimeFormat)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			late := watchLateness(t)
			var answered atomic.Int64 // on a busy machine long after the arrival
			shop := newSink(t, func(log []arrival, _ arrival) answer {
				if len(log) != 20 {
					return answer{status: http.StatusOK}
				}
				answered.Store(time.Now().UnixNano())
				return answer{status: tt.status, header: http.Header{"Retry-After": {tt.value(time.Now())}}}
			})
			srv := newSite(t, orderPolicy(shop.url, "50/s")).start()
			postAll(t, srv.public, realOrders(t)[:200], 8)
			heldBy(t, srv, "retry-after")
			if got := settle(t, srv, 30*time.Second); got.Delivered != 200 {
				t.Errorf("audit = %+v, want all delivered", got)
			}

			log := shop.arrivals()
			asked := 0
			for log[asked].Status != tt.status {
				asked++
			}
			// What was on its way when the answer came is no breach.
			at := log[asked].At
			told := time.Unix(0, answered.Load()).Add(300*time.Millisecond + 2*late.max())
			if n := between(log, told, at.Add(pause)); n > 0 {
				t.Errorf("%d attempts within the three seconds that the sink asked for", n)
			}
			if n := between(log, at.Add(pause), at.Add(pause+2*time.Second)); n < 10 {
				t.Errorf("%d attempts in the two seconds after the pause, want that deliveries go on", n)
			}
			if breach := (envelope{rate: rate, burst: 1, late: late.max()}).breach(times(log)); breach != "" {
				t.Errorf("through the pause: %s", breach)
			}
		})
	}
}

// A pause outlasts kill -9.
func TestRetryAfterOutlivesAKill(t *testing.T) {
	t.Parallel()
	const pause = 4 * time.Second
	late := watchLateness(t)
	shop := newSink(t, func(log []arrival, _ arrival) answer {
		if len(log) > 0 {
			return answer{status: http.StatusOK}
		}
		return answer{status: http.StatusTooManyRequests, header: http.Header{"Retry-After": {"4"}}}
	})
	// One at a time, so that none is under way when the first is answered.
	site := newSite(t, clauses{sink: "budget: { concurrency: { max: 1 } }"}.policy(shop.url, "50/s"))
	srv := site.start()
	postAll(t, srv.public, realOrders(t)[:20], 4)
	heldBy(t, srv, "retry-after")
	asked := shop.arrivals()[0].At
	until(t, time.Minute, "the pause is stored", func() bool { return time.Since(asked) > 300*time.Millisecond+2*late.max() })
	srv.kill()
	srv = site.start()
	if got := settle(t, srv, 20*time.Second); got.Delivered != 20 {
		t.Errorf("audit = %+v, want all delivered", got)
	}
	if n := len(shop.arrivals()) - between(shop.arrivals(), asked.Add(pause), time.Now()); n != 1 {
		t.Errorf("%d attempts before the end of the pause, want the one that was answered with it", n)
	}
}

// A sink that asks for a year gets what the drain honours, and `why` says both.
func TestRetryAfterOfAYear(t *testing.T) {
	t.Parallel()
	shop := newSink(t, func(log []arrival, _ arrival) answer {
		if len(log) > 0 {
			return answer{status: http.StatusOK}
		}
		return answer{status: http.StatusServiceUnavailable, header: http.Header{"Retry-After": {"31536000"}}}
	})
	policy := clauses{drain: "retry: { honour_retry_after: 4s, backoff: { initial: 100ms, max: 200ms } }"}
	srv := newSite(t, policy.policy(shop.url, "50/s")).start()
	postAll(t, srv.public, realOrders(t)[:20], 4)
	detail, ends := heldBy(t, srv, "retry-after")
	for _, say := range []string{"8760h", "honour_retry_after", "4s"} {
		if !strings.Contains(detail, say) {
			t.Errorf("why says %q of the pause, want that honour_retry_after cut a year to 4s: no %q", detail, say)
		}
	}
	asked := shop.arrivals()[0].At // times in JSON are cut to milliseconds
	if long := ends.Sub(asked); long < 4*time.Second-time.Millisecond || long > 6*time.Second {
		t.Errorf("the pause ends after %v, want 4s", long)
	}
	if got := settle(t, srv, 20*time.Second); got.Delivered != 20 {
		t.Errorf("audit = %+v, want all delivered", got)
	}
	if n := between(shop.arrivals(), asked.Add(300*time.Millisecond), asked.Add(4*time.Second)); n > 0 {
		t.Errorf("%d attempts within the four seconds that are honoured", n)
	}
}
