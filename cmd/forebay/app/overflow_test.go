package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/drain"
	"forebay/ingress"
	"forebay/ingress/ingresstest"
	"forebay/policies"
)

// overflowTo is a policy whose route has room for some requests, lets others wait, and
// stores the rest.
func overflowTo(url string, budget string) string {
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
  - { name: create-order, match: { path: /v1/orders }, mode: overflow, sink: shop, stream: orders, hold_up_to: 5ms, wait_max: 1s }
`, url, budget)
}

// budgets are what the policy changes between: the sink's rate, its slots, and little
// of both.
var budgets = []string{
	"rate: 2000/s, burst: 20", "concurrency: { max: 20 }", "rate: 400/s, burst: 3", "rate: 1500/s, concurrency: { max: 8 }",
}

// A shopfront is an overflow route in this process, with a buffer that may be broken.
type shopfront struct {
	t      *testing.T
	drains *drain.Drains
	policy atomic.Pointer[policies.Set]
	url    string
}

func newShopfront(t *testing.T, policy string, breakIt func(ingress.Buffer) ingress.Buffer) *shopfront {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	engine, err := buffer.Open(t.Context(), buffer.Config{Dir: t.TempDir(), SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s := &shopfront{t: t, drains: drain.New(drain.Config{NewSink: newSink(log), StopTimeout: time.Second}, engine, log, nil)}
	if err := engine.Configure([]buffer.Stream{{Name: "orders", Drains: []string{"orders"}}}); err != nil {
		t.Fatal(err)
	}
	s.apply(policy)
	srv := ingress.NewServer(ingress.New(ingress.Config{
		Buffer: breakIt(engine), Policy: s.policy.Load, ETA: s.drains.ETA, Live: liveSinks{s.drains},
	}, log, nil), ingress.ServerConfig{}, log)
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + ln.Addr().String()
	ended := make(chan error, 2)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- serve(srv, ln) }()
	go func() { ended <- s.drains.Run(ctx) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *shopfront) apply(text string) {
	s.t.Helper()
	set, errs := policies.Parse([]policies.File{{Name: "policy.yaml", Data: []byte(text)}})
	if len(errs) > 0 {
		s.t.Fatal(errs)
	}
	if err := s.drains.Apply(set); err != nil {
		s.t.Fatal(err)
	}
	s.policy.Store(set)
}

// overflowRun has callers post for a time, over changes of the budget, and returns
// what was seen once all that was taken is carried out. Where enough says so it ends
// before.
func overflowRun(t *testing.T, lasts time.Duration, breakIt func(ingress.Buffer) ingress.Buffer, enough func(*ingresstest.History) bool) *ingresstest.History {
	t.Helper()
	h := &ingresstest.History{}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	sink := ingresstest.NewSink(h, seed, time.Second)
	shop := httptest.NewServer(sink)
	defer shop.Close()
	s := newShopfront(t, overflowTo(shop.URL, budgets[0]), breakIt)
	callers := &ingresstest.Callers{History: h, URL: func() string { return s.url }, Customers: 30, Each: 3, Rest: 300 * time.Millisecond, Seed: seed}
	ctx, stop := context.WithTimeout(t.Context(), lasts)
	defer stop()
	end, giveUp := context.WithTimeout(t.Context(), lasts+20*time.Second)
	defer giveUp()
	posted := make(chan struct{})
	go func() {
		defer close(posted)
		callers.Run(ctx, end)
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 1; ctx.Err() == nil; i++ {
		<-tick.C
		s.apply(overflowTo(shop.URL, budgets[i%len(budgets)]))
		if enough != nil && enough(h) {
			stop()
		}
	}
	sink.Recover()
	<-posted
	for h.Undelivered() > 0 && end.Err() == nil {
		<-tick.C
	}
	return h
}

func sound(b ingress.Buffer) ingress.Buffer { return b }

// TestOverflowOrder: over busy, failing and silent answers, requests that are sent
// again, and budgets that change, requests of a key keep their order.
func TestOverflowOrder(t *testing.T) {
	h := overflowRun(t, 2*time.Second, sound, nil)
	for _, what := range h.Disorder() {
		t.Error(what)
	}
	if n := h.Undelivered(); n > 0 {
		t.Errorf("%d requests that were answered with success are not carried out", n)
	}
	c := h.Counts()
	t.Logf("%+v", c)
	if c.Taken < 100 || c.Stored < 20 || c.Live < 20 || c.Drained < 20 {
		t.Errorf("the run has seen too little: %+v", c)
	}
}

// unheld hands out what is stored beside live requests of its key.
type unheld struct{ ingress.Buffer }

func (b unheld) BeginLive(ctx context.Context, stream, key string) (buffer.Passage, error) {
	p, err := b.Buffer.BeginLive(ctx, stream, key)
	if p != nil {
		p.End()
		return passed{}, nil
	}
	return p, err
}

// unasked lets every request pass by, whatever is stored of its key.
type unasked struct{ ingress.Buffer }

func (b unasked) BeginLive(ctx context.Context, stream, key string) (buffer.Passage, error) {
	p, err := b.Buffer.BeginLive(ctx, stream, key)
	if p == nil && err == nil {
		return passed{}, nil
	}
	return p, err
}

type passed struct{}

func (passed) Clear() bool { return true }
func (passed) End()        {}

// TestOverflowOrderLost: a buffer that does one half of what it has to do is found out.
func TestOverflowOrderLost(t *testing.T) {
	tests := []struct {
		name    string
		breakIt func(ingress.Buffer) ingress.Buffer
	}{
		{"stored messages do not wait for live requests", func(b ingress.Buffer) ingress.Buffer { return unheld{b} }},
		{"live requests pass by what is stored", func(b ingress.Buffer) ingress.Buffer { return unasked{b} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found := func(h *ingresstest.History) bool { return len(h.Disorder()) > 0 }
			// It is found in a second; the time is for machines that do little at once.
			h := overflowRun(t, 90*time.Second, tt.breakIt, found)
			if wrong := h.Disorder(); len(wrong) == 0 {
				t.Errorf("nothing is wrong with what was seen: %+v", h.Counts())
			} else {
				t.Log(wrong[0])
			}
		})
	}
}
