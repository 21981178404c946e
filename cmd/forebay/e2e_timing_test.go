package main_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// A caller's times hold over a kill: nothing is tried before, and what is late by its
// own deadline is not tried at all.
func TestCallersSayWhen(t *testing.T) {
	t.Parallel()
	shop := newSink(t, func([]arrival, arrival) answer { return answer{status: http.StatusOK} })
	site := newSite(t, clauses{route: "timing: allowed", drain: "deadline: { max_delay: 1h, on_expire: expire }"}.policy(shop.url, "50/s"))
	srv := site.start()
	c := newCaller(t, 1)
	send := func(fields map[string]string) (rec receipt) {
		t.Helper()
		r, err := c.send(http.MethodPost, srv.public+"/v1/orders", []byte("{}"), fields)
		if err != nil || r.status != http.StatusAccepted {
			t.Fatalf("%v: status %d, %v: %s", fields, r.status, err, r.body)
		}
		if err := json.Unmarshal(r.body, &rec); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	after := time.Now().Add(3 * time.Second)
	scheduled := send(map[string]string{"Forebay-Deliver-After": after.UTC().Format(time.RFC3339Nano)})
	if scheduled.State != "scheduled" {
		t.Errorf("state %s, want scheduled", scheduled.State)
	}
	srv.kill()
	srv = site.start()
	c = newCaller(t, 1)
	until(t, 60*time.Second, "the first is delivered", func() bool {
		return getReceipt(t, c, srv.public, scheduled.ID).State == "delivered"
	})
	if log := shop.arrivals(); len(log) != 1 || log[0].ID != scheduled.ID || log[0].At.Before(after) {
		t.Errorf("the sink saw %+v, want one attempt not before %v", log, after)
	}
	if _, stderr, code := command(t, "drains", "pause", "orders-to-shop", "--reason", "test", "--admin-url", srv.admin); code != 0 {
		t.Fatalf("pause: %s", stderr)
	}
	never := send(map[string]string{"Forebay-Deadline": "3"})
	srv.kill()
	srv = site.start()
	c = newCaller(t, 1)
	until(t, 90*time.Second, "the other has expired", func() bool {
		return getReceipt(t, c, srv.public, never.ID).State == "expired"
	})
	if shop.count() != 1 {
		t.Errorf("%d attempts", shop.count())
	}
	if r, err := c.send(http.MethodPost, srv.public+"/v1/orders", []byte("{}"), map[string]string{"Forebay-Deadline": "yesterday"}); err != nil || r.status != http.StatusBadRequest {
		t.Errorf("a deadline that is none: status %d, %v", r.status, err)
	}
}

// What cannot be delivered in time is refused, and `why` and the windows tell of floor
// and ramp.
func TestInfeasibleAtTheDoor(t *testing.T) {
	t.Parallel()
	shop := newSink(t, func([]arrival, arrival) answer { return answer{status: http.StatusServiceUnavailable} })
	site := newSite(t, clauses{sink: "breaker: off", drain: "deadline: { max_delay: 1h }"}.policy(shop.url, "10/h, floor: 1/m"))
	srv := site.start()
	c := newCaller(t, 1)
	accepted := 0
	for ; accepted < 100; accepted++ {
		r, err := c.do(http.MethodPost, srv.public+"/v1/orders", []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if r.status == http.StatusAccepted {
			continue
		}
		var p struct{ Reason string }
		if err := json.Unmarshal(r.body, &p); err != nil {
			t.Fatal(err)
		}
		wait, _ := strconv.Atoi(r.header.Get("Retry-After"))
		if r.status != http.StatusServiceUnavailable || p.Reason != "deadline-infeasible" || wait < 1 || wait > 3*60 {
			t.Errorf("status %d, Retry-After %d: %s", r.status, wait, r.body)
		}
		break
	}
	if accepted < 57 || accepted > 61 {
		t.Errorf("%d were accepted of 60 that fit into an hour", accepted)
	}
	stdout, stderr, code := command(t, "why", "orders-to-shop", "-o", "json", "--admin-url", srv.admin)
	var why struct {
		Binding     string
		Rate        float64
		Constraints []struct {
			Name string
			Rate any
		}
	}
	if err := json.Unmarshal([]byte(stdout), &why); err != nil || code != 0 {
		t.Fatalf("why: %s%v", stderr, err)
	}
	if why.Binding != "floor" || why.Rate*60 < 0.99 || why.Rate*60 > 1.01 || why.Constraints[0].Name != "floor" || why.Constraints[1].Name != "schedule" {
		t.Errorf("why: %s", stdout)
	}
}
