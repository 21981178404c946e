package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func livePolicy(sink string, rate, burst int) string {
	return fmt.Sprintf(`version: 1
sinks: [{ name: shop, http: { urls: [%q] }, budget: { rate: %d/s, burst: %d, concurrency: { max: 16 } } }]
streams: [{ name: orders }]
drains: [{ name: orders-to-shop, stream: orders, sink: shop, schedule: { base: unlimited } }]
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders }
  - { name: read, match: { path_prefix: /v1/read }, mode: pass, sink: shop }
  - { name: pay, match: { path_prefix: /v1/pay }, mode: hold, sink: shop, hold_up_to: 30s }
`, sink, rate, burst)
}

// Requests that pass, that are held and that are drained keep to the sink's one
// budget, in the sink's log; and each kind gets on.
func TestOneBudget(t *testing.T) {
	t.Parallel()
	const rate, burst = 200, 5
	late, shop := watchLateness(t), newSink(t, nil)
	srv := newSite(t, livePolicy(shop.url, rate, burst)).start()
	orders := make([][]byte, 400)
	for i := range orders {
		orders[i] = fmt.Appendf(nil, "%d", i)
	}
	postAll(t, srv.public, orders, 8)

	c := newCaller(t, 16)
	stop, passed, refused := make(chan struct{}), 0, 0
	var callers sync.WaitGroup
	for _, path := range []string{"/v1/read", "/v1/pay", "/v1/pay", "/v1/pay", "/v1/pay"} {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				got, err := c.do("GET", srv.public+path, nil)
				switch {
				case err == nil && got.status == http.StatusOK:
					if path == "/v1/read" {
						passed++
					}
				case err == nil && path == "/v1/read" && got.status == 503 && strings.Contains(string(got.body), "sink-budget"):
					refused++
				default:
					t.Errorf("GET %s: %v, %d, %s", path, err, got.status, got.body)
					return
				}
			}
		})
	}
	live := func() (n int) {
		for _, a := range shop.arrivals() {
			if a.ID == "" {
				n++
			}
		}
		return n
	}
	until(t, 60*time.Second, "all orders and 200 live requests at the sink", func() bool {
		n := live()
		return n >= 200 && shop.count()-n >= len(orders)
	})
	close(stop)
	callers.Wait()
	t.Logf("%d passed at once, %d were refused", passed, refused)
	if breach := (envelope{rate: rate, burst: burst, late: late.max()}).breach(times(shop.arrivals())); breach != "" {
		t.Error(breach)
	}
	if n, ok := metric(t, srv, `forebay_sink_live_requests_total{sink="shop"}`); !ok || int(n) != live() {
		t.Errorf("forebay_sink_live_requests_total = %v, %v; the sink saw %d", n, ok, live())
	}
	if n, ok := metric(t, srv, `forebay_sink_in_flight_requests{sink="shop"}`); !ok || n != 0 {
		t.Errorf("forebay_sink_in_flight_requests = %v, %v at the end", n, ok)
	}
	if n, ok := metric(t, srv, `forebay_ingress_requests_total{code="200",decision="held",route="pay"}`); !ok || n == 0 {
		t.Errorf("forebay_ingress_requests_total of held = %v, %v", n, ok)
	}
	srv.stop()
}

// A sink that an operator pauses gets nothing, over a kill too, until the pause is
// lifted.
func TestPausedSink(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	site := newSite(t, livePolicy(shop.url, 1000, 10))
	srv := site.start()
	c := newCaller(t, 4)
	get := func(path string, want int, part string) {
		t.Helper()
		if got, err := c.do("GET", srv.public+path, nil); err != nil || got.status != want || !strings.Contains(string(got.body), part) {
			t.Errorf("GET %s: %v, %d, %s; want %d with %s", path, err, got.status, got.body, want, part)
		}
	}
	get("/v1/read", 200, "")
	cli(t, srv, "sinks pause shop --for 1h --reason INC-1")
	srv.kill()
	srv = site.start()
	get("/v1/read", 503, "sink-paused")
	get("/v1/pay", 503, "sink-paused")
	postAll(t, srv.public, realOrders(t)[:5], 4)
	if text := cli(t, srv, "sinks"); !strings.Contains(text, "paused") {
		t.Errorf("forebay sinks: %s", text)
	}
	if reason, _ := heldBy(t, srv, "paused"); !strings.Contains(reason, "INC-1") {
		t.Errorf("why says %q", reason)
	}
	if text := cli(t, srv, "events"); !strings.Contains(text, "sink-pause") {
		t.Errorf("forebay events: %s", text)
	}
	if n := shop.count(); n != 1 {
		t.Errorf("the sink saw %d requests, want the one before the pause", n)
	}
	cli(t, srv, "sinks resume shop")
	get("/v1/read", 200, "")
	until(t, 10*time.Second, "the orders are delivered", func() bool { return shop.count() >= 7 })
	srv.stop()
}
