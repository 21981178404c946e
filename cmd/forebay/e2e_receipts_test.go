package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// problemType returns the type of a problem+json answer.
func problemType(t *testing.T, r reply) string {
	t.Helper()
	if ct := r.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/problem+json") {
		t.Errorf("Content-Type %q, want application/problem+json", ct)
	}
	var p struct {
		Type, Title, Detail string
		Status              int
		RequestID           string `json:"request_id"`
	}
	if err := json.Unmarshal(r.body, &p); err != nil {
		t.Fatalf("problem %q: %v", r.body, err)
	}
	if p.Status != r.status || p.Title == "" || p.RequestID == "" {
		t.Errorf("problem %s of an answer %d: status, title and request_id are to be there", r.body, r.status)
	}
	return p.Type
}

// A message that is cancelled before its turn never reaches the sink.
func TestCancel(t *testing.T) {
	shop := newSink(t, nil)
	site := newSite(t, orderPolicy(shop.url, "0"))
	srv := site.start()
	orders := realOrders(t)[:3]
	receipts := postAll(t, srv.public, orders, 1)
	c := newCaller(t, 1)
	victim := srv.public + "/.forebay/receipts/" + receipts[1].ID

	r, err := c.do(http.MethodDelete, victim, nil)
	if err != nil || r.status != http.StatusOK || !strings.Contains(string(r.body), `"cancelled"`) {
		t.Fatalf("DELETE = %d, %v: %s; want 200 and a receipt that says cancelled", r.status, err, r.body)
	}
	if r, err = c.do(http.MethodDelete, victim, nil); err != nil || r.status != http.StatusConflict {
		t.Fatalf("DELETE again = %d, %v: %s; want 409", r.status, err, r.body)
	}
	if got, want := problemType(t, r), "urn:forebay:problem:not-cancellable"; got != want {
		t.Errorf("type %q, want %q", got, want)
	}

	// What was cancelled stays so through a crash.
	srv.kill()
	site.setPolicy(orderPolicy(shop.url, "100/s"))
	srv = site.start()
	until(t, 10*time.Second, "the other two at the sink", func() bool { return shop.count() == 2 })
	got := settle(t, srv, 5*time.Second)
	if want := (account{Stream: "orders", Drain: "orders-to-shop", Accepted: 3, Delivered: 2, Cancelled: 1}); got != want {
		t.Errorf("audit = %+v, want %+v", got, want)
	}
	wantOnce(t, shop.arrivals(), [][]byte{orders[0], orders[2]}, []receipt{receipts[0], receipts[2]})
	for i, want := range []string{"delivered", "cancelled", "delivered"} {
		if now := getReceipt(t, c, srv.public, receipts[i].ID); now.State != want {
			t.Errorf("receipt %d: state %q, want %q", i, now.State, want)
		}
	}
	r, err = c.do(http.MethodDelete, srv.public+"/.forebay/receipts/"+receipts[0].ID, nil)
	if err != nil || r.status != http.StatusConflict {
		t.Errorf("DELETE of what is delivered = %d, %v, want 409", r.status, err)
	}
}

// The promise on a receipt holds: within a tenth of the wait, or a second.
func TestETA(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	srv := newSite(t, orderPolicy(shop.url, "20/s")).start()
	receipts := postAll(t, srv.public, realOrders(t)[:120], 16)

	type promise struct{ made, eta time.Time }
	promises := make(map[string]promise)
	c := newCaller(t, 1)
	for i := 20; i < len(receipts); i += 4 {
		now := getReceipt(t, c, srv.public, receipts[i].ID)
		if now.State == "delivered" || now.State == "delivering" {
			continue
		}
		if now.ETA == nil || now.Position == nil {
			t.Errorf("receipt %s waits with position %v and eta %v, want both", now.ID, now.Position, now.ETA)
			continue
		}
		promises[now.ID] = promise{made: time.Now(), eta: *now.ETA}
	}
	until(t, 20*time.Second, "every order delivered", func() bool { return shop.count() == len(receipts) })

	checked := 0
	for _, a := range shop.arrivals() {
		p, sampled := promises[a.ID]
		if !sampled {
			continue
		}
		checked++
		wait := a.At.Sub(p.made.Round(0))
		if miss := a.At.Sub(p.eta).Abs(); miss > max(time.Second, wait/10) {
			t.Errorf("eta %v, delivered %v: off by %v after a wait of %v", p.eta, a.At, miss, wait)
		}
	}
	if checked < 20 {
		t.Errorf("%d promises could be checked, want at least 20", checked)
	}
}

// A caller that prefers to wait gets the final state as soon as there is one.
func TestWaitForFinalState(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	srv := newSite(t, orderPolicy(shop.url, "5/s")).start()
	receipts := postAll(t, srv.public, realOrders(t)[:5], 1)
	req, err := http.NewRequest(http.MethodGet, srv.public+"/.forebay/receipts/"+receipts[4].ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Prefer", "wait=10")
	resp, err := newCaller(t, 1).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got receipt
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK || got.State != "delivered" {
		t.Errorf("GET with Prefer: wait=10 = %d, state %q, %v; want 200, delivered", resp.StatusCode, got.State, err)
	}
}

// With store_result, a caller who waits is answered as the service answered, and
// the receipt shows it, after a restart too.
func TestStoredResult(t *testing.T) {
	shop := newSink(t, func([]arrival, arrival) answer {
		return answer{status: http.StatusCreated, header: http.Header{"X-Order": {"42"}}}
	})
	site := newSite(t, orderPolicy(shop.url, "50/s")+"    store_result: { max_bytes: 1KiB }\n")
	srv := site.start()
	req, err := http.NewRequest(http.MethodPost, srv.public+"/v1/orders", strings.NewReader(`{"order_id":"1"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Prefer", "wait=10")
	resp, err := newCaller(t, 1).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated || resp.Header.Get("X-Order") != "42" {
		t.Errorf("POST with Prefer: wait=10 = %d, X-Order %q; want the service's own 201, 42", resp.StatusCode, resp.Header.Get("X-Order"))
	}
	id := resp.Header.Get("Forebay-Id")
	srv.stop()
	again := site.start()
	got, err := newCaller(t, 1).Get(again.public + "/.forebay/receipts/" + id)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil || !strings.Contains(string(text), `"X-Order":["42"]`) {
		t.Errorf("receipt of %q after a restart = %d %s, %v; want X-Order in its result", id, got.StatusCode, text, err)
	}
}
