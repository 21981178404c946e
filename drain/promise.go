package drain

import (
	"cmp"
	"slices"
	"time"
)

const (
	// promiseOf and promiseEvery say how many messages are held to their eta: the
	// newest of so many, and no more often than that.
	promiseOf    = 100
	promiseEvery = time.Second
	// maxPromises bounds those that are open.
	maxPromises = 10_000
	// scored is how many of the last errors the margin is made of, and fewScored
	// how many it takes at least.
	scored    = 1000
	fewScored = 30
	// firstMargin is the share of the wait that an eta may be off by at first.
	firstMargin = 0.15
)

// promise is the eta that a message had when it was accepted.
type promise struct {
	offset         uint64
	made, eta, p90 time.Time
}

// promises hold a drain to the etas it gives, and learn from how it went by how
// much nine in ten are off. It is pure, and not safe for concurrent use.
type promises struct {
	open   []promise // by offset
	next   uint64    // the least offset to be promised next: none that has left
	made   time.Time // when the last one was
	errors []float64 // of the last ones, in the order of a ring
	place  int       // in the ring
	share  float64   // the margin
}

// due reports whether it is time to ask for the offset of the newest message.
func (p *promises) due(now time.Time) bool { return now.Sub(p.made) >= promiseEvery }

// wants takes note that it was asked for, and reports whether that message is to
// be promised.
func (p *promises) wants(now time.Time, offset uint64) bool {
	p.made = now
	return offset >= p.next
}

// add opens a promise; the oldest is given up if there are too many.
func (p *promises) add(made promise) (void int) {
	p.next = made.offset + promiseOf
	if len(p.open) >= maxPromises {
		p.open = slices.Delete(p.open, 0, 1)
		void = 1
	}
	p.open = append(p.open, made)
	return void
}

// left takes note that a message left. It reports whether that had been promised,
// and whether the promise was kept.
func (p *promises) left(now time.Time, offset uint64) (kept, promised bool) {
	p.next = max(p.next, offset+1)
	i, found := slices.BinarySearchFunc(p.open, offset, func(x promise, offset uint64) int {
		return cmp.Compare(x.offset, offset)
	})
	if !found {
		return false, false
	}
	x := p.open[i]
	p.open = slices.Delete(p.open, i, i+1)
	wait := max(x.eta.Sub(x.made), time.Second)
	p.score(now.Sub(x.eta).Seconds() / wait.Seconds())
	return !now.After(x.p90), true
}

func (p *promises) score(off float64) {
	if len(p.errors) < scored {
		p.errors = append(p.errors, off)
	} else {
		p.errors[p.place] = off
		p.place = (p.place + 1) % scored
	}
	if len(p.errors) < fewScored {
		return
	}
	sorted := slices.Sorted(slices.Values(p.errors))
	p.share = max(0, sorted[len(sorted)*9/10])
}

// void gives all open ones up, because something came in between that no eta can
// know, and returns how many there were.
func (p *promises) void() int {
	n := len(p.open)
	p.open = nil
	return n
}

// margin is what an eta may be off by: nine in ten leave before.
func (p *promises) margin(wait time.Duration) time.Duration {
	share := p.share
	if len(p.errors) < fewScored {
		share = firstMargin
	}
	return max(time.Second, time.Duration(share*float64(wait)))
}
