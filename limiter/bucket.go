package limiter

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bucket is a token bucket. Every method takes the time, is safe for
// concurrent use and does not block.
//
// Time never runs backwards inside a bucket: an operation at an earlier time
// than one before it counts as done at the later of the two. Callers may
// therefore account for something slightly in the past without ever being
// credited twice for the same stretch of time.
type Bucket struct {
	mu    sync.Mutex
	limit Limit         // guarded by mu; normalized
	lim   *rate.Limiter // guarded by mu; replaced when the level is set
	last  time.Time     // guarded by mu; the latest time any method was given
}

// NewEmptyBucket returns a bucket without tokens, as everything that protects
// a sink starts: after a restart nobody knows what was sent just before it.
func NewEmptyBucket(now time.Time, limit Limit) *Bucket {
	b := &Bucket{limit: limit.normalized(), last: now}
	b.fill(now, 0)
	return b
}

// NewFullBucket returns a bucket that holds its burst.
func NewFullBucket(now time.Time, limit Limit) *Bucket {
	b := &Bucket{limit: limit.normalized(), last: now}
	b.fill(now, float64(b.limit.Burst))
	return b
}

// Take takes n tokens, all or none, and reports whether it did.
func (b *Bucket) Take(now time.Time, n int) bool {
	if n <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lim.AllowN(b.advance(now), n)
}

// Return puts back n tokens that were taken and not used.
func (b *Bucket) Return(now time.Time, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n <= 0 || b.limit.Rate == Unlimited || b.limit.Rate == 0 {
		return
	}
	now = b.advance(now)
	b.fill(now, b.lim.TokensAt(now)+float64(n))
}

// Hold sets the level to exactly n tokens, or to the burst if that is less. A
// bucket with rate 0 holds none.
func (b *Bucket) Hold(now time.Time, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(b.advance(now), float64(n))
}

// Level returns how many tokens there are; +Inf when the rate is Unlimited. It
// may be below zero by what a clock cannot resolve.
func (b *Bucket) Level(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit.Rate == Unlimited {
		return math.Inf(1)
	}
	return b.lim.TokensAt(b.advance(now))
}

// When returns the earliest time, not before now, at which n tokens are there
// if nobody takes any until then. It is false where that never happens: n is
// over the burst, or the rate is 0. A rate that is set later changes the
// answer, so do not sleep on it without listening for that.
func (b *Bucket) When(now time.Time, n int) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.advance(now)
	if n <= 0 || b.limit.Rate == Unlimited {
		return now, true
	}
	if n > b.limit.Burst || b.limit.Rate == 0 {
		return time.Time{}, false
	}
	// Rounding may leave the first estimate a few nanoseconds early.
	for range 4 {
		missing := float64(n) - b.lim.TokensAt(at)
		if missing <= 0 {
			break
		}
		wait := math.Ceil(missing / float64(b.limit.Rate) * float64(time.Second))
		if wait >= math.MaxInt64 {
			return time.Time{}, false
		}
		at = at.Add(time.Duration(wait))
	}
	return at, true
}

// Set changes rate and burst from now on. Tokens that are there stay, up to
// the new burst; a rate of 0 leaves none.
func (b *Bucket) Set(now time.Time, limit Limit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limit = limit.normalized()
	if limit == b.limit {
		return
	}
	now = b.advance(now)
	level := b.lim.TokensAt(now)
	b.limit = limit
	b.fill(now, level)
}

// Limit returns the present rate and burst.
func (b *Bucket) Limit() Limit {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit
}

// advance returns now, or the latest time seen if that is later. The limiter
// underneath takes an earlier time as its new present and would credit the
// same stretch twice. It requires that mu is held.
func (b *Bucket) advance(now time.Time) time.Time {
	if now.After(b.last) {
		b.last = now
	}
	return b.last
}

// fill sets the level at now. A rate.Limiter starts full and has no way to set
// its level, so whole tokens are taken out of a fresh one, so long before now
// that the fraction has grown back. It requires that mu is held.
func (b *Bucket) fill(now time.Time, level float64) {
	b.lim = rate.NewLimiter(rate.Limit(b.limit.Rate), b.limit.Burst)
	if b.limit.Rate == 0 {
		level = 0
	}
	level = min(max(level, 0), float64(b.limit.Burst))
	whole := math.Floor(level)
	if ago := (level - whole) / float64(b.limit.Rate) * float64(time.Second); ago < math.MaxInt64 {
		now = now.Add(-time.Duration(ago)) // NaN at rate 0 is no time at all
	}
	b.lim.AllowN(now, b.limit.Burst-int(whole))
}

// normalized makes every limit one that a bucket can work with.
func (l Limit) normalized() Limit {
	if !(l.Rate > 0) { // NaN too
		l.Rate = 0
	}
	l.Rate = min(l.Rate, Unlimited)
	l.Burst = max(1, l.Burst)
	return l
}
