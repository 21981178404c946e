package drain

import (
	"math"

	"forebay/limiter"
)

// flow is a model of pacer and budget one after the other, while messages wait.
// The first messages of a window are counted one by one, the rest is poured: a
// whole token that waits for the other bucket matters while there are few.
type flow struct {
	paced, funded level
	single        int // how many sends are counted yet
	even          even
	batch         Batch
}

// counted is how many sends are modelled one by one in each window.
const counted = 32

// level is a bucket in the model.
type level struct {
	tokens float64 // +Inf while unlimited
	limit  limiter.Limit
}

// add changes the tokens.
func (l *level) add(tokens float64) {
	if l.limit.Rate == limiter.Unlimited {
		l.tokens = math.Inf(1)
		return
	}
	l.tokens = min(max(l.tokens+tokens, 0), float64(l.limit.Burst))
}

// need is the seconds until there is a whole token.
func (l *level) need() float64 {
	if l.tokens >= 1 {
		return 0
	}
	return (1 - l.tokens) / float64(l.limit.Rate)
}

// wait lets seconds pass in which nothing is sent.
func (f *flow) wait(seconds float64) {
	f.paced.add(float64(f.paced.limit.Rate) * seconds)
	f.funded.add(float64(f.funded.limit.Rate) * seconds)
}

// run sends for so many seconds, or until n messages are sent, and returns how
// many were, in whole messages, and how long that took.
func (f *flow) run(seconds, n float64) (sent, took float64) {
	f.even = even{}
	if seconds <= 0 {
		return 0, 0
	}
	sent, took = f.count(seconds, n)
	if sent >= n || took >= seconds {
		return sent, took
	}
	poured, more := f.pour(seconds-took, n-sent)
	return sent + poured, took + more
}

// count sends a few times, whole messages as soon as both buckets have a token.
func (f *flow) count(seconds, n float64) (sent, took float64) {
	for ; f.single > 0; f.single-- {
		wait := max(f.paced.need(), f.funded.need())
		if wait >= seconds-took {
			f.wait(seconds - took)
			return sent, seconds
		}
		f.wait(wait)
		took += wait
		k := math.Floor(max(1, min(f.paced.tokens, f.funded.tokens, n-sent)))
		f.paced.tokens -= k
		f.funded.tokens -= k
		if sent += k; sent >= n {
			break
		}
	}
	return sent, took
}

// pour sends as a fluid. The part of a message that is left at the end goes back.
func (f *flow) pour(seconds, n float64) (sent, took float64) {
	sent = max(0, min(f.paced.tokens, f.funded.tokens))
	f.paced.tokens -= sent
	f.funded.tokens -= sent
	for took < seconds {
		rate, holds := f.rate()
		if rate <= 0 {
			f.wait(seconds - took)
			break
		}
		d := min(holds, seconds-took)
		if d*rate >= n-sent {
			f.even = even{rate: rate, before: max(0, n-sent), behind: d*rate - max(0, n-sent)}
			return n, took + max(0, n-sent)/rate
		}
		sent += rate * d
		took += d
		f.paced.add((float64(f.paced.limit.Rate) - rate) * d)
		f.funded.add((float64(f.funded.limit.Rate) - rate) * d)
		if d == holds {
			f.settle()
		}
	}
	part := sent - math.Floor(sent)
	f.paced.add(part)
	f.funded.add(part)
	return math.Floor(sent), seconds
}

// rate is the present rate, and how many seconds it holds: a bucket that still
// has tokens does not bind until they are used up.
func (f *flow) rate() (rate, seconds float64) {
	paced, funded := float64(f.paced.limit.Rate), float64(f.funded.limit.Rate)
	switch {
	case f.paced.tokens > 0 && funded > paced:
		return funded, f.paced.tokens / (funded - paced)
	case f.funded.tokens > 0 && paced > funded:
		return paced, f.funded.tokens / (paced - funded)
	default:
		return min(paced, funded), math.Inf(1)
	}
}

// settle empties the bucket that ran out, which rounding may have left with a rest.
func (f *flow) settle() {
	if f.paced.limit.Rate < f.funded.limit.Rate {
		f.paced.tokens = 0
	} else {
		f.funded.tokens = 0
	}
}

// turn goes on at another rate.
func (f *flow) turn(rate limiter.Rate) {
	if f.paced.limit.Rate != rate {
		f.paced.limit = pace(rate, f.batch)
		f.paced.add(0)
	}
}

// enter begins a window with another rate.
func (f *flow) enter(rate limiter.Rate) {
	f.paced, f.single = level{tokens: 1, limit: pace(rate, f.batch)}, counted
	switch rate {
	case limiter.Unlimited:
		f.paced.tokens = math.Inf(1)
	case 0:
		f.paced.tokens = 0
	}
}
