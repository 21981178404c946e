package main_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"
)

// SIGTERM in the middle of the work loses nothing and repeats nothing.
func TestGracefulStop(t *testing.T) {
	shop := newSink(t, func([]arrival, arrival) answer { return answer{status: 200, after: 20 * time.Millisecond} })
	site := newSite(t, orderPolicy(shop.url, fmt.Sprintf("%d/s", tortureRate)))
	load := startLoad(t, realOrders(t), 8)
	for range 2 {
		srv := site.start()
		load.sendTo(srv.public)
		target := load.acked.Load() + 200
		until(t, 20*time.Second, "the callers get on", func() bool { return load.acked.Load() >= target })
		srv.stop()
		load.sendTo("")
	}
	load.stop()

	srv := site.start()
	account := settle(t, srv, 30*time.Second)
	srv.stop()
	v := verdict(t, load, shop.arrivals(), nil)
	if v.lost != 0 || v.duplicates != 0 {
		t.Errorf("%d lost, %d duplicates, want none: nothing crashed", v.lost, v.duplicates)
	}
	if account.Accepted != v.distinct {
		t.Errorf("audit = %+v, but the sink saw %d messages", account, v.distinct)
	}
}

// A caller's own repetition is two messages; the program makes them neither one
// nor three.
func TestSameBodyTwice(t *testing.T) {
	shop := newSink(t, nil)
	srv := newSite(t, orderPolicy(shop.url, "100/s")).start()
	order := realOrders(t)[0]
	receipts := postAll(t, srv.public, [][]byte{order, order}, 1)
	settle(t, srv, 10*time.Second)
	wantOnce(t, shop.arrivals(), [][]byte{order, order}, receipts)
	if a := shop.arrivals()[0]; a.Sum != sha256.Sum256(order) {
		t.Errorf("the body of %s is not what was posted", a.ID)
	}
}
