package drain

import (
	"context"
	"sync"
	"time"
)

const (
	// lagEvery is how often the lag of consumers is read while it matters.
	lagEvery = time.Second
	// lagTimeout bounds a reading.
	lagTimeout = 5 * time.Second
)

// lagging is a sink whose consumers may be asked how far they are behind. The
// call blocks until there is an answer or ctx is done.
type lagging interface {
	ConsumerLag(ctx context.Context) (messages int64, err error)
}

// watchLags reads the lags that matter until ctx is done. It costs nothing while none
// does.
func (d *Drains) watchLags(ctx context.Context) error {
	timer := time.NewTimer(maxSleep)
	defer timer.Stop()
	var reading sync.WaitGroup
	defer reading.Wait()
	for {
		next := time.Time{}
		for _, s := range d.sinkList() {
			ask, matters := s.beginLag(time.Now())
			if ask != nil {
				reading.Go(func() { d.readLag(ctx, s, ask) })
			}
			if matters {
				next = time.Now().Add(lagEvery)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.lags:
		case <-after(timer, next):
		}
	}
}

// readLag makes one reading.
func (d *Drains) readLag(ctx context.Context, s *sinkState, sink lagging) {
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	behind, err := sink.ConsumerLag(ctx)
	if !s.endLag(time.Now(), behind, err) {
		return
	}
	for _, dr := range d.list() {
		dr.sinkHeld(s)
	}
}

// beginLag returns whom to ask, unless that is under way, and whether a reading
// matters.
func (s *sinkState) beginLag(now time.Time) (sink lagging, matters bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lag.matters(now) {
		return nil, false
	}
	sink, ok := s.sink.(lagging)
	if !ok || s.readsLag {
		return nil, ok
	}
	s.readsLag = true
	return sink, true
}

// endLag takes note of how a reading went, and reports whether that holds something back
// or lets it go on.
func (s *sinkState) endLag(now time.Time, behind int64, err error) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readsLag = false
	if err != nil {
		s.lag.failed(err.Error())
		return false
	}
	return s.lag.read(now, behind)
}
