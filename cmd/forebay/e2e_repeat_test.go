package main_test

import (
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Ten thousand requests with one Idempotency-Key, from many callers at once, are
// one message with one receipt; after a kill they still are.
func TestRacingCallersMakeOneMessage(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	site := newSite(t, orderPolicy(shop.url, "0"))
	srv := site.start()
	order := realOrders(t)[0]
	r := race(t, srv, order, 10_000, 64)
	if r.first != 1 {
		t.Errorf("%d answers came without Idempotent-Replayed, want one", r.first)
	}
	if len(r.ids) != 1 {
		t.Fatalf("%d receipts, want one: %v", len(r.ids), r.ids)
	}
	if got := audit(t, srv); got.Accepted != 1 {
		t.Errorf("audit = %+v, want one message", got)
	}

	srv.kill()
	site.setPolicy(orderPolicy(shop.url, "100/s"))
	srv = site.start()
	again := race(t, srv, order, 100, 8)
	if again.first != 0 || len(again.ids) != 1 {
		t.Errorf("after a kill: %d new, receipts %v, want the first one again", again.first, again.ids)
	}
	for id := range again.ids {
		if !r.ids[id] {
			t.Errorf("after a kill the receipt is %s, and was %v", id, r.ids)
		}
	}
	other, err := newCaller(t, 1).send(http.MethodPost, srv.public+"/v1/orders", realOrders(t)[1], map[string]string{"Idempotency-Key": "order-7"})
	if err != nil || other.status != http.StatusUnprocessableEntity {
		t.Fatalf("another body with the key = %d %s (%v), want 422", other.status, other.body, err)
	}
	if got := problemType(t, other); got != "urn:forebay:problem:idempotency-mismatch" {
		t.Errorf("type %q, want idempotency-mismatch", got)
	}
	if got := settle(t, srv, 10*time.Second); got.Accepted != 1 || got.Delivered != 1 || shop.count() != 1 {
		t.Errorf("audit = %+v with %d attempts, want one message, delivered once", got, shop.count())
	}
}

// What came of a race: the receipts, and how many answers were no replays.
type raced struct {
	ids   map[string]bool
	first int64
}

// race posts the order with one key so many times. Each of them gets a receipt;
// who is told that the first is still being stored asks again.
func race(t *testing.T, srv *server, order []byte, times, callers int) raced {
	t.Helper()
	c := newCaller(t, callers)
	ids := make(map[string]bool)
	var (
		mu         sync.Mutex // guards ids
		wg         sync.WaitGroup
		turn, news atomic.Int64
	)
	one := func() bool {
		r, err := c.send(http.MethodPost, srv.public+"/v1/orders", order, map[string]string{"Idempotency-Key": "order-7"})
		for err == nil && r.status == http.StatusConflict {
			r, err = c.send(http.MethodPost, srv.public+"/v1/orders", order, map[string]string{"Idempotency-Key": "order-7"})
		}
		var rec receipt
		if err != nil || r.status != http.StatusAccepted || json.Unmarshal(r.body, &rec) != nil {
			t.Errorf("POST = %d %s (%v), want 202 and a receipt", r.status, r.body, err)
			return false
		}
		if r.header.Get("Idempotent-Replayed") != "true" {
			news.Add(1)
		}
		mu.Lock()
		ids[rec.ID] = true
		mu.Unlock()
		return true
	}
	for range callers {
		wg.Go(func() {
			for turn.Add(1) <= int64(times) {
				if !one() {
					return
				}
			}
		})
	}
	wg.Wait()
	return raced{ids: ids, first: news.Load()}
}
