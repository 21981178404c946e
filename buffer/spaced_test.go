package buffer

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLooksAreApart: however long a merge or a rewrite takes, the next look at what
// came since is a whole pause later.
func TestLooksAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &Engine{stop: make(chan struct{}), failed: make(chan struct{})}
		ended, looks := time.Now(), 0
		e.spaced(rewriteEvery, func() {
			if pause := time.Since(ended); pause != rewriteEvery {
				t.Errorf("look %d is %v after the end of the one before, want %v", looks, pause, rewriteEvery)
			}
			<-time.After(5 * rewriteEvery / 2) // virtual
			ended = time.Now()
			if looks++; looks == 3 {
				close(e.stop)
			}
		})
		if looks != 3 {
			t.Errorf("%d looks, want 3: the last is at the end", looks)
		}
	})
}
