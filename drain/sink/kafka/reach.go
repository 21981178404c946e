package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// reach knows whether the cluster can be reached, as far as connections tell. While
// that is in doubt an attempt asks before it produces anything: it fails at once and
// says why, and a cluster that comes back is not met by all that was tried meanwhile.
type reach struct {
	mu    sync.Mutex
	sure  bool      // guarded by mu; nothing has failed since the last answer
	err   error     // guarded by mu; how the last connection failed
	at    time.Time // guarded by mu; when
	count uint64    // guarded by mu; of losses

	question *question // guarded by mu; nil: none is asked
}

// askTimeout bounds a question, about: a connection that was made is waited for.
const askTimeout = 10 * time.Second

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (r *reach) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		r.lost(err)
	}
}

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect.
func (r *reach) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { r.lost(nil) }

func (r *reach) lost(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sure = false
	r.count++
	if err != nil {
		r.err, r.at = err, time.Now()
	}
}

// ensure waits for an answer of a broker, unless there was one and nothing was lost
// since. Attempts share one question, which may outlast them.
func (r *reach) ensure(ctx context.Context, client *kgo.Client) error {
	r.mu.Lock()
	if r.sure {
		r.mu.Unlock()
		return nil
	}
	q := r.question
	if q == nil {
		q = &question{answered: make(chan struct{})}
		r.question = q
		go r.ask(client, q, r.count)
	}
	r.mu.Unlock()
	select {
	case <-q.answered:
		return r.explain(q.err)
	case <-ctx.Done():
		return r.explain(ctx.Err())
	}
}

// question is one that is asked.
type question struct {
	answered chan struct{}
	err      error // once answered
}

// ask ends after askTimeout, or when the client is closed.
func (r *reach) ask(client *kgo.Client, q *question, losses uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	q.err = client.Ping(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.question = nil
	if q.err == nil && r.count == losses { // nothing was lost meanwhile
		r.sure, r.err = true, nil
	}
	close(q.answered)
}

func (r *reach) known() (sure bool, losses uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sure, r.count
}

// explain adds to a time-out what connections failed with meanwhile.
func (r *reach) explain(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil || time.Since(r.at) > time.Minute {
		return err
	}
	return fmt.Errorf("%w; the last connection failed: %w", err, r.err)
}
