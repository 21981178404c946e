package main_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const tortureRate = 500

// TestTorture kills the program at random points while callers post, starts it
// again each time, and then counts. `make torture N=…` runs it with N kills;
// FOREBAY_TORTURE_SEED repeats the choices of a run.
func TestTorture(t *testing.T) {
	kills := envInt(t, "FOREBAY_TORTURE_KILLS", 5)
	seed := envInt(t, "FOREBAY_TORTURE_SEED", int(time.Now().UnixNano()))
	fmt.Printf("torture: %d kills, FOREBAY_TORTURE_SEED=%d\n", kills, seed)

	shop, late := newSink(t, nil), watchLateness(t)
	site := newSite(t, orderPolicy(shop.url, fmt.Sprintf("%d/s", tortureRate)))
	load := startLoad(t, realOrders(t), 8)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))

	var killed []time.Time
	for range kills {
		srv := site.launch()
		if rng.IntN(4) == 0 { // while it recovers
			within(srv, time.Duration(rng.IntN(150))*time.Millisecond)
		} else {
			srv.waitReady()
			load.sendTo(srv.public)
			target := load.acked.Load() + int64(50+rng.IntN(350))
			until(t, 30*time.Second, "the callers get on", func() bool { return load.acked.Load() >= target })
			within(srv, time.Duration(rng.IntN(5000))*time.Microsecond)
		}
		if !srv.running() {
			t.Fatalf("the program ended by itself (%v):\n%s", srv.cmd.ProcessState, srv.stderr.tail(40))
		}
		load.sendTo("")
		killed = append(killed, srv.kill())
	}

	srv := site.start()
	load.sendTo(srv.public)
	target := load.acked.Load() + 100
	until(t, 30*time.Second, "the callers get on", func() bool { return load.acked.Load() >= target })
	load.stop()
	backlog := time.Duration(audit(t, srv).Buffered) * time.Second / tortureRate
	account := settle(t, srv, 30*time.Second+2*backlog)
	srv.stop()

	v := verdict(t, load, shop.arrivals(), killed)
	if account.Accepted != v.distinct || account.Delivered != v.distinct {
		t.Errorf("audit = %+v, but the sink saw %d messages", account, v.distinct)
	}
	if bound := kills * (64 + tortureRate/10); v.duplicates > bound {
		t.Errorf("%d duplicates, at most %d can have been in flight or not yet recorded", v.duplicates, bound)
	}
	if breach := (envelope{rate: tortureRate, burst: 5, late: late.max()}).breach(times(shop.arrivals())); breach != "" {
		t.Errorf("across restarts: %s", breach)
	}
	fmt.Printf("%d kills, %d messages, %d lost, %d duplicates\n", kills, load.acked.Load(), v.lost, v.duplicates)
}

// within waits for that long, or until the program has ended.
func within(srv *server, d time.Duration) {
	select {
	case <-srv.done:
	case <-time.After(d):
	}
}

func envInt(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q, want a number from 1", name, text)
	}
	return n
}

// A load posts orders of its own, each body once, as fast as the drain can
// deliver them, so that the backlog stays small however long it goes on.
type load struct {
	acked atomic.Int64

	mu     sync.Mutex
	public string         // guarded by mu; empty: nobody listens
	posted map[sum]string // guarded by mu; body to receipt, empty while not answered 202
	ids    map[string]sum // guarded by mu

	quit chan struct{}
	wg   sync.WaitGroup
}

