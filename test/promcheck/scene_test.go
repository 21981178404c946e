package promcheck

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// policy is that of the scene: a window that opens at the next full minute that is some
// way off, a stream that can be filled, one whose messages can be late, and one that a
// reload removes.
func (s *scene) policy(base int, extra bool) string {
	text := strings.NewReplacer("SINK", s.shop.URL, "MAIL", s.mail.URL, "BASE", fmt.Sprint(base),
		"FROM", s.edge.UTC().Format("15:04"), "TO", strings.Replace(s.edge.Add(time.Minute).UTC().Format("15:04"), "00:00", "24:00", 1)).Replace(`version: 1
time_intervals:
  - name: catch-up
    intervals: [{ times: [{ start_time: "FROM", end_time: "TO" }] }]
limits:
  - { name: everyone, rate: 100000/s }
  - { name: per-customer, rate: 5/s, burst: 5, key: ["header:X-Customer"] }
sinks:
  - name: order-service
    http: { urls: ["SINK"], timeout: { connect: 500ms, total: 1s } }
    budget: { rate: 200/s, concurrency: { max: 16 } }
    breaker: { failure_ratio: 0.5, min_requests: 10, window: 5s, open_for: 3s }
    slow_start: 3s
  - { name: mail, http: { urls: ["MAIL"] }, budget: { rate: 50/s } }
streams:
  - { name: orders, max_bytes: 64MiB }
  - { name: mails }
  - { name: logs, max_bytes: 2MiB, max_message_bytes: 64KiB }
drains:
  - name: orders
    stream: orders
    sink: order-service
    schedule: { base: BASE/s, entries: [{ name: catch up, during: [catch-up], rate: 120/s }] }
    retry: { max_attempts: 15, max_age: 24h, backoff: { initial: 200ms, max: 2s } }
  - { name: mails, stream: mails, sink: mail, schedule: { base: 20/s }, deadline: { max_delay: 30s, on_expire: expire } }
  - { name: logs, stream: logs, sink: mail, schedule: { base: 5/s } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, limits: [everyone, per-customer], mode: buffer, stream: orders, idempotency: { header: Idempotency-Key } }
  - { name: checkout, match: { methods: [POST], path: /v1/checkout }, limits: [everyone], mode: overflow, sink: order-service, stream: orders }
  - { name: read-orders, match: { methods: [GET], path_prefix: /v1/orders }, limits: [everyone], mode: pass, sink: order-service }
  - { name: pay, match: { methods: [POST], path: /v1/pay }, mode: hold, sink: order-service, hold_up_to: 1s }
  - { name: send-mail, match: { methods: [POST], path: /v1/mails }, mode: buffer, stream: mails }
  - { name: logs, match: { methods: [POST], path: /v1/logs }, mode: buffer, stream: logs }
`)
	if extra {
		text = strings.Replace(text, "drains:\n", "  - { name: passing }\ndrains:\n  - { name: passing, stream: passing, sink: mail, schedule: { base: 1/s } }\n", 1)
	}
	return text
}

// scene is one run of everything.
type scene struct {
	*testing.T
	began time.Time
	shop  *shop // of orders
	mail  *shop
	f     *forebay
	prom  *prometheus
	edge  time.Time // when the window opens
}

func (s *scene) at() time.Duration { return time.Since(s.began).Round(time.Second) }

// passes lets real time pass: what is shown is rates over it.
func (s *scene) passes(d time.Duration) { <-time.After(d) }

// traffic is the steady part, until stop is closed: each kind of request a few times a second.
func (s *scene) traffic(stop <-chan struct{}) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		key := fmt.Sprintf("order-%d", i)
		s.f.send("POST", "/v1/orders", `{"order":1}`, "X-Customer", fmt.Sprint(i%40), "Idempotency-Key", key)
		s.f.send("POST", "/v1/mails", `{"mail":1}`)
		s.f.send("GET", "/v1/orders/7", "")
		s.f.send("POST", "/v1/logs", `{"log":1}`)
		switch i % 10 {
		case 1: // sent again; sent again with another body; without a route; one customer too often
			s.f.send("POST", "/v1/orders", `{"order":1}`, "X-Customer", "a", "Idempotency-Key", key)
			s.f.send("POST", "/v1/orders", `{"order":2}`, "X-Customer", "a", "Idempotency-Key", key)
			s.f.send("POST", "/nowhere", "")
			for range 9 {
				s.f.send("POST", "/v1/orders", `{"order":1}`, "X-Customer", "greedy")
			}
		case 3: // refused for good; told to come later; cancelled
			s.f.send("POST", "/v1/mails", `{"refuse":1}`)
			if i%200 == 3 {
				s.f.send("POST", "/v1/mails", `{"later":1}`)
			}
			if _, receipt := s.f.send("POST", "/v1/orders", `{"order":1}`, "X-Customer", "b"); receipt != "" {
				s.f.send("DELETE", receipt, "")
			}
		case 5, 7: // these may wait: others do not wait for them
			go s.f.send("POST", "/v1/pay", `{"pay":1}`)
			go s.f.send("POST", "/v1/checkout", `{"order":1}`)
		}
	}
}

