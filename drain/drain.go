package drain

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

// maxSleep bounds the wait for a point of the calendar, in case someone sets
// the wall clock.
const maxSleep = time.Minute

// plan is what the policy says of a drain.
type plan struct {
	policy policies.Drain
	sink   *sinkState
	meters *meters
}

// drain is one reader of a stream: its loop, and what the loop and those who
// ask about it share.
type drain struct {
	name   string
	buf    Buffer
	log    *slog.Logger
	random func(n int64) int64
	bound  int64 // of scheduled

	changed chan struct{} // one slot; the policy changed
	freed   chan struct{} // one slot; the budget may have what it lacked
	done    chan struct{} // closed by run when nothing is taken any more

	inFlight  sync.WaitGroup // delivery goroutines
	scheduled atomic.Int64   // about how many messages wait for another attempt

	mu     sync.Mutex
	plan   plan   // guarded by mu
	core   *core  // guarded by mu
	recent recent // guarded by mu; attempts of the last seconds
}

// update replaces the plan. The loop feels it at once.
func (d *drain) update(now time.Time, p plan) {
	d.mu.Lock()
	if p.sink != d.plan.sink {
		d.plan.sink.budget.Forget(d.freed)
		d.core.budget = p.sink.budget
		d.core.due = time.Time{}
	}
	d.plan = p
	d.core.setSchedule(now, p.policy.Schedule.At)
	d.mu.Unlock()
	signal(d.changed)
}

// run takes and delivers until ctx is done, then waits for what is in flight.
// Attempts are made with the other context, which outlives ctx; when it is done
// too they are abandoned. It returns an error when the buffer has failed.
func (d *drain) run(ctx, attempts context.Context) error {
	defer d.inFlight.Wait()
	defer d.stop()
	wake := d.buf.Wake(d.name)
	timer := time.NewTimer(maxSleep)
	defer timer.Stop()
	supply := newSupply()
	counted := d.recount(time.Time{})
	for ctx.Err() == nil {
		now := time.Now()
		if d.scheduled.Load() >= d.bound {
			counted = d.recount(counted)
		}
		p, v := d.look(now, &supply)
		if v.take > 0 {
			if err := d.take(attempts, p, now, v, &supply); err != nil {
				return err
			}
			continue
		}
		if wake == nil {
			wake = d.buf.Wake(d.name) // the drain was not in the buffer yet
		}
		select {
		case <-ctx.Done():
		case <-wake:
			supply.woken()
		case <-d.freed:
		case <-d.changed:
		case <-after(timer, v.again):
		}
	}
	return nil
}

// stop says that nothing is taken any more.
func (d *drain) stop() {
	d.mu.Lock()
	d.plan.sink.budget.Forget(d.freed)
	d.mu.Unlock()
	close(d.done)
}

// look asks the core, and returns the plan whose budget the verdict took from.
// Where the budget was short it registers for what may come free and asks again,
// until both agree on what is short, so that nothing is missed in between.
func (d *drain) look(now time.Time, s *supply) (plan, verdict) {
	want, again := s.ask(now)
	d.mu.Lock()
	defer d.mu.Unlock()
	sink := d.plan.sink
	v := d.core.step(now, want, sink.pausedUntil())
	for watched := limiter.NoShortage; v.take == 0 && v.short != watched; {
		watched = v.short
		sink.budget.Watch(d.freed, watched)
		v = d.core.step(now, want, sink.pausedUntil())
	}
	if want == 0 {
		v.again = again
	}
	return d.plan, v
}

// take takes messages for the attempts that have their tokens and slots, and
// starts them. What is not there, or may not leave any more, goes back.
func (d *drain) take(attempts context.Context, p plan, now time.Time, v verdict, s *supply) error {
	ds, next, err := d.buf.Take(d.name, now, v.take)
	if err != nil {
		d.giveBack(p, v.take)
		if errors.Is(err, buffer.ErrNoDrain) {
			// The drains may be given a new policy a moment before the buffer is.
			d.log.Warn("drain is not in the buffer", "drain", d.name)
			s.park(now, time.Time{})
			return nil
		}
		return err // the buffer says what it was asked for
	}
	s.took(v.take, len(ds), next)
	ds = d.admit(ds, next, v, s)
	d.giveBack(p, v.take-len(ds))
	for _, m := range ds {
		d.start(attempts, p, m)
	}
	return nil
}

// admit puts back what may not leave after all: everything if the window ended
// while the buffer was read, and what is untried while too much is scheduled.
func (d *drain) admit(ds []buffer.Delivery, next time.Time, v verdict, s *supply) []buffer.Delivery {
	now := time.Now()
	open, full := v.open(now), d.scheduled.Load() >= d.bound
	kept := ds[:0]
	for _, m := range ds {
		if open && !(full && m.Tries.Attempts == 0) {
			kept = append(kept, m)
			continue
		}
		d.buf.Return(d.name, m.Offset)
	}
	if full && len(kept) < len(ds) && open {
		s.park(now, next)
	}
	return kept
}

func (d *drain) giveBack(p plan, n int) {
	if n <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.core.giveBack(time.Now(), p.sink.budget, n)
}

// recount counts the scheduled messages again, at most once in retakeEvery.
func (d *drain) recount(last time.Time) time.Time {
	now := time.Now()
	if now.Sub(last) < retakeEvery {
		return last
	}
	for _, s := range d.buf.Stats().Drains {
		if s.Drain == d.name {
			d.scheduled.Store(int64(s.Scheduled))
		}
	}
	return now
}

// after arms the timer for a time; zero is never.
func after(timer *time.Timer, at time.Time) <-chan time.Time {
	if at.IsZero() {
		return nil
	}
	timer.Reset(min(time.Until(at), maxSleep))
	return timer.C
}

// signal fills a one-slot channel; a signal that waits there says the same.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
