package main_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// Callers do not feel the sinks: with one that refuses connections and one that
// never answers, accepting takes what it always does. The bound is on the median
// of five p99s in a row, so that one pause of the machine decides nothing; where
// a program with healthy sinks, asked in turns with it, is slow too, it is on
// twice what that one shows. Accepting that waits for sinks meets neither, ever.
func TestAcceptingWhileSinksAreDown(t *testing.T) {
	stalled := newSink(t, func([]arrival, arrival) answer { return answer{status: http.StatusOK, after: time.Hour} })
	refused, _ := refusing(t)
	up := newSink(t, nil)
	healthy := newSite(t, fanOutPolicy(up.url, up.url, 100)).start()
	srv := newSite(t, fanOutPolicy(stalled.url, refused, 100)).start()
	orders := realOrders(t)
	postAll(t, srv.public, orders[:128], 8)
	until(t, 20*time.Second, "both sinks are down", func() bool { return stalled.count() == 64 && failures(t, srv, "to-shaky", "shaky") >= 2 })

	const enough, rounds, requests, bound = 5, 15, 300, 50 * time.Millisecond
	var down, control []time.Duration
	met := false
	for len(down) < rounds && !met {
		down = append(down, acceptP99(t, srv.public, orders[:requests], 8, 400))
		control = append(control, acceptP99(t, healthy.public, orders[:requests], 8, 400))
		if n := len(down) - enough; n >= 0 {
			met = median(down[n:]) < max(bound, 2*median(control[n:]))
		}
	}
	t.Logf("p99 of accepting at 400/s: both sinks down %v, both up %v", down, control)
	if !met {
		t.Errorf("the median p99 of %d rounds was not once less than %v, nor than twice that with both sinks up", enough, bound)
	}
	for _, a := range audits(t, srv) {
		if a.Delivered != 0 || a.Buffered != 128+requests*len(down) {
			t.Errorf("audit = %+v, want all of it buffered", a)
		}
	}
}

func median(of []time.Duration) time.Duration { return slices.Sorted(slices.Values(of))[len(of)/2] }

// acceptP99 posts the orders at a rate and returns the p99 of the time from when
// one was due to its 202, so that a stall counts for all that it holds up.
func acceptP99(t *testing.T, public string, orders [][]byte, callers, rate int) time.Duration {
	t.Helper()
	type due struct {
		at time.Time
		i  int
	}
	turns := make(chan due, len(orders))
	took := make([]time.Duration, len(orders))
	c := newCaller(t, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for d := range turns {
				if _, err := c.post(public, orders[d.i]); err != nil {
					t.Errorf("order %d: %v", d.i, err)
				}
				took[d.i] = time.Since(d.at)
			}
		})
	}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	for i := range orders {
		turns <- due{at: <-tick.C, i: i}
	}
	tick.Stop()
	close(turns)
	wg.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}
