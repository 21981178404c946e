package app

import (
	"math"
	"sync"
	"time"

	"forebay/buffer"
)

// fillSpan is how far back a stream's growth is measured, at least and about.
const fillSpan = time.Minute

// fills forecasts when streams are full, from how they grew over the last
// minute or two.
type fills struct {
	mu      sync.Mutex
	streams map[string][2]sample // guarded by mu; the older one is what growth is measured from
}

type sample struct {
	at    time.Time
	bytes int64
}

// look takes note of the streams' sizes and returns when each is full at its
// present growth: the zero time where it does not grow, has no bound, or has not
// been seen for long enough.
func (f *fills) look(now time.Time, streams []buffer.StreamStats) map[string]time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := make(map[string][2]sample, len(streams))
	full := make(map[string]time.Time, len(streams))
	for _, s := range streams {
		newest := sample{now, s.Bytes}
		was, known := f.streams[s.Stream]
		switch {
		case !known:
			was = [2]sample{newest, newest}
		case now.Sub(was[1].at) >= fillSpan:
			was = [2]sample{was[1], newest}
		}
		seen[s.Stream] = was
		full[s.Stream] = fullAt(was[0], newest, s.MaxBytes)
	}
	f.streams = seen
	return full
}

func fullAt(from, to sample, bound int64) time.Time {
	span, grown := to.at.Sub(from.at).Seconds(), float64(to.bytes-from.bytes)
	if bound == 0 || span <= 0 || grown <= 0 {
		return time.Time{}
	}
	left := max(0, float64(bound-to.bytes)) / grown * span
	if left > math.MaxInt64/float64(time.Second)/2 {
		return time.Time{} // in a century or more
	}
	return to.at.Add(time.Duration(left * float64(time.Second)))
}