// burst posts orders as fast as eight callers can.
func (s *scene) burst(n int, path, body string) (refused int) {
	var group sync.WaitGroup
	var mu sync.Mutex
	for caller := range 8 {
		group.Go(func() {
			for i := range n / 8 {
				status, _ := s.f.send("POST", path, body, "X-Customer", fmt.Sprintf("%d-%d", caller, i))
				if status == http.StatusServiceUnavailable {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	return refused
}

// play goes through a burst, a full stream, a pause, an override, a window's edge, a sink
// that is down, and reloads.
func (s *scene) play() {
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { s.traffic(stop) })
	defer group.Wait()
	defer close(stop)

	s.passes(8 * time.Second)
	if refused := s.burst(4000, "/v1/orders", `{"order":1}`); refused > 0 {
		s.Errorf("%d of the burst were refused", refused)
	}
	s.burst(100, "/v1/mails", `{"mail":1}`)
	s.f.do(s.T, "drains", "pause", "mails", "--for", "45s", "--reason", "the scene")
	noise := make([]byte, 40<<10)                  // that does not compress
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise) // it never fails
	s.passes(10 * time.Second)
	s.f.do(s.T, "drains", "rate", "orders", "60/s", "--for", "15s", "--reason", "the scene")
	refused := 0
	for i := range 400 {
		if status, _ := s.f.send("POST", "/v1/logs", fmt.Sprint(i)+string(noise)); status == http.StatusServiceUnavailable {
			refused++
		}
		if refused > 20 {
			break
		}
		if i%10 == 0 {
			s.passes(100 * time.Millisecond)
		}
	}
	s.f.do(s.T, "streams", "close", "logs", "--for", "10s", "--reason", "the scene")
	if refused == 0 {
		s.Error("the full stream refused nothing")
	}
	if !s.f.reload(s.T, s.policy(50, true)) {
		s.Error("the policy was refused")
	}
	until(s.T, "the window has been open for a while", 3*time.Minute, func() bool { return time.Since(s.edge) > 10*time.Second })
	s.drill()
	if s.f.reload(s.T, "version: 1\nstreams: [{ nam: x }]\n") {
		s.Error("a bad policy was taken")
	}
	s.passes(8 * time.Second)
	if !s.f.reload(s.T, s.policy(50, false)) {
		s.Error("the policy was refused")
	}
	until(s.T, "the window has been closed for a while", 3*time.Minute, func() bool { return time.Since(s.edge) > time.Minute+10*time.Second })
	s.passes(5 * time.Second)
}

// drill stops the sink, waits for the alert, and starts it again.
func (s *scene) drill() {
	const alert = "ForebayDrainStalled orders"
	from := time.Now()
	s.shop.down.Store(true)
	until(s.T, alert+" is pending", time.Minute, func() bool { return len(s.prom.alerts(s.T, "pending", from, time.Now())[alert]) > 0 })
	if fired := s.prom.alerts(s.T, "firing", from, time.Now())[alert]; len(fired) > 0 {
		s.Errorf("%s fired at once", alert)
	}
	until(s.T, alert+" fires", time.Minute, func() bool { return len(s.prom.alerts(s.T, "firing", from, time.Now())[alert]) > 0 })
	s.shop.down.Store(false)
	until(s.T, alert+" is over", time.Minute, func() bool {
		now := time.Now()
		return len(s.prom.alerts(s.T, "firing", now.Add(-time.Second), now)[alert]) == 0
	})
	s.Logf("%v: fire drill: pending, firing and over within %v", s.at(), time.Since(from).Round(time.Second))
}

// TestScene runs the scene, and then every query of the dashboards over all of it.
func TestScene(t *testing.T) {
	s := &scene{T: t, began: time.Now(), shop: newShop(t), mail: newShop(t)}
	s.edge = s.began.Add(50 * time.Second).Truncate(time.Minute).Add(time.Minute)
	dir := t.TempDir()
	s.f = startForebay(t, dir, s.policy(40, true))
	s.prom = startPrometheus(t, dir, s.f.admin)
	from := time.Now()
	s.play()
	to := time.Now()
	t.Logf("%v: %v of scrapes", s.at(), to.Sub(from).Round(time.Second))
	t.Run("panels", func(t *testing.T) { s.panels(t, from, to) })
	t.Run("rules", func(t *testing.T) { s.rules(t, from, to) })
	t.Run("removed", func(t *testing.T) { s.removed(t, from, to) })
	if dir := os.Getenv("PROMCHECK_PICTURES"); dir != "" {
		t.Run("pictures", func(t *testing.T) { s.draw(t, dir, from, to) })
	}
	t.Run("promtool check metrics", func(t *testing.T) {
		resp, err := http.Get("http://" + s.f.admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if said := tool(t, string(text), dir, "promtool", "check", "metrics"); said != "" {
			t.Errorf("promtool check metrics: %s", said)
		}
	})
}
