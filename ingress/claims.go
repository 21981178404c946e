package ingress

import (
	"context"
	"sync"
	"time"

	"forebay/buffer"
)

// claimWait is how long a request waits for another one with its idempotency key.
const claimWait = time.Second

// claims are the idempotency keys of requests that are on their way to a sink: of
// what the sink makes of a key it has to know first. They are as many as these
// requests at most, and are kept in memory alone. The zero value is ready to use.
type claims struct {
	mu   sync.Mutex
	held map[[16]byte]*claim // guarded by mu
}

type claim struct {
	body [8]byte       // hash of what is asked
	done chan struct{} // closed when the request is over
}

// take claims a key, after another request that has it is over. It waits for that
// for a second at most. The error is [buffer.ErrMismatch] where that one asks
// something else, [buffer.ErrInProgress] where it goes on, or that of ctx. Who has
// claimed a key drops it.
func (c *claims) take(ctx context.Context, key buffer.OnceKey) error {
	first := c.claim(key)
	if first == nil {
		return nil
	}
	patience := time.NewTimer(claimWait)
	defer patience.Stop()
	for ; first != nil; first = c.claim(key) {
		if first.body != key.Body {
			return buffer.ErrMismatch
		}
		select {
		case <-first.done:
		case <-patience.C:
			return buffer.ErrInProgress
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// claim returns who has the key; nil: the caller, from now on.
func (c *claims) claim(key buffer.OnceKey) *claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	if first := c.held[key.Key]; first != nil {
		return first
	}
	if c.held == nil {
		c.held = map[[16]byte]*claim{}
	}
	c.held[key.Key] = &claim{key.Body, make(chan struct{})}
	return nil
}

// drop lets the next one have the key.
func (c *claims) drop(key buffer.OnceKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.held[key.Key].done)
	delete(c.held, key.Key)
}
