package buffer

import (
	"runtime"
	"time"
)

// Work that can wait rests for four times as long as each stint took, while blocks come
// and there is space: it takes a fifth of a core at most from those who append.
const (
	stint     = 5 * time.Millisecond
	restShare = 4
)

// paced is work that can wait. It is one goroutine's.
type paced struct {
	e      *Engine
	since  time.Time // the stint began
	newest uint64    // block at the end of the last stint
}

func (e *Engine) paced() *paced {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &paced{e: e, since: time.Now(), newest: e.active.last}
}

// rest is called between small pieces of the work, and ends it with an error where
// the engine ends.
func (p *paced) rest() error {
	worked := time.Since(p.since)
	if worked < stint {
		runtime.Gosched()
		return nil
	}
	p.e.mu.Lock()
	quiet, err := p.e.active.last == p.newest || p.e.full != nil, p.e.stopped()
	p.newest = p.e.active.last
	p.e.mu.Unlock()
	if err != nil {
		return err
	}
	if !quiet {
		select {
		case <-time.After(restShare * worked):
		case <-p.e.stop:
		case <-p.e.failed:
		}
	}
	p.since = time.Now()
	return p.e.Err()
}
