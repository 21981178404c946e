package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"forebay/ingress/ingresstest"
)

// spilling is a policy with one overflow route, to a sink that has room for some.
func spilling(url, budget string) string {
	return fmt.Sprintf(`version: 1
sinks:
  - { name: shop, http: { urls: [%q], timeout: { total: 1s } }, budget: { %s }, breaker: off }
streams:
  - { name: orders, ordering_key: ["json:/customer"] }
drains:
  - name: orders
    stream: orders
    sink: shop
    schedule: { base: unlimited }
    retry: { max_attempts: 1000, backoff: { initial: 5ms, max: 20ms }, budget: 100%% }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: overflow, sink: shop, stream: orders, hold_up_to: 5ms, wait_max: 1s }
`, url, budget)
}

// TestTortureOverflow kills the program at random points while customers post to a
// route with mode: overflow, over budgets that change and a sink that fails, and then
// holds what the sink saw of each customer against what he was told.
// `make torture N=…` runs it with N kills.
func TestTortureOverflow(t *testing.T) {
	t.Parallel()
	kills := envInt(t, "FOREBAY_TORTURE_KILLS", 3)
	seed := uint64(envInt(t, "FOREBAY_TORTURE_SEED", int(time.Now().UnixNano())))
	t.Logf("FOREBAY_TORTURE_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	h := &ingresstest.History{}
	flaky := ingresstest.NewSink(h, seed, time.Second)
	server := httptest.NewServer(flaky)
	t.Cleanup(server.Close)
	shop := server.URL
	budgets := []string{"rate: 400/s, burst: 3", "concurrency: { max: 20 }", "rate: 1000/s, concurrency: { max: 8 }"}
	site := newSite(t, spilling(shop, budgets[0]))

	var url atomic.Pointer[string]
	srv := site.start()
	url.Store(&srv.public)
	callers := &ingresstest.Callers{
		History: h, URL: func() string { return *url.Load() },
		Customers: 30, Each: 3, Rest: 300 * time.Millisecond, Seed: seed,
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	end, giveUp := context.WithTimeout(t.Context(), time.Duration(60+10*kills)*time.Second)
	defer giveUp()
	posted := make(chan struct{})
	go func() {
		defer close(posted)
		callers.Run(ctx, end)
	}()
	for i := range kills {
		within(srv, time.Duration(200+rng.IntN(900))*time.Millisecond)
		srv.kill()
		h.CutOff()
		site.setPolicy(spilling(shop, budgets[(i+1)%len(budgets)]))
		srv = site.start()
		url.Store(&srv.public)
	}
	within(srv, 500*time.Millisecond)
	stop()
	flaky.Recover()
	<-posted
	until(t, 60*time.Second, "all that was taken is carried out", func() bool { return h.Undelivered() == 0 })
	for _, what := range h.Disorder() {
		t.Error(what)
	}
	c := h.Counts()
	fmt.Printf("torture: %d kills of an overflow route, %d requests, %d live and %d drained attempts, 0 out of order\n", kills, c.Requests, c.Live, c.Drained)
	if c.Taken < 50 || c.Stored < 10 || c.Live < 10 || c.Drained < 10 {
		t.Errorf("the run has seen too little: %+v", c)
	}
	if got := audit(t, srv); got.Imbalance != 0 || got.Buffered != 0 {
		t.Errorf("audit = %+v, want all of it delivered", got)
	}
	srv.stop()
}
