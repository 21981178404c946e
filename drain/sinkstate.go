package drain

import (
	"context"
	"reflect"
	"sync"
	"time"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

// sinkState is what belongs to a sink's name and outlives a change of policy.
// A breaker has its place here, beside the pause: it would set until when
// nothing is sent, and hear of every outcome through heard.
type sinkState struct {
	name   string
	budget *limiter.Budget

	mu     sync.Mutex
	policy policies.Sink // guarded by mu
	sink   Sink          // guarded by mu
	pause  time.Time     // guarded by mu; nothing is sent before
}

func newSinkState(now time.Time, p policies.Sink, sink Sink) *sinkState {
	return &sinkState{
		name:   p.Name,
		budget: limiter.NewBudget(now, p.Budget.Limit, p.Budget.Concurrency),
		policy: p,
		sink:   sink,
	}
}

// fits reports whether the present sink does for a policy: all but the rate,
// which is the budget's, is as it was.
func (s *sinkState) fits(p policies.Sink) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.policy
	was.Budget.Limit = p.Budget.Limit
	return reflect.DeepEqual(was, p)
}

// update replaces the policy and, where there is a new one, the sink. The
// budget's tokens and slots go on.
func (s *sinkState) update(now time.Time, p policies.Sink, sink Sink) {
	s.budget.Set(now, p.Budget.Limit, p.Budget.Concurrency)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = p
	if sink != nil {
		closeIdle(s.sink)
		s.sink = sink
	}
}

// close closes the sink's idle connections, for good if nothing is in flight.
func (s *sinkState) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	closeIdle(s.sink)
}

// deliver makes one attempt with one message.
func (s *sinkState) deliver(ctx context.Context, m buffer.Delivery) Outcome {
	s.mu.Lock()
	sink := s.sink
	s.mu.Unlock()
	outcomes := sink.Deliver(ctx, []buffer.Delivery{m})
	if len(outcomes) != 1 {
		return Outcome{Class: Retry, Error: "the sink gave no outcome"}
	}
	return outcomes[0]
}

// heard takes note of a pause that the sink asked for, and reports whether it
// is a new one.
func (s *sinkState) heard(now time.Time, pause time.Duration) bool {
	if pause <= 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := !s.pause.After(now)
	s.pause = later(s.pause, now.Add(pause))
	return fresh
}

// pausedUntil is the end of the sink's pause, which may be past.
func (s *sinkState) pausedUntil() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pause
}

// closeIdle closes the connections that a sink that is not used any more keeps
// open. What is in flight ends by itself.
func closeIdle(s Sink) {
	if c, ok := s.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
