package ingress

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
)

func TestClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c claims
		key := buffer.OnceKey{Key: [16]byte{1}, Body: [8]byte{1}, TTL: time.Hour}
		other := key
		other.Body[0] = 2
		take := func(key buffer.OnceKey, want error, after time.Duration) {
			t.Helper()
			begin := time.Now()
			if err := c.take(t.Context(), key); !errors.Is(err, want) || time.Since(begin) != after {
				t.Errorf("take: %v after %v, want %v after %v", err, time.Since(begin), want, after)
			}
		}
		take(key, nil, 0)
		take(other, buffer.ErrMismatch, 0)
		take(key, buffer.ErrInProgress, time.Second)
		take(buffer.OnceKey{Key: [16]byte{2}}, nil, 0)
		time.AfterFunc(300*time.Millisecond, func() { c.drop(key) })
		take(key, nil, 300*time.Millisecond)
		time.AfterFunc(300*time.Millisecond, func() { c.drop(key) })
		take(other, buffer.ErrMismatch, 0) // it is told so while the first is under way
		time.Sleep(time.Second)
		take(other, nil, 0) // and may be sent once that is over
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		if err := c.take(ctx, other); !errors.Is(err, context.Canceled) {
			t.Errorf("take of a caller who leaves: %v, want %v", err, context.Canceled)
		}
		c.drop(other)
		c.drop(buffer.OnceKey{Key: [16]byte{2}})
		if len(c.held) != 0 {
			t.Errorf("%d keys are kept of requests that are over", len(c.held))
		}
	})
}

// TestClaimsOne: of many requests with a key one is under way at any time.
func TestClaimsOne(t *testing.T) {
	var c claims
	key := buffer.OnceKey{Key: [16]byte{1}}
	under := make(chan struct{}, 1)
	done := make(chan error)
	for range 50 {
		go func() {
			err := c.take(context.Background(), key)
			if err == nil {
				select {
				case under <- struct{}{}:
					<-under
				default:
					err = errors.New("another one is under way")
				}
				c.drop(key)
			}
			done <- err
		}()
	}
	for range 50 {
		if err := <-done; err != nil && !errors.Is(err, buffer.ErrInProgress) {
			t.Error(err)
		}
	}
}
