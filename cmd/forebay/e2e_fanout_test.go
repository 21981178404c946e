package main_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two drains of a stream do not know of each other: one sink never answers, and
// the other, which fails one attempt in twenty, is tried at its rate. What that
// is on this machine now, the same drain shows beside a healthy neighbour, in a
// process of its own and at the same time. A busy machine gets several windows
// to show it; a drain that is held up is slower in all of them.
func TestStalledSinkDelaysNobody(t *testing.T) {
	t.Parallel()
	const rate, windows, attempts = 50, 6, 250
	never := newSink(t, func([]arrival, arrival) answer { return answer{status: http.StatusOK, after: time.Hour} })
	beside := shakyBeside(t, never, rate, windows*attempts+50)
	alone := shakyBeside(t, newSink(t, nil), rate, windows*attempts+50)
	for window := range windows {
		from, to := window*attempts, (window+1)*attempts
		until(t, time.Minute, "attempts at both sinks", func() bool { return beside.count() >= to && alone.count() >= to })
		log := beside.arrivals()[from:to]
		mean, want := meanRate(log), min(rate, meanRate(alone.arrivals()[from:to]))
		t.Logf("mean rate beside a sink that never answers %.1f/s, beside a healthy one %.1f/s", mean, want)
		if mean > 1.05*rate {
			t.Errorf("mean rate %.1f/s, %d/s is permitted", mean, rate)
		}
		if mean >= 0.95*want {
			if n := never.count(); n != 64 {
				t.Errorf("%d attempts at the stalled sink, want as many as it has slots", n)
			}
			return
		}
	}
	t.Error("the mean rate is not once within 5 % of that beside a healthy sink")
}

// shakyBeside starts a program with a backlog of n for two drains, one to the
// neighbour and one to a sink that answers 503 to one attempt in twenty.
func shakyBeside(t *testing.T, neighbour *sink, rate, n int) *sink {
	t.Helper()
	shaky := newSink(t, func(log []arrival, _ arrival) answer {
		if len(log)%20 == 7 {
			return answer{status: http.StatusServiceUnavailable}
		}
		return answer{status: http.StatusOK}
	})
	orders := slices.Repeat(realOrders(t), n/512+1)[:n]
	postAll(t, newSite(t, fanOutPolicy(neighbour.url, shaky.url, rate)).start().public, orders, 16)
	return shaky
}

// What was given up on purpose can be left out of the policy; before, the
// reload says how.
func TestDropThenReload(t *testing.T) {
	shop := newSink(t, nil)
	site := newSite(t, fanOutPolicy(shop.url, shop.url, 0))
	srv := site.start()
	postAll(t, srv.public, realOrders(t)[:10], 2)
	without := strings.Replace(fanOutPolicy(shop.url, shop.url, 0), "  - { name: to-stalled, stream: orders, sink: stalled, schedule: { base: 0/s } }\n", "", 1)
	site.setPolicy(without)
	if r := reload(t, srv); r.status != http.StatusUnprocessableEntity || !strings.Contains(string(r.body), "forebay drains drop to-stalled") {
		t.Fatalf("reload without a drain that has messages = %d %s, want 422 and how to give them up", r.status, r.body)
	}
	if said := cli(t, srv, "drains drop to-stalled --reason INC-3"); said != "10 messages cancelled\n" {
		t.Errorf("drains drop = %q", said)
	}
	if r := reload(t, srv); r.status != http.StatusOK {
		t.Fatalf("reload after the drop = %d %s", r.status, r.body)
	}
	if got := audit(t, srv); got.Drain != "to-shaky" || got.Buffered != 10 {
		t.Errorf("audit = %+v, want the other drain alone", got)
	}

	// A start is no reload: what the policy leaves out stays, and is told.
	srv.stop()
	site.setPolicy(strings.NewReplacer("to-shaky", "to-other").Replace(without))
	srv = site.start()
	var drains []struct{ Name, State string }
	cliJSON(t, srv, "drains list", "", &drains)
	if !slices.ContainsFunc(drains, func(d struct{ Name, State string }) bool { return d.Name == "to-shaky" && d.State == "orphaned" }) {
		t.Errorf("drains = %+v, want to-shaky orphaned", drains)
	}
	if v, ok := metric(t, srv, `forebay_drain_orphaned{drain="to-shaky"}`); !ok || v != 1 {
		t.Errorf("forebay_drain_orphaned = %v, %v, want 1", v, ok)
	}
	if said := srv.stderr.tail(keptLines); !strings.Contains(said, "msg=orphaned") {
		t.Errorf("the log does not tell of it:\n%s", said)
	}
}

