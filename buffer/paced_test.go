package buffer

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWorkThatCanWaitRests: while messages come it takes a fifth of the time, without
// them all of it, and it ends with the engine.
func TestWorkThatCanWaitRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &Engine{stop: make(chan struct{}), failed: make(chan struct{}), active: &segmentRef{}}
		p, begin := e.paced(), time.Now()
		work := func(pieces int, comes uint64) time.Duration {
			begin = time.Now()
			for range pieces {
				<-time.After(time.Millisecond) // virtual
				e.active.last += comes
				if err := p.rest(); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(begin)
		}
		if took := work(100, 1); took != 500*time.Millisecond {
			t.Errorf("100 ms of work took %v while messages came, want 500 ms", took)
		}
		if took := work(100, 0); took != 100*time.Millisecond {
			t.Errorf("100 ms of work took %v while none came, want no more", took)
		}
		<-time.After(time.Hour)
		e.active.last++
		go func() {
			<-time.After(time.Minute)
			e.mu.Lock()
			e.closed = true
			e.mu.Unlock()
			close(e.stop)
		}()
		begin = time.Now()
		if err := p.rest(); !errors.Is(err, ErrClosed) || time.Since(begin) != time.Minute {
			t.Errorf("the engine ended amid a rest: %v after %v, want %v after a minute", err, time.Since(begin), ErrClosed)
		}
	})
}
