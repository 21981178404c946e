package bench

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Config is one run.
type Config struct {
	Target *url.URL       // http or https, with a host
	Roots  *x509.CertPool // who may sign the target's certificate; nil: whom the system trusts
	Method string
	Header http.Header // none that frames a body; Host is the target's where it is absent
	Bodies [][]byte    // sent in turn; none: requests without a body

	Rate    float64 // requests a second; 0: closed loop
	Poisson bool    // arrivals at random, Rate in the mean; else at one distance

	Warmup      time.Duration // first, and not counted
	For         time.Duration
	Timeout     time.Duration // of a request, from when it is sent to the end of its answer
	Connections int           // each with one request at a time

	// IdempotencyKey is the beginning of the Idempotency-Key that each request has
	// of its own; empty: none.
	IdempotencyKey string
}

// A Bench is one run of a load.
type Bench struct {
	cfg   Config
	tally *tally
	sent  atomic.Uint64 // requests begun, for bodies and keys in turn

	start time.Time // of the schedule
}

// New makes a run of a sound config. It sends nothing.
func New(cfg Config) *Bench { return &Bench{cfg: cfg, tally: newTally()} }

// Counts says how many requests have ended so far, warming up aside, and how many
// of them without an answer. It may be called while Run is under way.
func (b *Bench) Counts() (ended, failed int64) { return b.tally.counts() }

// slot is one request of the schedule, at times since the start.
type slot struct {
	due   time.Duration
	ready time.Duration // when it could be sent: due, or later where the connections were busy until then
	busy  bool          // no connection was free when it was handed over
}

// Run opens the connections, sends the load and returns what was measured. It
// blocks until every request has ended, at most Timeout after the last was due; the
// end of ctx breaks off what is under way.
func (b *Bench) Run(ctx context.Context) Result {
	conns := b.connect(ctx)
	b.start = time.Now()
	slots := make(chan slot)
	var workers sync.WaitGroup
	for _, c := range conns {
		workers.Go(func() {
			defer c.close()
			if b.cfg.Rate == 0 {
				b.closedLoop(ctx, c)
				return
			}
			for s := range slots {
				b.send(ctx, c, s)
			}
		})
	}
	if b.cfg.Rate > 0 {
		b.pace(ctx, slots)
	}
	close(slots)
	workers.Wait()
	return b.result(ctx.Err() != nil)
}

// connect opens all connections, so that no request has to wait for one. A failure
// shows again when the connection is used.
func (b *Bench) connect(ctx context.Context) []*conn {
	conns := make([]*conn, b.cfg.Connections)
	var dials sync.WaitGroup
	for i := range conns {
		conns[i] = newConn(b.cfg, &b.tally.opened)
		dials.Go(func() { _ = conns[i].open(ctx, time.Now().Add(b.cfg.Timeout)) })
	}
	dials.Wait()
	return conns
}

// closedLoop sends one request after the other.
func (b *Bench) closedLoop(ctx context.Context, c *conn) {
	for ctx.Err() == nil {
		now := time.Since(b.start)
		if now >= b.cfg.Warmup+b.cfg.For {
			return
		}
		b.send(ctx, c, slot{due: now, ready: now})
	}
}

// pace hands each request over when it is due, to whichever connection is free, or
// to the first that will be.
func (b *Bench) pace(ctx context.Context, slots chan<- slot) {
	end := b.cfg.Warmup + b.cfg.For
	patience, cancel := context.WithDeadline(ctx, b.start.Add(end+b.cfg.Timeout))
	defer cancel()
	wait := newSleeper(patience)
	defer wait.close()
	var freed time.Duration // when a request that had to wait got its connection
	next := arrivals(b.cfg.Rate, b.cfg.Poisson)
	for due := next(); due < end; due = next() {
		if !wait.until(b.start.Add(due)) && time.Since(b.start) < due {
			return // broken off before it was due
		}
		select {
		case slots <- slot{due: due, ready: max(due, freed)}:
			continue
		default:
		}
		select {
		case slots <- slot{due: due, busy: true}:
			freed = time.Since(b.start)
		case <-patience.Done():
			b.unsent(ctx, due, time.Since(b.start))
		}
	}
}

// unsent counts a request that never got a connection.
func (b *Bench) unsent(ctx context.Context, due, now time.Duration) {
	failure := Unsent
	if ctx.Err() != nil {
		failure = Interrupted
	}
	if due >= b.cfg.Warmup {
		b.tally.record(outcome{failure: failure, latency: now - due, waited: true, began: due, ended: now})
	}
}

// send sends one request and counts how it ended.
func (b *Bench) send(ctx context.Context, c *conn, s slot) {
	n := b.sent.Add(1) - 1
	began := time.Since(b.start)
	status, failure := c.exchange(ctx, n, b.start.Add(began+b.cfg.Timeout))
	ended := time.Since(b.start)
	if s.due < b.cfg.Warmup {
		return
	}
	o := outcome{status: status, failure: failure, latency: ended - s.due, waited: s.busy, began: began, ended: ended}
	if !s.busy {
		o.lag = began - s.ready
	}
	b.tally.record(o)
}
