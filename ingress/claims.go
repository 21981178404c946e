package ingress

import (
	"context"
	"sync"
	"time"

	"forebay/buffer"
	"forebay/policies"
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

// claimed sends a live request that has an idempotency key once no other one with
// the key is under way, and any other as it is. What is asked is a part of the key, so
// that the body is read before it is sent.
func (h *Handler) claimed(x *exchange, route *policies.Route, m *routeMetrics, target string, send func() outcome) outcome {
	key, err := repeatKeyOf(x.r.Header, route)
	if err != nil {
		return h.refuseLive(x, m, err)
	}
	if key.value == "" {
		return send()
	}
	s, _ := h.scratch.Get().(*scratch)
	defer h.recycle(s)
	defer h.giveBack(s)
	body, err := h.bodyOf(s, x.r, bodyLimit(route))
	if err != nil {
		return h.refuseLive(x, m, err)
	}
	x.keepBody(body)
	once := onceKey(s, key, route, x.principal, &buffer.Message{Method: x.r.Method, Target: target, Body: body})
	err = h.claims.take(x.r.Context(), once)
	h.metrics.lookups.count(false, err)
	if err != nil {
		return h.refuseLive(x, m, err)
	}
	defer h.claims.drop(once)
	return send()
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
