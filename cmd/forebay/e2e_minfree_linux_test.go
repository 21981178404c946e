package main_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// Where no more than min_free is left of the volume everything is refused, what is
// stored drains, and once others give space back orders are taken by themselves.
func TestMinFree(t *testing.T) {
	t.Parallel()
	// By half of it others may move what is free, and the test still holds.
	const hog = 512 << 20
	shop := newSink(t, nil)
	var plain clauses
	site := newSite(t, plain.policy(shop.url, "0"))
	var volume syscall.Statfs_t
	if err := syscall.Statfs(site.dir, &volume); err != nil {
		t.Fatal(err)
	}
	free := int64(volume.Bavail) * volume.Bsize
	if free < 2*hog {
		t.Fatalf("%d MiB are free in %s, the test needs %d", free>>20, site.dir, 2*hog>>20)
	}
	site.write("forebay.yaml", fmt.Sprintf("version: 1\nbuffer: { segment_bytes: 1MiB, min_free: %d }\nshutdown: { delay: 200ms, timeout: 5s }\n", free-hog/2))
	srv := site.start()
	postAll(t, srv.public, realOrders(t)[:10], 2)

	f, err := os.Create(site.path("hog"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, hog); err != nil {
		t.Fatalf("reserve space: %v", err)
	}
	taken := 10 + fillUp(t, srv, 60_000, 250, "disk-full")
	site.setPolicy(plain.policy(shop.url, "unlimited"))
	reload(t, srv)
	if got := settle(t, srv, 20*time.Second); got.Delivered != taken {
		t.Errorf("%d delivered on a full disk, want the %d that were taken", got.Delivered, taken)
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	takesAgain(t, site, srv, plain.policy(shop.url, "unlimited"), taken)
}
