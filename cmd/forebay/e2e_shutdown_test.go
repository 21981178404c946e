package main_test

import (
	"crypto/sha256"
	"testing"
	"time"
)

// SIGTERM in the middle of the work loses nothing and repeats nothing: where
// nothing crashed, every duplicate is a fault.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	x := newTorture(t, 2, "stops", "")
	for range 2 {
		srv := x.site.start()
		x.load.sendTo(srv.public)
		x.load.awaits(t, 200)
		srv.stop()
		x.load.sendTo("")
	}
	x.report(x.judge())
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
