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
}

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

// ensure asks a broker for an answer, unless there was one and nothing was lost since.
func (r *reach) ensure(ctx context.Context, client *kgo.Client) error {
	sure, count := r.known()
	if sure {
		return nil
	}
	if err := client.Ping(ctx); err != nil {
		return r.explain(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == count { // nothing was lost meanwhile
		r.sure, r.err = true, nil
	}
	return nil
}

func (r *reach) known() (sure bool, losses uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sure, r.count
}

// explain adds to a time-out what connections failed with meanwhile.
func (r *reach) explain(err error) error {
	if !isAny(err, context.DeadlineExceeded, kgo.ErrRecordTimeout) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil || time.Since(r.at) > time.Minute {
		return err
	}
	return fmt.Errorf("%w; the last connection failed: %w", err, r.err)
}
