package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// whyPolicy has a drain for each constraint that can be brought about and stays, named like it.
const whyPolicy = `version: 1
streams:
  - { name: orders, ordering_key: ["json:/customer"] }
  - { name: nothing }
sinks:
  - { name: fine, http: { urls: ["URL/fine"] } }
  - { name: sink-budget, http: { urls: ["URL/fine"] }, budget: { rate: 0.001/s } }
  - { name: concurrency, http: { urls: ["URL/hangs"] }, budget: { concurrency: { max: 1 } } }
  - { name: live-traffic, http: { urls: ["URL/fine"] }, budget: { rate: 0.002/s, burst: 2, reserve_for_live: 60% } }
  - { name: retry-after, http: { urls: ["URL/later"] } }
  - { name: rate-header, http: { urls: ["URL/slower"] } }
  - { name: breaker, http: { urls: ["URL/fails"] }, breaker: { failure_ratio: 0.5, min_requests: 1, window: 30s, open_for: 10m } }
  - { name: slow-start, http: { urls: ["URL/recovers"] }, budget: { rate: 1/s }, breaker: { failure_ratio: 0.5, min_requests: 1, window: 30s, open_for: 1s }, slow_start: 10m }
  - { name: ordering, http: { urls: ["URL/refuses-a"] } }
drains:
  - { name: paused, stream: orders, sink: fine }
  - { name: schedule, stream: orders, sink: fine, schedule: { base: 0 } }
  - { name: floor, stream: orders, sink: fine, schedule: { base: 0, floor: 0.001/s } }
  - { name: deadline, stream: orders, sink: fine, schedule: { base: 0.001/s }, deadline: { max_delay: 1h, urgent_before: 1h, urgent_rate: 0.002/s, on_expire: deliver } }
  - { name: override, stream: orders, sink: fine }
  - { name: sink-budget, stream: orders, sink: sink-budget }
  - { name: concurrency, stream: orders, sink: concurrency }
  - { name: live-traffic, stream: orders, sink: live-traffic }
  - { name: retry-after, stream: orders, sink: retry-after }
  - { name: rate-header, stream: orders, sink: rate-header }
  - { name: breaker, stream: orders, sink: breaker }
  - { name: slow-start, stream: orders, sink: slow-start }
  - { name: ordering, stream: orders, sink: ordering, retry: { max_attempts: 15, backoff: { initial: 10m, max: 10m } } }
  - { name: empty, stream: nothing, sink: fine }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders, split: ndjson }
  - { name: nothing, match: { methods: [POST], path: /v1/nothing }, mode: buffer, stream: nothing }
  - { name: pay, match: { path: /v1/payments }, mode: hold, sink: live-traffic, hold_up_to: 10m }
`

// whySink answers as the path of its url says.
func whySink(t *testing.T) string {
	t.Helper()
	var recovers, slower atomic.Int64
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hangs":
			<-hang
		case "/later":
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/slower":
			if slower.Add(1) == 1 {
				w.Header().Set("RateLimit", `"all";r=0;t=600`)
			}
		case "/fails":
			w.WriteHeader(http.StatusBadGateway)
		case "/recovers":
			if recovers.Add(1) == 1 {
				w.WriteHeader(http.StatusBadGateway)
			}
		case "/refuses-a":
			if r.ContentLength == int64(len(`{"customer":"aaaa"}`)) {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(hang) })
	return srv.URL
}

// The command, the endpoint and the metric say the same of what binds, against the real
// program, for each constraint that can be brought about and stays; what cannot is in
// drain (TestWhy) with a clock of its own.
func TestWhyAgrees(t *testing.T) {
	t.Parallel()
	srv := newSite(t, strings.ReplaceAll(whyPolicy, "URL", whySink(t))).start()
	cli(t, srv, "drains pause paused --reason INC-1")
	cli(t, srv, "drains rate override 0.001/s --for 10m --reason INC-2")
	held := newCaller(t, 1)
	go func() { _, _ = held.do(http.MethodGet, srv.public+"/v1/payments", nil) }() // it ends with the program
	until(t, 20*time.Second, "a live request is held", func() bool {
		n, _ := metric(t, srv, `forebay_ingress_waiting_requests{route="pay"}`)
		return n == 1
	})
	lines := strings.Repeat(`{"customer":"aaaa"}`+"\n", 2) + `{"customer":"b"}` + "\n" + `{"customer":"c"}` + "\n" + strings.Repeat(`{"customer":""}`+"\n", 400)
	if r := postBatch(t, newCaller(t, 1), srv, []byte(lines), ""); r.status != http.StatusAccepted {
		t.Fatalf("batch = %d %s", r.status, r.body)
	}
	for _, constraint := range []string{
		"paused", "schedule", "floor", "deadline", "override", "sink-budget", "concurrency", "live-traffic", "retry-after",
		"rate-header", "breaker", "slow-start", "ordering", "empty",
	} {
		series := fmt.Sprintf("forebay_drain_binding{constraint=%q,drain=%q}", constraint, constraint)
		until(t, 30*time.Second, constraint+" binds", func() bool { n, _ := metric(t, srv, series); return n == 1 })
		var why struct {
			Binding     string
			Constraints []struct{ Name string }
			Head        *struct {
				WaitsFor string `json:"waits_for"`
			}
		}
		cliJSON(t, srv, "why "+constraint, "/drains/"+constraint+"/why", &why)
		said, n := false, 0
		for _, c := range why.Constraints {
			said = said || c.Name == constraint
		}
		for line := range strings.Lines(cli(t, srv, "why "+constraint)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "*" && fields[1] == constraint {
				n++
			}
		}
		if why.Binding != constraint || !said || n == 0 {
			t.Errorf("%s: the command says %+v, and marks it in %d lines", constraint, why, n)
		}
	}
}
