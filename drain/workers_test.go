package drain

import (
	"bytes"
	"maps"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever waits makes the next attempt; who waited for long ends; and what has begun is
// waited for.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		made, by := 0, make(map[string]int)
		w := newWorkers()
		start := func(n int) {
			for range n {
				w.do(func() {
					time.Sleep(time.Millisecond)
					mu.Lock()
					defer mu.Unlock()
					made++
					by[goroutine()]++
				})
			}
		}
		for range 100 {
			start(8)
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
		}
		if made != 800 || len(by) != 8 {
			t.Errorf("%d of 800 attempts, 8 at a time, were made in %d goroutines", made, len(by))
		}
		time.Sleep(2 * linger)
		before := maps.Clone(by)
		start(3)
		w.wait()
		if made != 803 {
			t.Errorf("%d of 803 attempts were made when all was waited for", made)
		}
		for g, n := range before {
			if by[g] != n {
				t.Errorf("goroutine %s was still there after %v", g, 2*linger)
			}
		}
	})
}

// goroutine is the number of the one that asks.
func goroutine() string {
	var b [64]byte
	return string(bytes.Fields(b[:runtime.Stack(b[:], false)])[1])
}
