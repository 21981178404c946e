package ingress

import (
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"forebay/policies"
)

// doorkeeper lets so many messages in.
type doorkeeper struct {
	mu   sync.Mutex
	room int // guarded by mu
	wait time.Duration
}

func (d *doorkeeper) ask(_ string, now time.Time, n int) (again time.Time, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n > d.room {
		if d.wait > 0 {
			again = now.Add(d.wait)
		}
		return again, false
	}
	d.room -= n
	return time.Time{}, true
}

// What would be late is refused with when to come back, and not stored; what is sent
// again after it was accepted is not.
func TestInfeasibleIsRefused(t *testing.T) {
	door := &doorkeeper{room: 2, wait: 90*time.Second + 1}
	f := newFixture(t, func(c *Config) { c.Feasible = door.ask })
	for _, key := range []string{"a", "b"} {
		if resp := f.do("POST", "/v1/orders", "{}", "Idempotency-Key: "+key); resp.StatusCode != http.StatusAccepted {
			t.Fatalf("status %d with room", resp.StatusCode)
		}
	}
	resp := f.do("POST", "/v1/orders", "{}", "Idempotency-Key: c")
	p := decode[problemDocument](t, resp)
	wait, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != http.StatusServiceUnavailable || p.Reason != "deadline-infeasible" || err != nil || wait < 91 || wait > 91+91/5 {
		t.Errorf("status %d, Retry-After %d, %+v", resp.StatusCode, wait, p)
	}
	if got := len(f.buf.messages); got != 2 {
		t.Errorf("%d messages stored", got)
	}
	resp = f.do("POST", "/v1/orders", "{}", "Idempotency-Key: a")
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("sent again: status %d, %v", resp.StatusCode, resp.Header)
	}
	door.wait = 0
	resp = f.do("POST", "/v1/orders", "{}")
	if wait, _ := strconv.Atoi(resp.Header.Get("Retry-After")); wait < maxInfeasible {
		t.Errorf("Retry-After %d where none is in sight", wait)
	}
}

// A batch is feasible as a whole.
func TestInfeasibleBatch(t *testing.T) {
	door := &doorkeeper{room: 3}
	f := newFixture(t, func(c *Config) { c.Feasible = door.ask }, routes(func(create, _ *policies.Route) { create.Split = policies.SplitNDJSON }))
	for body, want := range map[string]int{"{}\n{}\n{}\n{}\n": http.StatusServiceUnavailable, "{}\n{}\n{}\n": http.StatusAccepted} {
		door.room = 3
		if resp := f.do("POST", "/v1/orders", body); resp.StatusCode != want {
			t.Errorf("%d messages: status %d, want %d", len(body)/3, resp.StatusCode, want)
		}
	}
}
