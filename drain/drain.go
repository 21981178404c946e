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
	batch  Batch // of the sink
	meters *meters
	expiry expiry
	timed  bool // callers may give its messages a deadline
}

// drain is one reader of a stream: its loop, and what the loop and those who
// ask about it share.
type drain struct {
	name   string
	buf    Buffer
	log    *slog.Logger
	random func(n int64) int64
	bound  int64 // of scheduled
	event  func(kind, object, detail string)
	tidy   func(drain string, now time.Time) // takes off the holds that have ended

	expirer   *expirer   // nil: nothing expires
	promiser  *promiser  // nil: nothing is promised
	canceller *canceller // nil: nothing can be cancelled by key

	changed chan struct{} // one slot; the policy or a hold changed
	freed   chan struct{} // one slot; the budget may have what it lacked
	done    chan struct{} // closed by run when nothing is taken any more

	workers   workers                  // make the attempts
	gathered  sync.WaitGroup           // what a collector has
	handing   handing                  // what goes there
	scheduled atomic.Int64             // about how many messages wait for another attempt
	known     known                    // the loop's alone
	estimate  atomic.Pointer[estimate] // the last one; stored with mu held
	bunched   atomic.Int64             // attempts that have a connection and wait to be written
	retries   allowance                // the loop's alone
	room      []buffer.Delivery        // of the last take, for the next; the loop's alone
	door      door

	mu       sync.Mutex
	plan     plan     // guarded by mu
	core     *core    // guarded by mu
	recent   recent   // guarded by mu; attempts of the last seconds
	promises promises // guarded by mu
}

// update replaces the plan. The loop feels it at once.
func (d *drain) update(now time.Time, p plan) {
	if was := d.present(); was.sink != p.sink {
		defer was.finish(d.worldwide())
	}
	d.mu.Lock()
	d.disturbed()
	if p.sink != d.plan.sink {
		d.plan.sink.budget.Forget(d.freed)
		d.plan.sink.quit(now, d.core, true)
		d.core.setBudget(p.sink.budget)
	}
	d.plan = p
	d.core.setBatch(now, p.batch)
	d.core.weight = p.policy.Weight
	d.core.late = latenessOf(p.policy.Deadline)
	d.core.setUrgency(now, urgency{}) // until the expirer has looked
	d.core.setSchedule(now, p.policy.Schedule.At)
	d.mu.Unlock()
	d.door.forget()
	signal(d.changed)
}

// run takes and delivers until ctx is done, then waits for what is in flight.
// Attempts are made with the other context, which outlives ctx; when it is done
// too they are abandoned. It returns an error when the buffer has failed.
func (d *drain) run(ctx, attempts context.Context) error {
	defer d.gathered.Wait()
	defer d.workers.wait()
	defer d.stop()
	wake := d.buf.Wake(d.name)
	timer := time.NewTimer(maxSleep)
	defer timer.Stop()
	supply := newSupply(d.present().batch)
	var counted time.Time
	for ctx.Err() == nil {
		now := time.Now()
		if d.scheduled.Load() >= d.bound {
			counted = d.recount(counted)
		}
		if d.held(now) {
			d.tidy(d.name, now)
		}
		p, v := d.next(ctx, now, &supply)
		supply.as(p.batch)
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
			d.promiser.wake()
		case <-d.freed:
		case <-d.changed:
		case <-after(timer, v.again):
		}
	}
	return nil
}

// next is look, once it is known what is delivered already.
func (d *drain) next(ctx context.Context, now time.Time, s *supply) (plan, verdict) {
	if again := d.recall(ctx, now); !again.IsZero() {
		return d.present(), verdict{again: again}
	}
	p, v := d.look(now, s)
	if v.shut && d.handing.under.Load() == 0 {
		d.finish()
	}
	return p, v
}

// stop says that nothing is taken any more.
func (d *drain) stop() {
	d.handing.all.Wait()
	d.finish()
	d.mu.Lock()
	d.plan.sink.budget.Forget(d.freed)
	d.plan.sink.quit(time.Now(), d.core, true)
	d.mu.Unlock()
	close(d.done)
}

