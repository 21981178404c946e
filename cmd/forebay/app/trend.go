package app

import (
	"context"
	"math"
	"sync"
	"time"

	"forebay/buffer"
)

// fillSpan is how far back growth is measured, at least and about.
const fillSpan = time.Minute

// fills forecasts when streams and the disk are full, from how they grew over the
// last minute or two. It is safe for concurrent use.
type fills struct {
	mu      sync.Mutex
	streams map[string]fill // guarded by mu
	disk    fill            // guarded by mu; of all streams together
}

// forecast is when what is full at its present growth: the zero time where it
// does not grow, has no bound, or has not been seen for long enough.
type forecast struct {
	streams map[string]time.Time
	disk    time.Time
}

// run looks as often as growth needs it, so that a forecast is there for whoever
// asks once. It returns nil when ctx is done.
func (f *fills) run(ctx context.Context, stats func() buffer.Stats) error {
	tick := time.NewTicker(fillSpan)
	defer tick.Stop()
	for {
		f.look(time.Now(), stats())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look takes note of the present sizes and returns the forecast.
func (f *fills) look(now time.Time, st buffer.Stats) forecast {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := make(map[string]fill, len(st.Streams))
	out := forecast{streams: make(map[string]time.Time, len(st.Streams))}
	sum := int64(0)
	for _, s := range st.Streams {
		x := f.streams[s.Stream].next(sample{now, s.Bytes})
		seen[s.Stream] = x
		if s.MaxBytes > 0 {
			out.streams[s.Stream] = x.fullAt(now, s.Bytes, s.MaxBytes-s.Bytes)
		}
		sum += s.Bytes
	}
	f.streams, f.disk = seen, f.disk.next(sample{now, sum})
	out.disk = f.disk.fullAt(now, sum, st.Room)
	return out
}

// fill is what growth is measured from: the samples of one and of two spans ago, or
// the first there was.
type fill struct{ older, newer sample }

type sample struct {
	at    time.Time
	bytes int64
}

func (f fill) next(s sample) fill {
	switch {
	case f.newer.at.IsZero():
		return fill{s, s}
	case s.at.Sub(f.newer.at) >= fillSpan:
		return fill{f.newer, s}
	default:
		return f
	}
}

// fullAt is when left more bytes have come, from the bytes there are now.
func (f fill) fullAt(now time.Time, bytes, left int64) time.Time {
	if left <= 0 {
		return now // it takes no more, and so it does not grow
	}
	span, grown := now.Sub(f.older.at).Seconds(), float64(bytes-f.older.bytes)
	if span <= 0 || grown <= 0 {
		return time.Time{}
	}
	seconds := float64(left) / grown * span
	if seconds > math.MaxInt64/float64(time.Second)/2 {
		return time.Time{} // in a century or more
	}
	return now.Add(time.Duration(seconds * float64(time.Second)))
}
