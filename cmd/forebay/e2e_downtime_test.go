package main_test

import (
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// refusing is an address that refuses connections until it is opened. It is
// bound meanwhile, so that no other test gets its port.
func refusing(t *testing.T) (url string, open func() net.Listener) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "refusing")
	t.Cleanup(func() { file.Close() })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := bound.(*syscall.SockaddrInet4).Port
	return "http://127.0.0.1:" + strconv.Itoa(port), func() net.Listener {
		if err := syscall.Listen(fd, 128); err != nil {
			t.Fatal(err)
		}
		ln, err := net.FileListener(file)
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
}

// However a sink is down, and however few attempts a message has, nothing is
// buried: it is the sink that fails. Once it is back it gets everything.
func TestDowntimeBuriesNothing(t *testing.T) {
	t.Parallel()
	url, open := refusing(t)
	policy := clauses{
		http:  "timeout: { total: 400ms }",
		sink:  "breaker: off, budget: { rate: 200/s }",
		drain: "retry: { max_attempts: 2, backoff: { initial: 10ms, max: 100ms }, budget: 100% }",
	}
	srv := newSite(t, policy.policy(url, "200/s")).start()
	orders := realOrders(t)[:40]
	receipts := postAll(t, srv.public, orders, 8)
	failsFor(t, srv, 2*time.Second, func() int { return failures(t, srv, "orders-to-shop", "shop") })

	var now atomic.Pointer[answer]
	now.Store(&answer{status: http.StatusBadGateway})
	shop := newSinkOn(t, open(), func([]arrival, arrival) answer { return *now.Load() })
	for _, down := range []answer{
		{status: http.StatusBadGateway},
		{status: http.StatusServiceUnavailable},
		{status: http.StatusGatewayTimeout},
		{status: http.StatusTooManyRequests, header: http.Header{"Retry-After": {"1"}}},
		{status: http.StatusOK, after: time.Minute},
	} {
		now.Store(&down)
		failsFor(t, srv, 2*time.Second, shop.count)
	}
	if got := audit(t, srv); got.Buffered != len(orders) {
		t.Errorf("audit = %+v while the sink is down, want all buffered", got)
	}

	now.Store(&answer{status: http.StatusCreated}) // and never before
	if got := settle(t, srv, 30*time.Second); got.Delivered != len(orders) {
		t.Errorf("audit = %+v, want all delivered", got)
	}
	taken := make([]arrival, 0, len(orders))
	most := 0
	for _, a := range shop.arrivals() {
		attempt, err := strconv.Atoi(a.Header.Get("Forebay-Attempt"))
		if err != nil {
			t.Fatalf("Forebay-Attempt: %v", err)
		}
		if most = max(most, attempt); a.Status == http.StatusCreated {
			taken = append(taken, a)
		}
	}
	// On a busy machine an answer may come after the time-out.
	wantOnce(t, unlessAgain(taken), orders, receipts)
	if most < 10 {
		t.Errorf("a message had %d attempts at most, want many more than max_attempts", most)
	}
}

// failsFor waits until attempts have gone on for that long.
func failsFor(t *testing.T, srv *server, long time.Duration, attempts func() int) {
	t.Helper()
	began, before := time.Now(), attempts()
	until(t, long+20*time.Second, "attempts at a sink that is down", func() bool {
		if !srv.running() {
			t.Fatalf("the program ended: %s", srv.stderr.tail(40))
		}
		return time.Since(began) >= long && attempts() > before
	})
}
