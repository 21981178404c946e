package main_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	loadRate    = 400 // messages a second
	loadCallers = 10  // of them four post one by one, four with a key, two batches
)

// An order is one body that was posted, and what its caller was told of it.
type order struct {
	key string
	n   int    // its place among those of its key, which one caller posts in turn
	id  string // of its receipt; empty while it was not answered 202

	cancelAsked bool
	cancelTold  bool                 // it was answered
	cancelled   map[string]time.Time // drain to when it was told
}

// mayMiss tells whether a drain may end the order without a delivery.
func (o *order) mayMiss(drain string) bool {
	if !o.cancelAsked || !o.cancelTold {
		return o.cancelAsked
	}
	_, ended := o.cancelled[drain]
	return ended
}

// A load posts orders of its own, each body once or, with a key, again and again
// until it is answered. What it was promised stays in this process.
type load struct {
	orders [][]byte
	noise  string // what a body is filled up with, so that it does not compress away
	c      *caller
	acked  atomic.Int64

	mu                                 sync.Mutex
	public                             string            // guarded by mu; empty: nobody listens
	posted                             map[sum]*order    // guarded by mu
	ids                                map[string]*order // guarded by mu
	faults                             []string          // guarded by mu
	inBatches, again, cancels, refused int               // guarded by mu

	turns chan struct{} // one a message; closed once quit is
	quit  chan struct{}
	wg    sync.WaitGroup
}

func startLoad(t *testing.T, seed uint64) *load {
	l := &load{
		orders: realOrders(t), c: newCaller(t, loadCallers), noise: noise(seed),
		posted: make(map[sum]*order), ids: make(map[string]*order),
		turns: make(chan struct{}), quit: make(chan struct{}),
	}
	l.wg.Go(l.tick)
	for i := range loadCallers {
		p := &poster{load: l, name: i, rng: rand.New(rand.NewPCG(seed, uint64(i)+1)), next: make(map[string]int)}
		l.wg.Go(p.run)
	}
	t.Cleanup(l.stop)
	return l
}

func noise(seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 0))
	raw := make([]byte, 1<<20)
	for i := range raw {
		raw[i] = byte(rng.Uint32())
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func (l *load) tick() {
	defer close(l.turns)
	tick := time.NewTicker(time.Second / loadRate)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.quit:
			return
		}
		select {
		case l.turns <- struct{}{}:
		case <-l.quit:
			return
		}
	}
}

// sendTo tells the callers where the program listens; empty: nowhere.
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

// awaits waits until so many more messages were answered 202.
func (l *load) awaits(t *testing.T, n int) {
	t.Helper()
	target := l.acked.Load() + int64(n)
	until(t, 30*time.Second, "the callers get on", func() bool { return l.acked.Load() >= target })
}

// fault notes what must not be. The caller holds mu.
func (l *load) fault(format string, args ...any) {
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}
