package kafka

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// producers hands out the present producer. It is replaced when it cannot go on,
// and closed once nobody uses it any more.
type producers struct {
	opts []kgo.Opt

	mu      sync.Mutex
	present *producer // guarded by mu; nil: closed
}

type producer struct {
	*kgo.Client

	users   int  // guarded by producers.mu
	retired bool // guarded by producers.mu
}

func newProducers(opts []kgo.Opt) (*producers, error) {
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	return &producers{opts: opts, present: &producer{Client: client}}, nil
}

// enter returns the present producer, which has to be left; nil: there is none any more.
func (ps *producers) enter() *producer {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.present != nil {
		ps.present.users++
	}
	return ps.present
}

func (ps *producers) leave(p *producer) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p.users--
	p.closeUnused()
}

// replace puts another in the place of a producer.
func (ps *producers) replace(p *producer) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.present != p {
		return // somebody has
	}
	if client, err := kgo.NewClient(ps.opts...); err == nil { // the options did before
		ps.present = &producer{Client: client}
		p.retired = true
		p.closeUnused()
	}
}

// close retires the present producer for good.
func (ps *producers) close() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.present; p != nil {
		ps.present, p.retired = nil, true
		p.closeUnused()
	}
}

// closeUnused requires that mu is held.
func (p *producer) closeUnused() {
	if p.retired && p.users == 0 {
		p.Close()
	}
}

// spent reports whether a producer keeps to an error whatever the brokers come to
// say: that it may not be one, the id of a topic that was deleted and made again, and
// records that it was to give up and cannot, with which later ones of the partition
// would time out too.
func spent(err error) bool {
	return isAny(err, kerr.ClusterAuthorizationFailed, kerr.UnknownTopicID, context.DeadlineExceeded)
}
