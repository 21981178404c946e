package drain

import (
	"fmt"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// minPause is the shortest pause that a sink can ask for.
const minPause = time.Second

// attempt is one that has ended.
type attempt struct {
	before     buffer.Tries // what was remembered when it began
	began, now time.Time
	wrote      time.Time // when it was written: began, where it is not known
	outcome    Outcome
}

// tries is what is to be remembered after it.
func (a attempt) tries() buffer.Tries {
	t := a.before
	t.Attempts++
	if a.outcome.aboutMessage() {
		t.Answers++
	}
	if t.FirstAt.IsZero() {
		t.FirstAt = a.began
	}
	return t
}

// result is how it went, for a message that it ended.
func (a attempt) result() buffer.Result {
	t := a.tries()
	return buffer.Result{
		At: a.now, FirstAt: t.FirstAt, Attempts: t.Attempts,
		Status: a.outcome.Status, Error: a.outcome.Error, Answer: a.outcome.Answer,
	}
}

// buried says whether a failed attempt was the message's last, and why. Only
// an answer about the message buries it. What the sink's own trouble took of
// max_age is given back once: the first answer never buries for age.
func (a attempt) buried(p policies.Retry) (buffer.Reason, bool) {
	if a.outcome.Class == Permanent {
		return buffer.ReasonPermanent, true
	}
	if !a.outcome.aboutMessage() {
		return "", false
	}
	t := a.tries()
	if p.MaxAttempts > 0 && t.Answers >= p.MaxAttempts {
		return buffer.ReasonMaxAttempts, true
	}
	if p.MaxAge > 0 && t.Answers > 1 && a.now.Sub(t.FirstAt) >= p.MaxAge {
		return buffer.ReasonMaxAge, true
	}
	return "", false
}

// due is when the next attempt may start: full jitter over an exponential
// wait, and not before the end of a pause that the sink asked for.
func (a attempt) due(p policies.Retry, random func(n int64) int64) time.Time {
	wait := backoff(p, a.before.Attempts+1)
	if wait > 0 {
		wait = time.Duration(random(int64(wait) + 1))
	}
	return a.now.Add(max(wait, a.pause(p)))
}

// pause is how long the sink asked to be left alone, within what is honoured;
// 0 when it did not ask.
func (a attempt) pause(p policies.Retry) time.Duration {
	if a.outcome.RetryAfter <= 0 {
		return 0
	}
	return max(minPause, min(a.outcome.RetryAfter, p.HonourRetryAfter))
}

// asked is a pause that a sink asked for, and what is honoured of it.
type asked struct {
	wanted, honoured time.Duration
	by               string // the field; empty: Retry-After
	rests            string // why, where nobody asked; empty: the sink did
}

// name is the constraint that it is.
func (a asked) name() Constraint {
	if a.by == QuotaField {
		return RateHeader
	}
	return RetryAfter
}

// result is what became of it.
func (a asked) result() AdviceResult {
	if a.wanted != a.honoured {
		return AdviceClamped
	}
	return AdviceTaken
}

// String explains a pause to an operator.
func (a asked) String() string {
	if a.rests != "" {
		return fmt.Sprintf("nothing is sent for %s: %s", a.honoured, a.rests)
	}
	who := "the sink asked for"
	if a.by == QuotaField {
		who = "the sink's RateLimit has nothing left for"
	}
	switch {
	case a.wanted > a.honoured:
		return fmt.Sprintf("%s %s; honour_retry_after clamps that to %s", who, a.wanted, a.honoured)
	case a.wanted < a.honoured:
		return fmt.Sprintf("%s less than the least pause, %s", who, a.honoured)
	default:
		return fmt.Sprintf("%s %s", who, a.wanted)
	}
}

// backoff is the longest wait after the nth attempt: min(Max, Initial × 2^(n−1)).
func backoff(p policies.Retry, n int) time.Duration {
	wait := max(0, p.Initial)
	for range n - 1 {
		if wait == 0 {
			break
		}
		if wait > p.Max/2 {
			return p.Max // before doubling can overflow, whatever n is
		}
		wait *= 2
	}
	return min(wait, p.Max)
}

// allowance is a retry budget: of the attempts that start while first attempts
// wait, at most a share are retries, whatever has piled up. It is pure, and not
// safe for concurrent use.
type allowance struct{ credit float64 }

// of is how many of n attempts may be retries while there are first ones.
func (a *allowance) of(n int, share float64) int {
	return int(min(a.credit+share*float64(n), float64(n)) + rounding)
}

// rounding keeps ten tenths from being less than one.
const rounding = 1e-9

// spent takes note of the attempts that started. Retries in the place of first
// attempts that were not there cost nothing. What is not used is kept for one
// retry alone, so that it does not pile up to a burst.
func (a *allowance) spent(retries, firsts int, share float64) {
	a.credit += share*float64(retries+firsts) - float64(retries)
	a.credit = min(max(a.credit, 0), 1)
}
