package drain

import (
	"context"
	"errors"
	"time"

	"forebay/limiter"
)

// maxHeld bounds how long an attempt that has its connection waits to be written.
// One that would wait longer goes back, so that little is held that could be
// cancelled.
const maxHeld = time.Second

// errNotNow means that an attempt must not be written any more.
var errNotNow = errors.New("the attempt may not be written now")

type beginKey struct{}

// WithBegin returns a context in which Begin calls a function.
func WithBegin(ctx context.Context, begin func() error) context.Context {
	return context.WithValue(ctx, beginKey{}, begin)
}

// Begin is called by a sink that has its connection, with the context of Deliver,
// just before it writes. It returns at once unless connecting took so long that
// too many came together; then it waits for a moment. After an error nothing must
// be written, and the outcome is Unsent.
func Begin(ctx context.Context) error {
	if begin, ok := ctx.Value(beginKey{}).(func() error); ok {
		return begin()
	}
	return nil
}

// slack is the limit of what is written where another holds for what is taken: a
// receiver's log may exceed that one by one message and 5 ms of the rate, so that
// it never holds back attempts that are written soon after they were taken.
func slack(l limiter.Limit) limiter.Limit {
	if l.Rate != limiter.Unlimited {
		l.Burst += 1 + int(float64(l.Rate)*maxLate.Seconds())
	}
	return l
}

// rewire changes the rate of what is written. What the wire holds is no credit: no
// more is written than was taken.
func (c *core) rewire(now time.Time, rate limiter.Rate) {
	limit := slack(c.pace(rate))
	c.wire.Set(now, limit)
	c.wire.Hold(now, limit.Burst)
}

// mayHold is how many attempts may wait to be written before nothing more is taken:
// what evens out connects of differing length, and leaves half of the slots free.
func (c *core) mayHold() int {
	most := float64(min(c.beat.rate, c.budget.Limit().Rate)) * maxHeld.Seconds() / 2
	return int(max(1, min(most, float64(c.budget.Slots())/2)))
}

// begin waits until an attempt with n messages may be written. What was taken at the permitted
// rate may come together where connecting was slow.
func (d *drain) begin(ctx context.Context, p plan, v verdict, n int) error {
	held := false
	defer func() {
		if held {
			d.letGo()
		}
	}()
	return awaitWrite(ctx, func(now time.Time) (time.Time, error) { return d.mayWrite(now, p, v, n) }, func() {
		held = true
		d.bunched.Add(1)
	})
}

// awaitWrite asks until the answer is a time that is not later than now. It says
// once that it waits, and not for longer than maxHeld.
func awaitWrite(ctx context.Context, ask func(now time.Time) (time.Time, error), waits func()) error {
	latest := time.Now().Add(maxHeld)
	for held := false; ; {
		now := time.Now()
		at, err := ask(now)
		if err != nil || !at.After(now) {
			return err
		}
		if at.After(latest) {
			return errNotNow
		}
		if !held {
			held = true
			waits()
		}
		select {
		case <-time.After(at.Sub(now)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// letGo tells the loop, which takes nothing while too many are held.
func (d *drain) letGo() {
	d.bunched.Add(-1)
	signal(d.freed)
}

// mayWrite returns when to ask again; one that is not later than now says that the
// attempt is to be written.
func (d *drain) mayWrite(now time.Time, p plan, v verdict, n int) (time.Time, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !v.open(now) || d.core.hands.pace(now) == Paused {
		return time.Time{}, errNotNow
	}
	wire := d.core.wire
	if v.urgent {
		wire = d.core.rushWire
	}
	return p.sink.mayWrite(now, wire, n)
}

// mayWrite takes from a drain's wire and from the sink's own, both or nothing.
func (s *sinkState) mayWrite(now time.Time, drain *limiter.Bucket, n int) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine, its := within(drain, n), within(s.wire, n)
	paced, ok := drain.When(now, mine)
	funded, funds := s.wire.When(now, its)
	if !ok || !funds || s.pause.After(now) || s.held.holds(now) || s.lag.holds(now) {
		return time.Time{}, errNotNow
	}
	at := later(paced, funded)
	if !at.After(now) {
		drain.Take(now, mine)
		s.wire.Take(now, its)
	}
	return at, nil
}

// within is n, or what a bucket can have at all: it may have changed since they were taken.
func within(b *limiter.Bucket, n int) int {
	if l := b.Limit(); l.Rate != limiter.Unlimited {
		return min(n, l.Burst)
	}
	return n
}
