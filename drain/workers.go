package drain

import (
	"sync"
	"time"
)

// linger is how long a worker waits for the next attempt before it ends. So a drain that
// is busy starts no goroutine an attempt, whose stack would have to grow each time, and
// one that is not keeps none.
const linger = time.Second

// workers make attempts, each in a goroutine of its own while it lasts.
type workers struct {
	jobs chan func()
	quit chan struct{} // closed by wait
	all  sync.WaitGroup
}

func newWorkers() workers {
	return workers{jobs: make(chan func()), quit: make(chan struct{})}
}

// do returns at once.
func (w *workers) do(job func()) {
	select {
	case w.jobs <- job: // somebody waits for it
	default:
		w.all.Go(func() { w.work(job) })
	}
}

func (w *workers) work(job func()) {
	idle := time.NewTimer(linger)
	defer idle.Stop()
	for {
		job()
		idle.Reset(linger)
		select {
		case job = <-w.jobs:
		case <-idle.C:
			return
		case <-w.quit:
			return
		}
	}
}

// wait returns when all is done. Nothing may be asked for any more.
func (w *workers) wait() {
	close(w.quit)
	w.all.Wait()
}