// A drain that a reload adds starts where its policy says, and stays there over
// a kill.
func TestDrainAddedByReload(t *testing.T) {
	t.Parallel()
	first, oldest, latest := newSink(t, nil), newSink(t, nil), newSink(t, nil)
	site := newSite(t, orderPolicy(first.url, "0"))
	srv := site.start()
	orders := realOrders(t)
	before := postAll(t, srv.public, orders[:10], 2)
	site.setPolicy(addDrain(addDrain(orderPolicy(first.url, "0"),
		"oldest", oldest.url, "from: oldest"), "latest", latest.url, "from: latest"))
	if r := reload(t, srv); r.status != http.StatusOK {
		t.Fatalf("reload with two more drains = %d %s", r.status, r.body)
	}
	after := postAll(t, srv.public, orders[10:15], 2)
	want := map[string]account{
		"orders-to-shop": {Accepted: 15, Buffered: 15},
		"oldest":         {Accepted: 15, Delivered: 15},
		"latest":         {Accepted: 5, Delivered: 5},
	}
	wantAccounts(t, srv, want)
	srv.kill()
	srv = site.start()
	wantAccounts(t, srv, want)
	wantOnce(t, unlessAgain(oldest.arrivals()), orders[:15], append(before, after...))
	wantOnce(t, unlessAgain(latest.arrivals()), orders[10:15], after)
	if n := first.count(); n != 0 {
		t.Errorf("%d attempts by the first drain, want none at rate 0", n)
	}
}

// addDrain adds a drain with a clause, and a sink of its name.
func addDrain(policy, name, url, clause string) string {
	policy = strings.Replace(policy, "streams:\n", fmt.Sprintf("  - { name: %s, http: { urls: [%q] } }\nstreams:\n", name, url), 1)
	return strings.Replace(policy, "routes:\n", fmt.Sprintf("  - { name: %s, stream: orders, sink: %[1]s, %s }\nroutes:\n", name, clause), 1)
}

// wantAccounts waits until the drains' accounts are these.
func wantAccounts(t *testing.T, srv *server, want map[string]account) {
	t.Helper()
	for name, a := range want {
		a.Stream, a.Drain = "orders", name
		want[name] = a
	}
	got := make(map[string]account)
	limit := time.Now().Add(15 * time.Second)
	for !maps.Equal(got, want) {
		if time.Now().After(limit) {
			t.Fatalf("audit = %+v, want %+v", got, want)
		}
		for _, a := range audits(t, srv) {
			got[a.Drain] = a
		}
	}
}

// unlessAgain leaves out what came again: a kill may repeat the last 100 ms.
func unlessAgain(log []arrival) []arrival {
	seen := make(map[string]bool)
	return slices.DeleteFunc(log, func(a arrival) bool {
		again := seen[a.ID]
		seen[a.ID] = true
		return again
	})
}

// A stream with a backlog cannot be left out of the policy until it is given up.
func TestDropStreamThenReload(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	site := newSite(t, twoStreams(shop.url))
	srv := site.start()
	postAll(t, srv.public, realOrders(t)[:7], 2)
	c := newCaller(t, 1)
	for range 3 {
		if r, err := c.do(http.MethodPost, srv.public+"/v1/logs", []byte("{}")); err != nil || r.status != http.StatusAccepted {
			t.Fatalf("POST /v1/logs = %d %s, %v", r.status, r.body, err)
		}
	}
	site.setPolicy(orderPolicy(shop.url, "0"))
	if r := reload(t, srv); r.status != http.StatusUnprocessableEntity || !strings.Contains(string(r.body), "forebay streams drop logs") {
		t.Fatalf("reload without a stream that has messages = %d %s, want 422 and how to give them up", r.status, r.body)
	}
	if said := cli(t, srv, "streams drop logs --reason INC-4"); said != "3 messages cancelled\n" {
		t.Errorf("streams drop = %q", said)
	}
	if r := reload(t, srv); r.status != http.StatusOK {
		t.Fatalf("reload after the drop = %d %s", r.status, r.body)
	}
	srv.kill()
	srv = site.start()
	if got := audit(t, srv); got.Stream != "orders" || got.Buffered != 7 {
		t.Errorf("audit = %+v, want the other stream alone, untouched", got)
	}
	wantEvents(t, srv, "reload-refused", "stream-drop", "reload", "start")
}

// twoStreams is orderPolicy at rate 0, and a stream of logs like it.
func twoStreams(sinkURL string) string {
	return strings.NewReplacer(
		"drains:\n", "  - name: logs\ndrains:\n  - { name: logs-to-shop, stream: logs, sink: shop, schedule: { base: 0 } }\n",
		"routes:\n", "routes:\n  - { name: logs, match: { methods: [POST], path: /v1/logs }, mode: buffer, stream: logs }\n",
	).Replace(orderPolicy(sinkURL, "0"))
}
