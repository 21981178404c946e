package main_test

import (
	"net/http"
	"testing"
	"time"
)

// What waits too long ends as its stream or its drain says, at its age and not
// before, though the program was killed meanwhile.
func TestExpiry(t *testing.T) {
	t.Parallel()
	const age = 3 * time.Second
	down := answer{status: http.StatusServiceUnavailable}
	slow := func(status int) answer { return answer{status: status, after: age + time.Second} }
	retry := ", retry: { backoff: { initial: 50ms, max: 100ms } }"
	tests := []struct {
		name    string
		clauses clauses
		sink    answer
		state   string // at the end
		reason  string // of the dead
	}{
		{"max_delay, dead", clauses{drain: "deadline: { max_delay: 3s, on_expire: dead }" + retry}, down, "dead", "deadline"},
		{"max_delay, expire", clauses{drain: "deadline: { max_delay: 3s, on_expire: expire }" + retry}, down, "expired", ""},
		{"retention, dead", clauses{stream: "retention: 3s, on_retention: dead", drain: "from: oldest" + retry}, down, "dead", "retention"},
		{"retention, expire", clauses{stream: "retention: 3s, on_retention: expire", drain: "from: oldest" + retry}, down, "expired", ""},
		{"in flight, succeeds late", clauses{drain: "deadline: { max_delay: 3s, on_expire: dead }" + retry}, slow(http.StatusOK), "delivered", ""},
		{"in flight, fails late", clauses{drain: "deadline: { max_delay: 3s, on_expire: expire }" + retry}, slow(http.StatusServiceUnavailable), "expired", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			shop := newSink(t, func([]arrival, arrival) answer { return tt.sink })
			tt.clauses.sink = "breaker: off"
			site := newSite(t, tt.clauses.policy(shop.url, "50/s"))
			srv := site.start()
			posted := postAll(t, srv.public, realOrders(t)[:5], 1)
			if tt.sink.after == 0 { // else the kill would end the attempt in flight
				srv.kill()
				srv = site.start()
			}
			waits(t, srv, shop, posted[0], age)
			settle(t, srv, 30*time.Second)
			c := newCaller(t, 1)
			for _, r := range posted {
				if now := getReceipt(t, c, srv.public, r.ID); now.State != tt.state {
					t.Errorf("receipt: %+v, want state %s", now, tt.state)
				}
			}
			wantAccount(t, audit(t, srv), tt.state, len(posted))
			wantDead(t, srv, tt.reason, age, len(posted))
		})
	}
}

// waits fails the test if the message ends before that age.
func waits(t *testing.T, srv *server, shop *sink, r receipt, age time.Duration) {
	t.Helper()
	c := newCaller(t, 1)
	until(t, 20*time.Second, "the message is near that age", func() bool {
		now := getReceipt(t, c, srv.public, r.ID)
		read := time.Since(r.AcceptedAt)
		switch now.State {
		case "queued", "scheduled", "delivering":
		default:
			if read < age {
				t.Fatalf("state %s after %v, want that it waits for %v", now.State, read, age)
			}
		}
		return read > age-300*time.Millisecond
	})
	if shop.count() == 0 {
		t.Error("no attempt at the sink before the end")
	}
}

func wantAccount(t *testing.T, got account, state string, n int) {
	t.Helper()
	want := account{Stream: "orders", Drain: "orders-to-shop", Accepted: n}
	switch state {
	case "dead":
		want.Dead = n
	case "expired":
		want.Expired = n
	case "delivered":
		want.Delivered = n
	}
	if got != want {
		t.Errorf("audit = %+v, want %+v", got, want)
	}
}

// wantDead looks for n dead letters with that reason; none where it is empty.
func wantDead(t *testing.T, srv *server, reason string, age time.Duration, n int) {
	t.Helper()
	var page struct {
		Items []struct {
			Reason     string
			AcceptedAt time.Time `json:"accepted_at"`
			BuriedAt   time.Time `json:"buried_at"`
		}
	}
	cliJSON(t, srv, "dead list --drain orders-to-shop", "", &page)
	if reason == "" {
		n = 0
	}
	if len(page.Items) != n {
		t.Errorf("%d dead letters, want %d", len(page.Items), n)
	}
	for _, d := range page.Items {
		if lived := d.BuriedAt.Sub(d.AcceptedAt); d.Reason != reason || lived < age || lived > age+5*time.Second {
			t.Errorf("dead letter %+v after %v, want reason %s after %v", d, lived, reason, age)
		}
	}
}

// With on_expire: deliver a message that is late is delivered all the same.
func TestDeliveredLate(t *testing.T) {
	t.Parallel()
	const age = 2 * time.Second
	var first time.Time // written under the sink's lock
	shop := newSink(t, func(log []arrival, a arrival) answer {
		if len(log) == 0 {
			first = a.At
		}
		if a.At.Sub(first) < age+1500*time.Millisecond {
			return answer{status: http.StatusServiceUnavailable}
		}
		return answer{status: http.StatusOK}
	})
	policy := clauses{
		sink:  "breaker: off",
		drain: "deadline: { max_delay: 2s, on_expire: deliver }, retry: { backoff: { initial: 50ms, max: 100ms } }",
	}
	srv := newSite(t, policy.policy(shop.url, "50/s")).start()
	posted := postAll(t, srv.public, realOrders(t)[:5], 1)
	wantAccount(t, settle(t, srv, 20*time.Second), "delivered", len(posted))
	for _, a := range shop.arrivals() {
		if late := a.At.Sub(posted[0].AcceptedAt); a.Status == http.StatusOK && late < age {
			t.Errorf("%s was delivered after %v, want that this shows a late one", a.ID, late)
		}
	}
}
