package kafka

import (
	"context"
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

// produce sends the records of an attempt, and leaves in its errs what became of each.
// Where a batch was refused its records are sent again by themselves, so that each error
// is of its record.
func (s *Sink) produce(ctx context.Context, p *producer, a *attempt) {
	if err := s.together.Acquire(ctx, 1); err != nil {
		a.fail(a.all, err)
		return
	}
	a.send(ctx, p, a.all)
	s.together.Release(1)
	if refused := s.refused(a, a.all); len(refused) > 0 {
		s.apart(ctx, p, a, refused)
	}
}

// refused are those that went with a batch that was refused, and may be innocent. One
// that is too large by itself is not.
func (s *Sink) refused(a *attempt, of []int) (refused []int) {
	for _, i := range of {
		if err := a.errs[i]; err != nil && ofBatch(err) && bytesOf(&a.recs[i]) < s.policy.MaxBatchBytes {
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
func (s *Sink) apart(ctx context.Context, p *producer, a *attempt, refused []int) {
	if s.together.Acquire(ctx, crowd) != nil {
		a.fail(refused, ctx.Err())
		return
	}
	defer s.together.Release(crowd)
	var part func(of []int)
	part = func(of []int) {
		a.send(ctx, p, of)
		if of = s.refused(a, of); len(of) > 1 {
			part(of[:len(of)/2])
			part(of[len(of)/2:])
		}
	}
	part(refused)
}