// look asks the core, and returns the plan whose budget the verdict took from.
// Where the budget was short it registers for what may come free and asks again,
// until both agree on what is short, so that nothing is missed in between.
func (d *drain) look(now time.Time, s *supply) (plan, verdict) {
	want, again := s.ask(now)
	if s.batch.Wait > 0 && want > 0 && !s.more {
		want = d.ready(want)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if int(d.bunched.Load()) >= d.core.mayHold() || d.handing.full() {
		d.plan.sink.quit(now, d.core, false)
		return d.plan, verdict{} // those that are held go first, and tell
	}
	sink := d.plan.sink
	v := sink.step(now, d.core, want)
	for watched := limiter.NoShortage; v.take == 0 && v.short != watched; {
		watched = v.short
		sink.budget.Watch(d.freed, watched)
		v = sink.step(now, d.core, want)
	}
	if want == 0 {
		v.again = again
	}
	if d.known.asked && d.plan.batch.serial { // what gathers ends with the window
		v.shut, v.again = d.core.beat.rate == 0, sooner(v.again, d.core.window.Until)
	}
	if ends := d.core.hands.ends(); !ends.IsZero() && (v.again.IsZero() || ends.Before(v.again)) {
		v.again = ends
	}
	return d.plan, v
}

// take takes messages for the attempts that have their tokens and slots, and
// starts them. What is not there, or may not leave any more, goes back.
func (d *drain) take(attempts context.Context, p plan, now time.Time, v verdict, s *supply) error {
	ds, next, err := d.mix(p, now, v)
	if err != nil {
		d.giveBack(p, v, v.take, v.batches)
		if errors.Is(err, buffer.ErrNoDrain) {
			// The drains may be given a new policy a moment before the buffer is.
			d.log.Warn("drain is not in the buffer", "drain", d.name)
			s.park(now, time.Time{})
			return nil
		}
		return err // the buffer says what it was asked for
	}
	s.took(v.take, len(ds), next)
	all := v.ripe || len(ds) == v.take // else there are too few of them, and they have not waited
	defer d.keep(ds, s.empty)
	if v.urgent {
		ds = d.calm(now, ds)
	}
	ds = d.fit(p, d.admit(d.settleKnown(p, ds), next, v, s), s)
	batches := 0
	rest := p.batch.split(ds, v.batches, all, func(ds []buffer.Delivery) {
		d.start(attempts, p, v, ds)
		batches++
	})
	for _, m := range rest {
		d.buf.Return(d.name, m.Offset)
		s.empty, s.more = false, false
	}
	if len(rest) > 0 {
		p.sink.unfeed(now, bodies(rest))
	}
	d.giveBack(p, v, v.take-len(ds)+len(rest), v.batches-batches)
	return nil
}

// keep makes room for the next take of what the last one gave. Drains that have
// nothing to do are many, and keep none.
func (d *drain) keep(ds []buffer.Delivery, empty bool) {
	clear(ds) // they refer to blocks
	d.room = ds
	if empty {
		d.room = nil
	}
}

// mix takes from the buffer, with no more retries than their budget allows, unless
// they are urgent. While too much is scheduled nothing else is tried.
func (d *drain) mix(p plan, now time.Time, v verdict) ([]buffer.Delivery, time.Time, error) {
	n := v.take
	buf, ok := d.buf.(mixer)
	if !ok || v.urgent || d.scheduled.Load() >= d.bound {
		return d.buf.Take(d.name, now, n)
	}
	share := p.policy.Retry.Budget
	ds, next, err := buf.TakeMix(d.room, d.name, now, n, d.retries.of(n, share))
	retries := 0
	for _, m := range ds {
		if m.Tries.Attempts > 0 {
			retries++
		}
	}
	d.retries.spent(retries, len(ds)-retries, share)
	return ds, next, err
}

// admit puts back what may not leave after all: everything if the window ended or
// an operator paused the drain while the buffer was read, and what is untried
// while too much is scheduled.
func (d *drain) admit(ds []buffer.Delivery, next time.Time, v verdict, s *supply) []buffer.Delivery {
	now := time.Now()
	open, full := v.open(now) && !d.paused(now), d.scheduled.Load() >= d.bound
	kept := ds[:0]
	for _, m := range ds {
		if d.overdue(now, m) {
			d.buf.Return(d.name, m.Offset)
			signal(d.expirer.changed)
			continue
		}
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

// ready is how many messages a take may give, as far as the buffer can say; at least 1.
func (d *drain) ready(limit int) int {
	buf, ok := d.buf.(pender)
	if !ok {
		return limit
	}
	return int(max(1, min(buf.Pending(d.name), uint64(limit))))
}

func (d *drain) paused(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.hands.pace(now) == Paused
}

// held reports whether a hold has ended.
func (d *drain) held(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.core.hands.ended(now)) > 0
}

func (d *drain) giveBack(p plan, v verdict, n, batches int) {
	if n <= 0 && batches <= 0 {
		return
	}
	if n == v.take {
		p.sink.withdraw(v.term)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.core.giveBack(time.Now(), p.sink.budget, v, n, batches)
	p.sink.gaveBack(d.core, n)
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
