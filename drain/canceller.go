package drain

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// maxCancels bounds the cancels that are under way: each may read much of what is
// stored. An attempt whose answer asks for one more keeps its slot and waits.
const maxCancels = 8

// canceller cancels waiting messages by key because a sink asked for it. Of those
// who ask for the same key at the same time, one does it for all who asked before
// it began. It is safe for concurrent use.
type canceller struct {
	buf    buffer.Searcher
	log    *slog.Logger
	places chan struct{} // one is taken by each cancel that is under way

	mu    sync.Mutex
	turns map[cancelKey]*turn // guarded by mu
}

type cancelKey struct{ stream, key string }

// turn is whose turn it is to cancel one key.
type turn struct {
	users int           // guarded by canceller.mu; it goes with the last
	held  chan struct{} // full while one cancels, and guards began
	began time.Time     // when the last that succeeded did; zero: none
}

// newCanceller returns nil for a buffer in which nothing can be found by key.
func newCanceller(buf Buffer, log *slog.Logger) *canceller {
	s, ok := buf.(buffer.Searcher)
	if !ok {
		return nil
	}
	return &canceller{buf: s, log: log, places: make(chan struct{}, maxCancels), turns: make(map[cancelKey]*turn)}
}

// cancel blocks until all messages of a key that waited when it was called are
// cancelled, durably. It fails with ctx, or with the buffer.
func (c *canceller) cancel(ctx context.Context, stream, key string) error {
	k, asked := cancelKey{stream, key}, time.Now()
	if err := enter(ctx, c.places); err != nil {
		return err
	}
	defer func() { <-c.places }()
	t := c.join(k)
	defer c.leave(k, t)
	if err := enter(ctx, t.held); err != nil {
		return err
	}
	defer func() { <-t.held }()
	if t.began.After(asked) {
		return nil // what waited then is cancelled
	}
	began := time.Now()
	n, err := c.buf.CancelKey(ctx, stream, policies.StoredKey(key), began)
	if err != nil {
		return err
	}
	t.began = began
	if n > 0 {
		c.log.Info("messages cancelled by their sink", "stream", stream, "messages", n)
	}
	return nil
}

func enter(ctx context.Context, places chan<- struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *canceller) join(k cancelKey) *turn {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.turns[k]
	if t == nil {
		t = &turn{held: make(chan struct{}, 1)}
		c.turns[k] = t
	}
	t.users++
	return t
}

func (c *canceller) leave(k cancelKey, t *turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(c.turns, k)
	}
}

// cancel does what an answer asks for, and reports whether the attempt can be
// settled: where it was cut off by the stop the message is tried again, and the
// sink asked again. It comes before the message is settled, so that a crash in
// between repeats it, and while the slot is held, so that a sink cannot ask
// faster than the buffer can do.
func (d *drain) cancel(ctx context.Context, p plan, keys []string) bool {
	return d.canceller.honour(ctx, p.sink, p.policy.Stream, keys)
}

// honour cancels what waits of a stream's keys for a sink that may ask for it. It
// reports whether ctx did not end it.
func (c *canceller) honour(ctx context.Context, sink *sinkState, stream string, keys []string) bool {
	if len(keys) == 0 || c == nil || stream == "" || !c.may(sink) {
		return true
	}
	for _, key := range keys {
		if err := c.cancel(ctx, stream, key); err != nil {
			if ctx.Err() != nil {
				return false
			}
			c.log.Error("what the sink asked to cancel is not cancelled", "sink", sink.name, "stream", stream, "err", err)
		}
	}
	return true
}

// may says once that a sink asks for what it may not.
func (c *canceller) may(sink *sinkState) bool {
	may, first := sink.mayCancel()
	if first {
		c.log.Warn("the sink's Forebay-Cancel-Key is ignored: its policy does not say may_cancel: true", "sink", sink.name)
	}
	return may
}

// cancelWithin is how long what an answer to a live request asks for may take, whether or
// not its caller waits.
const cancelWithin = 30 * time.Second

// Cancel cancels what waits of these cancel keys in a stream, because the answer to the
// request asked for it. It blocks until that is durable, before the slot is free; where
// it fails, or takes half a minute, that is logged. It does nothing without a
// stream, and where the sink's policy does not say that it may.
func (t *Turn) Cancel(ctx context.Context, stream string, keys []string) {
	if len(keys) == 0 {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelWithin)
	defer stop()
	if !t.drains.canceller.honour(ctx, t.sink, stream, keys) {
		t.drains.log.Error("what the sink asked to cancel is not cancelled", "sink", t.sink.name, "stream", stream, "err", ctx.Err())
	}
}
