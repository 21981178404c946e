package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// The main job: a burst comes in, durable, in a moment; a service that would
// collapse under it sees each order once, at the pace it can take.
func TestBurst(t *testing.T) {
	orders, late := realOrders(t), watchLateness(t)
	shop := newSink(t, collapsesAbove(120))
	srv := newSite(t, orderPolicy(shop.url, "100/s")).start()

	began := time.Now()
	receipts := postAll(t, srv.public, orders, 32)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("512 orders over 32 connections were accepted in %v, want less than 2 s", took)
	}
	until(t, 30*time.Second, "512 attempts at the sink", func() bool { return shop.count() >= len(orders) })
	got := settle(t, srv, 5*time.Second)

	log := shop.arrivals()
	wantOnce(t, log, orders, receipts)
	if breach := (envelope{rate: 100, burst: 1, late: late.max()}).breach(times(log)); breach != "" {
		t.Error(breach)
	}
	for _, a := range log {
		if a.Status != http.StatusOK {
			t.Errorf("the sink answered %d: it was driven above what it can take", a.Status)
		}
		if a.Method != http.MethodPost || a.Target != "/v1/orders" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("the sink saw %s %s %s, want the caller's own", a.Method, a.Target, a.Header.Get("Content-Type"))
		}
		if a.Header.Get("Forebay-Attempt") != "1" || a.Header.Get("Forebay-Stream") != "orders" || a.Header.Get("Idempotency-Key") != a.ID {
			t.Errorf("fields of the delivery: %v", a.Header)
		}
	}
	// 5.1 s on a machine with nothing else to do; a drain that waits for its sink
	// or loses its grid takes much longer.
	if span := log[len(log)-1].At.Sub(log[0].At); span > 7*time.Second {
		t.Errorf("512 orders at 100/s took %v, want about 5.1 s", span)
	}

	c := newCaller(t, 4)
	for _, r := range receipts {
		now := getReceipt(t, c, srv.public, r.ID)
		if now.State != "delivered" || now.Drains[0].State != "delivered" || now.Drains[0].Attempts != 1 {
			t.Errorf("receipt %s at the end: %+v", r.ID, now)
		}
	}
	want := account{Stream: "orders", Drain: "orders-to-shop", Accepted: 512, Delivered: 512}
	if got != want {
		t.Errorf("audit = %+v, want %+v", got, want)
	}
	if v, ok := metric(t, srv, `forebay_ledger_imbalance{drain="orders-to-shop",stream="orders"}`); !ok || v != 0 {
		t.Errorf("forebay_ledger_imbalance = %v, %v, want 0", v, ok)
	}
	if text := srv.stderr.tail(keptLines); strings.Contains(text, "StockCode") || strings.Contains(text, `"sku"`) {
		t.Errorf("the log carries message bodies:\n%s", text)
	}
	srv.stop()
}