func startLoad(t *testing.T, orders [][]byte, callers int) *load {
	l := &load{posted: make(map[sum]string), ids: make(map[string]sum), quit: make(chan struct{})}
	turns := make(chan int)
	l.wg.Go(func() {
		defer close(turns)
		tick := time.NewTicker(time.Second / tortureRate)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
			case <-l.quit:
				return
			}
			select {
			case turns <- n:
			case <-l.quit:
				return
			}
		}
	})
	c := newCaller(t, callers)
	for range callers {
		l.wg.Go(func() {
			for n := range turns {
				l.one(t, c, numbered(orders[n%len(orders)], n))
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

// numbered returns the order with an order_id that no other has.
func numbered(order []byte, n int) []byte {
	_, rest, _ := bytes.Cut(order, []byte(`,`))
	return append(fmt.Appendf(nil, `{"order_id":"T-%08d",`, n), rest...)
}

func (l *load) one(t *testing.T, c *caller, body []byte) {
	s := sum(sha256.Sum256(body))
	l.mu.Lock()
	public := l.public
	if public != "" {
		l.posted[s] = ""
	}
	l.mu.Unlock()
	if public == "" {
		return
	}
	rec, err := c.post(public, body)
	if err != nil {
		return // nothing was promised: the program was killed under the request
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, twice := l.ids[rec.ID]; twice {
		t.Errorf("id %s was given out twice", rec.ID)
	}
	l.posted[s], l.ids[rec.ID] = rec.ID, s
	l.acked.Add(1)
}

func (l *load) sendTo(public string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.public = public
}

// stop ends the callers; calling it again does nothing.
func (l *load) stop() {
	l.mu.Lock()
	select {
	case <-l.quit:
	default:
		close(l.quit)
	}
	l.mu.Unlock()
	l.wg.Wait()
}

type counts struct{ distinct, lost, duplicates int }

// verdict compares what was promised with what arrived: nothing lost, nothing
// invented, one id a body, and nothing twice but around a kill.
func verdict(t *testing.T, l *load, log []arrival, killed []time.Time) counts {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var c counts
	last := make(map[sum]arrival, len(l.posted))
	for _, a := range log {
		if !a.Whole {
			continue // cut off by a kill; the envelope counts it, nobody got it
		}
		promised, known := l.posted[a.Sum]
		if !known {
			t.Errorf("the sink got a body (Forebay-Id %s) that nobody posted", a.ID)
		}
		before, again := last[a.Sum]
		last[a.Sum] = a
		switch {
		case promised != "" && a.ID != promised:
			t.Errorf("delivered as %s, but its receipt is %s", a.ID, promised)
		case again && a.ID != before.ID:
			t.Errorf("one body came as %s and as %s", before.ID, a.ID)
		}
		if !again {
			continue
		}
		c.duplicates++
		if !aroundKill(killed, before.At, a.At) {
			t.Errorf("%s came at %v and again at %v, with no kill between them that explains it", a.ID, before.At, a.At)
		}
	}
	c.distinct = len(last)
	for s, id := range l.posted {
		if _, arrived := last[s]; id != "" && !arrived {
			c.lost++
			t.Errorf("lost: %s was answered 202 and never reached the sink", id)
		}
	}
	return c
}

// aroundKill tells whether a kill fell so soon after the first arrival that the
// delivery may not have been on record: 100 ms, and time for the commit.
func aroundKill(killed []time.Time, first, again time.Time) bool {
	const late = time.Second
	for _, k := range killed {
		k = k.Round(0)
		if k.After(first.Add(-50*time.Millisecond)) && k.Before(first.Add(late)) && k.Before(again.Add(50*time.Millisecond)) {
			return true
		}
	}
	return false
}

func TestVerdictCounts(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	body := func(n byte) sum { return sum{n} }
	l := &load{posted: map[sum]string{body(1): "one", body(2): "two", body(3): ""}}
	log := []arrival{
		{At: at, ID: "one", Sum: body(1), Whole: true},
		{At: at, ID: "two", Sum: body(9)}, // cut off
		{At: at.Add(time.Second), ID: "two", Sum: body(2), Whole: true},
		{At: at.Add(2 * time.Second), ID: "two", Sum: body(2), Whole: true},
	}
	got := verdict(t, l, log, []time.Time{at.Add(1100 * time.Millisecond)})
	if want := (counts{distinct: 2, duplicates: 1}); got != want {
		t.Errorf("verdict = %+v, want %+v", got, want)
	}
	if aroundKill([]time.Time{at}, at.Add(time.Second), at.Add(2*time.Second)) {
		t.Error("a kill before the first arrival explains nothing")
	}
	if aroundKill([]time.Time{at.Add(5 * time.Second)}, at, at.Add(6*time.Second)) {
		t.Error("a kill five seconds after the first arrival explains nothing")
	}
}
