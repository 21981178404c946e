package bench

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	longest = time.Hour // latencies over it count as it
	digits  = 3         // that a latency is exact to
)

// outcome is how one request ended.
type outcome struct {
	status  int // zero where failure says why
	failure Failure
	latency time.Duration // from when it was due
	lag     time.Duration // by which the generator was late, not the target
	waited  bool          // no connection was free when it was due
	began   time.Duration // since the start, as the next
	ended   time.Duration
}

// succeeded tells whether the target did what it was asked to.
func (o outcome) succeeded() bool { return o.failure == Answered && o.status < 400 }

// tally counts outcomes, behind one lock: a histogram takes 170 KiB, too much for
// one a connection.
type tally struct {
	opened atomic.Int64 // connections

	mu       sync.Mutex
	latency  *hdrhistogram.Histogram // guarded by mu; µs, as the next
	lag      *hdrhistogram.Histogram
	statuses map[int]int64
	failures map[Failure]int64
	waited   int64
	answered int64
	failed   int64
	failing  *outcome      // the first that did not succeed, by when it began
	ended    time.Duration // the last
}

func newTally() *tally {
	histogram := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest.Microseconds(), digits) }
	return &tally{latency: histogram(), lag: histogram(), statuses: make(map[int]int64), failures: make(map[Failure]int64)}
}

func (t *tally) record(o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = max(t.ended, o.ended)
	if o.waited {
		t.waited++
	}
	if !o.succeeded() && o.failure != Interrupted && (t.failing == nil || o.began < t.failing.began) {
		t.failing = &o
	}
	if o.failure != Unsent {
		count(t.lag, o.lag)
	}
	if o.failure == Answered {
		t.answered++
		t.statuses[o.status]++
	} else {
		t.failed++
		t.failures[o.failure]++
	}
	if o.failure == Answered || o.failure.waitedFor() {
		count(t.latency, o.latency)
	}
}

func count(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d, 0), longest).Microseconds()) // it lies within what was made
}

func (t *tally) counts() (ended, failed int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.answered + t.failed, t.failed
}
