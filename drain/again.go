package drain

import (
	"context"
	"time"
)

type againKey struct{}

// withAgain returns a context in which Again calls a function.
func withAgain(ctx context.Context, again func(ms []Delivery) (context.Context, error)) context.Context {
	return context.WithValue(ctx, againKey{}, again)
}

// Again is called by a sink that sends some of the messages of an attempt once more, in
// a request of their own: because the first was too large, or to find out which of them
// it was refused for. It waits until the rate lets as many messages go again, and
// returns the context to make that request with, whose Begin stands for them. After an
// error nothing more must be sent.
func Again(ctx context.Context, ms []Delivery) (context.Context, error) {
	if again, ok := ctx.Value(againKey{}).(func([]Delivery) (context.Context, error)); ok {
		return again(ms)
	}
	return ctx, ctx.Err()
}

// again takes tokens and bytes for messages of an attempt that is under way, which has
// its slot.
func (d *drain) again(ctx context.Context, p plan, v verdict, ms []Delivery) error {
	left, bytes, tell := len(ms), int64(0), make(chan struct{}, 1)
	for _, m := range ms {
		bytes += int64(len(m.Body))
	}
	for left > 0 || bytes > 0 {
		n, fed, again, err := d.mayRepeat(time.Now(), p, v, left, bytes, tell)
		if err != nil {
			return err
		}
		if left -= n; fed {
			bytes = 0
		}
		if n > 0 || fed {
			continue
		}
		select {
		case <-tell:
		case <-time.After(min(time.Until(again), maxHeld)): // a rate may rise meanwhile
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// mayRepeat takes the tokens that there are, at most n, and the bytes once there are no
// tokens to wait for; or it says when to ask again.
func (d *drain) mayRepeat(now time.Time, p plan, v verdict, n int, bytes int64, tell chan<- struct{}) (taken int, fed bool, again time.Time, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !v.open(now) || d.core.hands.pace(now) == Paused {
		return 0, false, again, errNotNow
	}
	d.core.roll(now)
	pacer := d.core.paced()
	paced, ok := pacer.When(now, 1)
	if !ok {
		return 0, false, again, errNotNow
	}
	if n == 0 {
		again, err = p.sink.mayRepeat(now, tell, bytes)
		return 0, err == nil && !again.After(now), again, err
	}
	taken, funded, err := p.sink.spend(now, tokens(pacer, now, n))
	pacer.Take(now, taken)
	return taken, false, later(paced, funded), err
}

// spend takes tokens of the budget, at most n, or says when there is one.
func (s *sinkState) spend(now time.Time, n int) (taken int, again time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pause.After(now) || s.held.holds(now) {
		return 0, again, errNotNow
	}
	again, ok := s.budget.When(now, 1)
	if !ok {
		return 0, again, errNotNow
	}
	taken = s.budget.Spend(now, n)
	return taken, again, nil
}

// mayRepeat takes bytes, or returns when to ask again. Who asks is known by its channel.
func (s *sinkState) mayRepeat(now time.Time, who chan<- struct{}, bytes int64) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pause.After(now) || s.held.holds(now) {
		return time.Time{}, errNotNow
	}
	return s.bytes.take(now, who, who, bytes), nil
}

// repeats is the context of an attempt, some of whose messages may be sent again.
func (d *drain) repeats(ctx context.Context, p plan, v verdict, ms []Delivery) context.Context {
	if len(ms) == 1 {
		return ctx
	}
	var repeats context.Context
	repeats = withAgain(ctx, func(ms []Delivery) (context.Context, error) {
		if err := d.again(ctx, p, v, ms); err != nil {
			return nil, err
		}
		return WithBegin(repeats, func() error { return d.begin(ctx, p, v, len(ms)) }), nil
	})
	return repeats
}
