package app

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// closure is an operator's hand on the intake of a stream.
type closure struct {
	Stream string    `json:"stream"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"` // zero: until it is opened
	Reason string    `json:"reason"`
}

func (c closure) past(now time.Time) bool { return !c.Until.IsZero() && !now.Before(c.Until) }

// gate knows which streams are closed. Asking costs one atomic load: it is asked
// for every request.
type gate struct {
	shut    atomic.Pointer[map[string]closure] // replaced whole, never changed
	changed chan struct{}                      // one slot

	mu sync.Mutex // one change at a time
}

func newGate() *gate {
	g := &gate{changed: make(chan struct{}, 1)}
	g.shut.Store(&map[string]closure{})
	return g
}

// closed tells ingress whether a stream takes nothing in, and why.
func (g *gate) closed(stream string) (reason string, closed bool) {
	shut := *g.shut.Load()
	if len(shut) == 0 {
		return "", false
	}
	c, ok := shut[stream]
	if !ok || c.past(time.Now()) {
		return "", false
	}
	return c.Reason, true
}

// at is the closure of a stream that holds at now.
func (g *gate) at(stream string, now time.Time) (closure, bool) {
	c, ok := (*g.shut.Load())[stream]
	return c, ok && !c.past(now)
}

// list returns all closures, by the names of their streams.
func (g *gate) list() []closure {
	return slices.SortedFunc(maps.Values(*g.shut.Load()), func(a, b closure) int { return strings.Compare(a.Stream, b.Stream) })
}

// close puts closures in the place of those that their streams have.
func (g *gate) close(list ...closure) {
	g.change(func(shut map[string]closure) {
		for _, c := range list {
			shut[c.Stream] = c
		}
	})
}

// open ends the closure of a stream and reports whether there was one.
func (g *gate) open(stream string) (was bool) {
	g.change(func(shut map[string]closure) {
		_, was = shut[stream]
		delete(shut, stream)
	})
	return was
}

func (g *gate) change(f func(map[string]closure)) {
	g.mu.Lock()
	shut := maps.Clone(*g.shut.Load())
	f(shut)
	g.shut.Store(&shut)
	g.mu.Unlock()
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// run forgets closures when their time is over, and tells of each, until ctx is
// done. Requests do not wait for it: they look at the time themselves.
func (g *gate) run(ctx context.Context, ended func(closure)) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		wait := time.Minute // someone may set the wall clock
		for _, c := range g.list() {
			switch {
			case c.past(now):
				if g.open(c.Stream) {
					ended(c)
				}
			case !c.Until.IsZero():
				wait = min(wait, c.Until.Sub(now))
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-g.changed:
		}
	}
}
