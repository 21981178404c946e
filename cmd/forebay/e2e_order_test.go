package main_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// byCustomer orders the stream and tries again fast, however often.
var byCustomer = clauses{
	sink:   "breaker: off",
	stream: `ordering_key: ["json:/customer"]`,
	drain:  "retry: { max_attempts: 1000, backoff: { initial: 20ms, max: 100ms }, budget: 100% }",
}

// A turn is the place of a message among those of its key.
type turn struct {
	key string
	n   int
}

// turns knows the messages that were accepted, by their ids.
type turns map[string]turn

// post adds so many messages to each key; those of a key one after another.
func (ts turns) post(t *testing.T, public string, keys []string, from, n int) {
	t.Helper()
	c := newCaller(t, len(keys))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, key := range keys {
		wg.Go(func() {
			for i := range n {
				rec, err := c.post(public, fmt.Appendf(nil, `{"customer":%q,"n":%d}`, key, from+i))
				if err != nil {
					t.Errorf("message %d of %s: %v", from+i, key, err)
					return
				}
				mu.Lock()
				ts[rec.ID] = turn{key: key, n: from + i}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// inversion describes the first message whose first success came before that of
// the one before it; empty when there is none.
func (ts turns) inversion(log []arrival) string {
	next, done := make(map[string]int), make(map[string]bool)
	for _, a := range log {
		at, known := ts[a.ID]
		if !known || !a.Whole || a.Status != http.StatusOK || done[a.ID] {
			continue
		}
		done[a.ID] = true
		if at.n != next[at.key] {
			return fmt.Sprintf("message %d of %s was delivered when it was the turn of %d", at.n, at.key, next[at.key])
		}
		next[at.key]++
	}
	return ""
}

// attempts returns those of the log that are at one of them.
func (ts turns) attempts(log []arrival) []arrival {
	return slices.DeleteFunc(log, func(a arrival) bool { _, is := ts[a.ID]; return !is })
}

func TestInversion(t *testing.T) {
	ts := turns{"a0": {"a", 0}, "a1": {"a", 1}, "b0": {"b", 0}}
	attempt := func(id string, status int) arrival { return arrival{ID: id, Status: status, Whole: true} }
	cut := arrival{ID: "a0", Status: 200}
	tests := []struct {
		name string
		log  []arrival
		ok   bool
	}{
		{"in turn, other keys between, one again", []arrival{attempt("a0", 200), attempt("b0", 200), attempt("a0", 200), attempt("a1", 200)}, true},
		{"failed before", []arrival{attempt("a0", 500), attempt("a0", 200), attempt("a1", 200)}, true},
		{"after a failure", []arrival{attempt("a0", 500), attempt("a1", 200), attempt("a0", 200)}, false},
		{"after one that was cut off", []arrival{cut, attempt("a1", 200), attempt("a0", 200)}, false},
	}
	for _, tt := range tests {
		if got := ts.inversion(tt.log); (got == "") != tt.ok {
			t.Errorf("%s: inversion = %q, want ok %v", tt.name, got, tt.ok)
		}
	}
}

func customers(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("customer-%d", i)
	}
	return keys
}

// What a customer sends is delivered in its order, though one attempt in four
// fails and the program is killed again and again.
func TestOrderPerKeyOverKills(t *testing.T) {
	t.Parallel()
	shop := newSink(t, func(log []arrival, _ arrival) answer {
		if len(log)%4 == 1 {
			return answer{status: http.StatusInternalServerError}
		}
		return answer{status: http.StatusOK}
	})
	const rounds, each = 5, 8
	site := newSite(t, byCustomer.policy(shop.url, "400/s"))
	accepted, keys := make(turns), customers(20)
	for round := range rounds {
		srv := site.start()
		seen := shop.count()
		accepted.post(t, srv.public, keys, round*each, each)
		until(t, 30*time.Second, "the drain gets on", func() bool { return shop.count() >= seen+70 })
		srv.kill()
	}
	srv := site.start()
	got := settle(t, srv, 30*time.Second)
	if want := rounds * each * len(keys); len(accepted) != want || got.Delivered != want {
		t.Errorf("%d accepted, audit = %+v, want %d delivered", len(accepted), got, want)
	}
	if inverted := accepted.inversion(shop.arrivals()); inverted != "" {
		t.Error(inverted)
	}
}

// A customer whose first message fails holds up its own others alone: a drain
// without one, beside it, is no faster. After a kill it is so too.
func TestFailingKeyDelaysNobody(t *testing.T) {
	t.Parallel()
	const stuck = "customer-stuck"
	var mended atomic.Bool
	failing, others := make(turns), make(turns)
	shop := newSink(t, func(_ []arrival, a arrival) answer {
		if _, fails := failing[a.ID]; fails && !mended.Load() {
			return answer{status: http.StatusInternalServerError}
		}
		return answer{status: http.StatusOK}
	})
	control := newSink(t, nil)
	at := func(base string) string {
		policy := byCustomer
		policy.drain = "retry: { max_attempts: 1000, backoff: { initial: 100ms, max: 200ms }, budget: 20% }"
		return addDrain(policy.policy(shop.url, base), "control", control.url, "schedule: { base: "+base+" }")
	}
	site := newSite(t, at("0"))
	srv := site.start()
	failing.post(t, srv.public, []string{stuck}, 0, 10)
	others.post(t, srv.public, customers(30), 0, 12)
	site.setPolicy(at("100/s"))

	until(t, 30*time.Second, "the others are delivered", func() bool { return accountOf(t, srv, "orders-to-shop").Delivered == len(others) })
	log, beside := shop.arrivals(), control.arrivals()
	log, beside = log[:lastOf(log, others)+1], beside[:lastOf(beside, others)+1]
	wantOneAttempt(t, log, others)
	t.Logf("mean rate with a failing key %.1f/s, without %.1f/s", meanRate(log), meanRate(beside))
	if meanRate(log) < 0.75*meanRate(beside) {
		t.Errorf("mean rate while others waited = %.1f/s, want %.1f/s as without a failing key", meanRate(log), meanRate(beside))
	}
	if tries := len(log) - len(others); tries < 2 || float64(tries) > 0.2*float64(len(log))+2 {
		t.Errorf("%d of %d attempts were at the failing key, want some, and its retries within a fifth", tries, len(log))
	}

	srv.kill()
	srv = site.start()
	late := make(turns)
	late.post(t, srv.public, customers(10), 0, 3)
	until(t, 20*time.Second, "what came after the kill is delivered", func() bool {
		return accountOf(t, srv, "orders-to-shop").Delivered == len(others)+len(late)
	})
	if tried := unlessAgain(failing.attempts(shop.arrivals())); len(tried) != 1 {
		t.Errorf("%d messages of the failing key were tried, want its first alone", len(tried))
	}

	mended.Store(true)
	until(t, 20*time.Second, "all delivered", func() bool { return accountOf(t, srv, "orders-to-shop").Buffered == 0 })
	if got := accountOf(t, srv, "orders-to-shop"); got.Delivered != len(others)+len(late)+len(failing) {
		t.Errorf("audit = %+v, want all delivered", got)
	}
	if inverted := failing.inversion(shop.arrivals()); inverted != "" {
		t.Error(inverted)
	}
}

func lastOf(log []arrival, of turns) int {
	last := 0
	for i, a := range log {
		if _, is := of[a.ID]; is {
			last = i
		}
	}
	return last
}

func wantOneAttempt(t *testing.T, log []arrival, of turns) {
	t.Helper()
	attempts := make(map[string]int)
	for _, a := range log {
		attempts[a.ID]++
	}
	for id, at := range of {
		if attempts[id] != 1 {
			t.Errorf("message %d of %s was tried %d times, want once", at.n, at.key, attempts[id])
		}
	}
}
