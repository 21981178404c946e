package main_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// thrashing is a service that serves as many as its knee at once without getting slower.
// With more each takes as much longer as they are too many, squared: the more it is asked
// the less it serves.
type thrashing struct {
	inside atomic.Int64

	mu     sync.Mutex
	began  time.Time // guarded by mu; the first request
	served []int     // guarded by mu; in each ten seconds
}

const (
	thrashingKnee     = 20
	thrashingLatency  = 100 * time.Millisecond
	thrashingCapacity = 200 // a second: knee over latency
	collapsePeriod    = 10 * time.Second
	collapsePeriods   = 7 // the first is for finding the limit
)

func (s *thrashing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.lasts()
	over := max(1, float64(s.inside.Add(1))/thrashingKnee)
	defer s.inside.Add(-1)
	_, _ = io.Copy(io.Discard, r.Body) // what is served counts
	select {
	case <-time.After(time.Duration(float64(thrashingLatency) * over * over)):
	case <-r.Context().Done():
		return
	}
	w.WriteHeader(http.StatusNoContent)
	period := int(s.lasts() / collapsePeriod)
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.served) <= period {
		s.served = append(s.served, 0)
	}
	s.served[period]++
}

// lasts is how long it has been since the first request.
func (s *thrashing) lasts() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.IsZero() {
		s.began = time.Now()
	}
	return time.Since(s.began)
}

// shares is what was served in each period after the first, of what could be.
func (s *thrashing) shares() (shares []float64, worst, mean float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	worst = 1
	for i := 1; i < collapsePeriods; i++ {
		n := 0.0
		if i < len(s.served) {
			n = float64(s.served[i])
		}
		share := n / (thrashingCapacity * collapsePeriod.Seconds())
		shares = append(shares, share)
		worst, mean = min(worst, share), mean+share/(collapsePeriods-1)
	}
	return shares, worst, mean
}

const collapsePolicy = `version: 1
sinks:
  - { name: adaptive, http: { urls: [%q] }, budget: { concurrency: { mode: adaptive, min: 1, max: 128 } } }
  - { name: fixed, http: { urls: [%q] }, budget: { concurrency: { max: 128 } } }
streams:
  - name: orders
drains:
  - { name: adaptive, stream: orders, sink: adaptive, schedule: { base: %d/s } }
  - { name: control, stream: orders, sink: fixed, schedule: { base: %d/s } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders, split: ndjson }
`

// A service that collapses above its knee is offered three times what it can serve for a
// minute: with adaptive concurrency it never collapses, with a fixed one it does.
func TestUnderLoadServiceDoesNotCollapse(t *testing.T) {
	if os.Getenv("FOREBAY_INTEGRATION") == "" {
		t.Skip("takes more than a minute: make integration runs it; drain has ten minutes of a virtual clock")
	}
	var protected, control thrashing
	urls := make([]any, 0, 4)
	for _, s := range []*thrashing{&protected, &control} {
		srv := httptest.NewServer(s)
		t.Cleanup(srv.Close)
		urls = append(urls, srv.URL)
	}
	const offered = 3 * thrashingCapacity
	srv := newSite(t, fmt.Sprintf(collapsePolicy, append(urls, offered, offered)...)).start()
	line := `{"order":1}` + "\n"
	c := newCaller(t, 1)
	lasts := collapsePeriods * collapsePeriod
	for range 10 {
		if r := postBatch(t, c, srv, []byte(strings.Repeat(line, offered*int(lasts.Seconds())/10)), ""); r.status != http.StatusAccepted {
			t.Fatalf("batch = %d %s", r.status, r.body)
		}
	}
	until(t, 2*lasts, "it has lasted", func() bool { return min(protected.lasts(), control.lasts()) > lasts })
	shares, worst, mean := protected.shares()
	t.Logf("with a limit that adapts: %.2f", shares)
	if worst < 0.5 || mean < 0.7 { // a machine that has more to do takes some
		t.Errorf("%.2f of the capacity in the mean, %.2f in the worst ten seconds: %.2f", mean, worst, shares)
	}
	shares, _, mean = control.shares()
	t.Logf("with a fixed limit: %.2f", shares)
	if mean > 0.6 {
		t.Errorf("the control served %.2f of the capacity: the service does not collapse", mean)
	}
}
