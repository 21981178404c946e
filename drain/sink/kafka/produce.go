package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// produceTimeout is how long brokers may take for one request of an attempt, which
	// is sent again within the attempt's own time-out.
	produceTimeout = 10 * time.Second
	// grace is what the producer gets to end what is cut off at the time-out.
	grace = 100 * time.Millisecond
)

// produce sends records and returns what became of each. Where a batch was refused
// its records are sent again by themselves, so that each error is of its record.
func (s *Sink) produce(ctx context.Context, p *producer, recs []kgo.Record) []error {
	all := make([]int, len(recs))
	for i := range all {
		all[i] = i
	}
	errs := make([]error, len(recs))
	if err := s.together.Acquire(ctx, 1); err != nil {
		return same(errs, err)
	}
	send(ctx, p, recs, all, errs)
	s.together.Release(1)
	if refused := s.refused(recs, all, errs); len(refused) > 0 {
		s.apart(ctx, p, recs, refused, errs)
	}
	return errs
}

func same(errs []error, err error) []error {
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// refused are those that went with a batch that was refused, and may be innocent. One
// that is too large by itself is not.
func (s *Sink) refused(recs []kgo.Record, of []int, errs []error) (refused []int) {
	for _, i := range of {
		if errs[i] != nil && ofBatch(errs[i]) && bytesOf(&recs[i]) < s.policy.MaxBatchBytes {
			refused = append(refused, i)
		}
	}
	return refused
}

// bytesOf is the least that a record takes, uncompressed.
func bytesOf(r *kgo.Record) int64 {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return int64(n)
}

// apart sends refused records again while no other attempt is under way, by halves,
// until each that is refused was refused alone.
func (s *Sink) apart(ctx context.Context, p *producer, recs []kgo.Record, refused []int, errs []error) {
	if s.together.Acquire(ctx, crowd) != nil {
		for _, i := range refused {
			errs[i] = ctx.Err()
		}
		return
	}
	defer s.together.Release(crowd)
	var part func(of []int)
	part = func(of []int) {
		send(ctx, p, recs, of, errs)
		if of = s.refused(recs, of, errs); len(of) > 1 {
			part(of[:len(of)/2])
			part(of[len(of)/2:])
		}
	}
	part(refused)
}

// send produces some of the records and waits until each was acknowledged or
// failed, or the time is over: those that nothing is known of have failed then.
func send(ctx context.Context, p *producer, recs []kgo.Record, of []int, errs []error) {
	a := &attempt{errs: make([]error, len(of)), ends: make([]bool, len(of)), open: len(of), done: make(chan struct{})}
	for n, i := range of {
		p.Produce(ctx, &recs[i], func(_ *kgo.Record, err error) { a.ended(n, err) })
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		select {
		case <-a.done:
		case <-time.After(grace):
		}
	}
	for n, err := range a.result(ctx) {
		errs[of[n]] = err
	}
}

// attempt gathers what becomes of records.
type attempt struct {
	done chan struct{} // closed when all have ended

	mu    sync.Mutex
	errs  []error // guarded by mu
	ends  []bool  // guarded by mu
	open  int     // guarded by mu
	given bool    // guarded by mu; nobody listens any more
}

func (a *attempt) ended(n int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given {
		return
	}
	a.errs[n] = err
	a.ends[n] = true
	if a.open--; a.open == 0 {
		close(a.done)
	}
}

// result is what is known by now.
func (a *attempt) result(ctx context.Context) []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.given = true
	for n, ended := range a.ends {
		if !ended {
			a.errs[n] = ctx.Err()
		}
	}
	return a.errs
}
