package main_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// cli runs a command against a server; it has to end with 0.
func cli(t *testing.T, srv *server, line string, more ...string) string {
	t.Helper()
	args := append(strings.Fields(line), more...)
	stdout, stderr, code := command(t, append(args, "--admin-url", srv.admin)...)
	if code != 0 {
		t.Fatalf("forebay %v: exit %d\n%s%s", args, code, stdout, stderr)
	}
	return stdout
}

// cliJSON runs a command with -o json, which has to print what the endpoint of
// that path returns.
func cliJSON(t *testing.T, srv *server, line, path string, v any) {
	t.Helper()
	said := cli(t, srv, line, "-o", "json")
	if path != "" {
		r, err := newCaller(t, 1).do(http.MethodGet, srv.admin+"/api/v1"+path, nil)
		if err != nil || r.status != http.StatusOK || string(r.body) != said {
			t.Errorf("forebay %s -o json = %s\nGET %s = %d %s (%v)", line, said, path, r.status, r.body, err)
		}
	}
	if err := json.Unmarshal([]byte(said), v); err != nil {
		t.Fatalf("forebay %s -o json = %s: %v", line, said, err)
	}
}

type deadPage struct {
	Items []struct {
		ID, Drain, Reason string
		Status, Attempts  int
		LastError         string `json:"last_error"`
	}
	Next *string
}

// What a sink refuses for good is dead with its reason; replay brings it back,
// under the same ids and at the drain's own pace.
func TestPermanentThenReplay(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	late := watchLateness(t)
	shop := newSink(t, func([]arrival, arrival) answer {
		if mended.Load() {
			return answer{status: http.StatusOK}
		}
		return answer{status: http.StatusUnprocessableEntity}
	})
	srv := newSite(t, orderPolicy(shop.url, "50/s")).start()
	orders := realOrders(t)[:60]
	receipts := postAll(t, srv.public, orders, 8)
	got := settle(t, srv, 20*time.Second)
	if got.Dead != 60 || got.Delivered != 0 {
		t.Fatalf("audit = %+v, want all dead", got)
	}
	var page deadPage
	cliJSON(t, srv, "dead list --drain orders-to-shop", "/dead?drain=orders-to-shop&limit=100", &page)
	if len(page.Items) != 60 || page.Next != nil {
		t.Fatalf("dead list has %d of 60, next %v", len(page.Items), page.Next)
	}
	for _, d := range page.Items {
		if d.Reason != "permanent" || d.Status != 422 || d.Attempts != 1 {
			t.Errorf("dead letter = %+v, want permanent after one 422", d)
		}
	}
	if shown := cli(t, srv, "dead show "+receipts[0].ID); !strings.Contains(shown, string(orders[0])) || !strings.Contains(shown, "permanent") {
		t.Errorf("dead show = %s, want the order and its reason", shown)
	}
	if said := cli(t, srv, "dead replay --drain orders-to-shop --dry-run"); said != "60 dead letters would be replayed\n" {
		t.Errorf("dry run = %q", said)
	}

	mended.Store(true)
	before := shop.count()
	if said := cli(t, srv, "dead replay --drain orders-to-shop --died-of permanent --reason INC-123"); said != "60 dead letters replayed\n" {
		t.Errorf("replay = %q", said)
	}
	got = settle(t, srv, 20*time.Second)
	if got.Delivered != 60 || got.Dead != 0 {
		t.Errorf("audit = %+v, want all delivered", got)
	}
	log := shop.arrivals()[before:]
	wantOnce(t, log, orders, receipts)
	if breach := (envelope{rate: 50, burst: 1, late: late.max()}).breach(times(log)); breach != "" {
		t.Errorf("the replay: %s", breach)
	}
	if attempt := log[0].Header.Get("Forebay-Attempt"); attempt != "2" {
		t.Errorf("Forebay-Attempt of a replay = %q, want 2", attempt)
	}
	var events struct {
		Items []struct{ Kind, Object, Actor, Reason, Detail string }
	}
	cliJSON(t, srv, "events", "", &events)
	last := events.Items[len(events.Items)-1]
	if last.Kind != "dead-replay" || last.Actor != "local" || last.Reason != "INC-123" || !strings.Contains(last.Detail, "60 of 60") {
		t.Errorf("the newest event is %+v, want the replay", last)
	}
}

// An override and a pause are felt within a second, on what is queued too, and
// end by themselves on time.
func TestOverrideAndPause(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	srv := newSite(t, orderPolicy(shop.url, "20/s")).start()
	postAll(t, srv.public, realOrders(t)[:500], 16)
	until(t, 10*time.Second, "deliveries at the schedule's rate", func() bool { return shop.count() >= 10 })

	laid := time.Now().Round(0)
	cli(t, srv, "drains rate orders-to-shop 100/s --for 2s --reason INC-1")
	ends := time.Now().Round(0).Add(2 * time.Second)
	until(t, 10*time.Second, "the override has ended", func() bool { return time.Now().After(ends.Add(1500 * time.Millisecond)) })
	log := shop.arrivals()
	if late := firstRun(log, 20, 300*time.Millisecond).Sub(laid); late > time.Second {
		t.Errorf("the override took hold after %v, want less than 1 s", late)
	}
	slow := between(log, ends.Add(500*time.Millisecond), ends.Add(1500*time.Millisecond))
	if slow < 15 || slow > 25 {
		t.Errorf("%d deliveries in a second after the override, want 20", slow)
	}

	laid = time.Now().Round(0)
	cli(t, srv, "drains pause orders-to-shop --for 2s --reason INC-2")
	ends = time.Now().Round(0).Add(2 * time.Second)
	if said := cli(t, srv, "why orders-to-shop"); !strings.Contains(said, "held by paused") || !strings.Contains(said, "INC-2") {
		t.Errorf("why = %s, want the pause and its reason", said)
	}
	if v, ok := metric(t, srv, `forebay_drain_paused{drain="orders-to-shop"}`); !ok || v != 1 {
		t.Errorf("forebay_drain_paused = %v, %v, want 1", v, ok)
	}
	until(t, 10*time.Second, "the pause has ended, and deliveries go on", func() bool {
		return time.Now().After(ends.Add(time.Second)) && between(shop.arrivals(), ends, ends.Add(time.Second)) > 10
	})
	if n := between(shop.arrivals(), laid.Add(time.Second), ends.Add(-100*time.Millisecond)); n > 0 {
		t.Errorf("%d deliveries a second after the pause", n)
	}
}

// between counts the arrivals from one time to another.
func between(log []arrival, from, to time.Time) int {
	n := 0
	for _, a := range log {
		if !a.At.Before(from) && a.At.Before(to) {
			n++
		}
	}
	return n
}
