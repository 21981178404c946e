package ingress

import (
	"context"
	"sync/atomic"
	"time"

	"forebay/buffer"
)

// waits bounds the requests that wait, and ends their waits when the process
// is to stop.
type waits struct {
	max     int64
	n       atomic.Int64
	serving context.Context // done once the process is to stop
	done    <-chan struct{} // serving's
	stop    func()
}

func newWaits(limit int) *waits {
	serving, stop := context.WithCancel(context.Background())
	return &waits{max: int64(limit), serving: serving, done: serving.Done(), stop: stop}
}

func (w *waits) stopped() bool { return w.serving.Err() != nil }

// enter reports whether there is room for one more; if so, leave follows.
func (w *waits) enter() bool {
	if w.stopped() {
		return false
	}
	if w.n.Add(1) > w.max {
		w.n.Add(-1)
		return false
	}
	return true
}

func (w *waits) leave() { w.n.Add(-1) }

// settled reports whether a message is final with a drain or, where that is
// empty or none of its drains, with all of them.
func settled(st *buffer.Status, drain string) bool {
	for i := range st.Drains {
		if st.Drains[i].Drain == drain {
			return st.Drains[i].State.Final()
		}
	}
	return st.State().Final()
}

// await returns where a message stands once that is settled, or as it is when
// limit has passed, ctx ends or the process is to stop.
func (s *Receipts) await(ctx context.Context, ref buffer.Ref, limit time.Duration, drain string) (buffer.Status, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for last := false; ; {
		// Watch first: a change between the two would be missed the other way round.
		changed, release := s.buf.Watch(ref)
		st, err := s.buf.Find(ref, time.Now())
		if err != nil || last || settled(&st, drain) {
			release()
			return st, err
		}
		select {
		case <-changed:
		case <-timer.C:
			last = true
		case <-ctx.Done():
			last = true
		case <-s.waits.done:
			last = true
		}
		release()
	}
}
