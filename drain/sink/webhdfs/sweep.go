package webhdfs

import (
	"context"
	"sync"
	"time"
)

const (
	// maxLeft bounds the files that are remembered: what is beyond it is deleted at the
	// next start.
	maxLeft = 1000
	// maxAbsent is how often a file was not there before it is forgotten, which takes a
	// minute and a half: a DataNode that hung may make it late.
	maxAbsent = 7
)

// sweeper deletes files that were given up, one after the other, until they are gone.
type sweeper struct {
	client *client
	more   chan struct{} // one slot; there is one more

	mu       sync.Mutex
	left     map[string]int // guarded by mu; how often it was not there
	sweeping bool           // guarded by mu; a goroutine does
}

func newSweeper(c *client) *sweeper {
	return &sweeper{client: c, more: make(chan struct{}, 1), left: map[string]int{}}
}

// add has a file deleted, soon. It does not block. What is left when ctx is done is
// deleted at the next start.
func (s *sweeper) add(ctx context.Context, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.left) >= maxLeft {
		return
	}
	s.left[path] = 0
	if s.sweeping {
		select {
		case s.more <- struct{}{}:
		default: // it says the same
		}
		return
	}
	s.sweeping = true
	go s.run(ctx)
}

func (s *sweeper) run(ctx context.Context) {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		for _, path := range s.paths() {
			there, err := s.client.remove(ctx, path)
			s.tried(path, there, err)
		}
		if s.ends(ctx) {
			return
		}
		select {
		case <-ctx.Done():
		case <-s.more:
		case <-time.After(wait):
		}
	}
}

func (s *sweeper) paths() (paths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path := range s.left {
		paths = append(paths, path)
	}
	return paths
}

func (s *sweeper) tried(path string, there bool, err error) {
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left[path]++; there || s.left[path] >= maxAbsent {
		delete(s.left, path)
	}
}

// ends reports whether there is nothing more to do.
func (s *sweeper) ends(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweeping = len(s.left) > 0 && ctx.Err() == nil
	return !s.sweeping
}
