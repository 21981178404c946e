package drain

import (
	"context"
	"slices"
	"time"

	"forebay/limiter"
)

// waiter is a live request that waits for its turn.
type waiter struct {
	ready chan struct{} // one slot; it may be its turn, or there may be what it lacked
	due   time.Time     // when the token comes, or came, that it waits for
}

// accountable is the time at which its token is taken, as core.accountable has it:
// a timer that is late loses no rate.
func (w *waiter) accountable(now time.Time) time.Time {
	if w == nil || w.due.IsZero() || now.Before(w.due) {
		return now
	}
	return later(w.due, now.Add(-maxLate))
}

// hold waits in turn until a deadline.
func (s *sinkState) hold(ctx context.Context, size int64, deadline time.Time) (*Turn, error) {
	w := &waiter{ready: make(chan struct{}, 1)}
	s.join(w)
	defer s.leave(w)
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for waited := false; ; waited = true {
		now := time.Now()
		t, closed := s.ask(now, w, size)
		if t != nil {
			return t, nil
		}
		over := !now.Before(deadline)
		if over || closed.outlasts(deadline) {
			r := closed.refusal()
			r.Waited = waited
			return nil, r
		}
		w.due = time.Time{}
		if closed.short == limiter.OfTokens {
			w.due = closed.until
		}
		again := deadline
		if closed.until.After(now) && closed.until.Before(deadline) {
			again = closed.until
		}
		timer.Reset(again.Sub(now))
		select {
		case <-timer.C:
		case <-w.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// outlasts reports whether it is known that there is no use in waiting.
func (c closed) outlasts(deadline time.Time) bool {
	switch c.by {
	case Paused:
		return c.until.IsZero() || c.until.After(deadline)
	case Breaker:
		return c.until.After(deadline)
	default:
		return false
	}
}

// ask enters if it is the waiter's turn. Where the budget is short it registers
// for what may come free and asks again, so that nothing is missed in between.
func (s *sinkState) ask(now time.Time, w *waiter, size int64) (*Turn, closed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, closed := s.enter(now, w, size)
	for watched := limiter.NoShortage; t == nil && closed.short != watched; {
		watched = closed.short
		s.budget.Watch(w.ready, watched)
		t, closed = s.enter(now, w, size)
	}
	return t, closed
}

func (s *sinkState) join(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, w)
	s.shares.waits = len(s.queue)
}

// leave gives the waiter's place to the next.
func (s *sinkState) leave(w *waiter) {
	s.budget.Forget(w.ready)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(s.queue, w)
	s.queue = slices.Delete(s.queue, at, at+1)
	s.shares.waits = len(s.queue)
	if at == 0 {
		s.nudge()
	}
}

// nudge has whoever is first look again. It requires that mu is held.
func (s *sinkState) nudge() {
	if len(s.queue) > 0 {
		signal(s.queue[0].ready)
	}
}
