package bench

import (
	"context"
	"time"
)

// sleeper waits for times until its context ends.
type sleeper struct {
	ctx  context.Context
	fine *fineTimer // nil: the system has none
}

func newSleeper(ctx context.Context) *sleeper { return &sleeper{ctx, newFineTimer(ctx)} }

// until returns at t, or earlier with false.
func (s *sleeper) until(t time.Time) bool {
	d := time.Until(t)
	switch {
	case d <= 0:
	case s.fine != nil:
		s.fine.wait(d)
	default:
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.ctx.Done():
		}
	}
	return s.ctx.Err() == nil
}

func (s *sleeper) close() {
	if s.fine != nil {
		s.fine.close()
	}
}
