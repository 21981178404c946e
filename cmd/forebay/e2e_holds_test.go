package main_test

import (
	"slices"
	"testing"
	"time"
)

// A rate and a pause that operators lay on a drain outlive a kill, and end when
// they were to.
func TestHoldsOutliveAKill(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	site := newSite(t, orderPolicy(shop.url, "10/s"))
	srv := site.start()
	postAll(t, srv.public, realOrders(t)[:512], 16)
	postAll(t, srv.public, realOrders(t)[:200], 16)
	until(t, 10*time.Second, "deliveries at the schedule's rate", func() bool { return shop.count() >= 5 })

	cli(t, srv, "drains rate orders-to-shop 100/s --for 4s --reason INC-1")
	_, ends := heldBy(t, srv, "override")
	before := shop.count()
	until(t, 10*time.Second, "deliveries at the override's rate", func() bool { return shop.count() >= before+50 })
	srv.kill()
	srv = site.start()
	started := time.Now().Round(0)
	until(t, 20*time.Second, "the override has ended", func() bool { return time.Now().After(ends.Add(2500 * time.Millisecond)) })
	log := shop.arrivals()
	if left := ends.Sub(started) - time.Second; left > 500*time.Millisecond { // else the start took all of it
		rate := float64(between(log, started.Add(time.Second), ends)) / left.Seconds()
		if rate < 40 || rate > 110 { // a busy machine loses some of it; the schedule's is 10/s
			t.Errorf("%.0f/s from a second after the start to the end of the override, want 100/s", rate)
		}
	}
	if n := between(log, ends.Add(500*time.Millisecond), ends.Add(2500*time.Millisecond)); n > 25 {
		t.Errorf("%d deliveries in two seconds after the override, want 20", n)
	}
	// On a busy machine a timer is late, and the schedule's rate comes a little later.
	until(t, 12*time.Second, "two seconds at the schedule's rate after the override", func() bool {
		now := time.Now().Round(0)
		from := now.Add(-2 * time.Second)
		n := between(shop.arrivals(), from, now)
		return from.After(ends) && n >= 15 && n <= 25
	})

	cli(t, srv, "drains pause orders-to-shop --for 4s --reason INC-2")
	srv.kill()
	srv = site.start()
	reason, ends := heldBy(t, srv, "paused")
	if reason != "INC-2" {
		t.Errorf("why says %q of the pause, want its reason", reason)
	}
	started = time.Now().Round(0)
	until(t, 20*time.Second, "the pause has ended, and deliveries go on", func() bool {
		return between(shop.arrivals(), ends, ends.Add(time.Minute)) >= 5
	})
	log = shop.arrivals()
	if n := between(log, started, ends); n > 0 {
		t.Errorf("%d deliveries while the drain was paused", n)
	}
	if n := between(log, ends, ends.Add(time.Second)); n < 3 {
		t.Errorf("%d deliveries in the second after the pause, want 10", n)
	}
	wantEvents(t, srv, "drain-rate", "override-ended", "drain-pause", "paused-ended")
}

// wantEvents looks for these kinds in the operator log, in this order.
func wantEvents(t *testing.T, srv *server, kinds ...string) {
	t.Helper()
	var events struct {
		Items []struct{ Kind string }
	}
	cliJSON(t, srv, "events", "", &events)
	told := make([]string, len(events.Items))
	for i, e := range events.Items {
		told[i] = e.Kind
	}
	rest := told
	for _, kind := range kinds {
		i := slices.Index(rest, kind)
		if i < 0 {
			t.Errorf("events = %v, want %v among them, in this order", told, kinds)
			return
		}
		rest = rest[i+1:]
	}
}
