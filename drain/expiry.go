package drain

import (
	"time"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

// expiry is when the messages of a drain end for having waited too long. The
// zero value is never.
type expiry struct {
	after time.Duration // from acceptance
	limit buffer.Reason // which one that is
	dead  bool          // they are dead of it; else they expire
}

// why is what messages are dead of; empty: they expire.
func (e expiry) why() buffer.Reason {
	if e.dead {
		return e.limit
	}
	return ""
}

// expiryOf is what comes first: the drain's deadline, unless what is late is to
// be delivered all the same, or the stream's retention.
func expiryOf(s policies.Stream, d policies.Deadline) expiry {
	var e expiry
	if s.Retention > 0 {
		e = expiry{s.Retention, buffer.ReasonRetention, s.OnRetention != policies.EndExpire}
	}
	if d.MaxDelay <= 0 || d.OnExpire == policies.EndDeliver || e.after > 0 && e.after < d.MaxDelay {
		return e
	}
	return expiry{d.MaxDelay, buffer.ReasonDeadline, d.OnExpire != policies.EndExpire}
}

// own is what becomes of what is late by a deadline of its own; false: it is delivered
// all the same.
func own(d policies.Deadline) (why buffer.Reason, ends bool) {
	switch d.OnExpire {
	case policies.EndDeliver:
		return "", false
	case policies.EndExpire:
		return "", true
	default:
		return buffer.ReasonDeadline, true
	}
}

// past reports whether a message that was accepted at a time has waited too long.
func (e expiry) past(now, accepted time.Time) bool {
	return e.after > 0 && !now.Before(accepted.Add(e.after))
}

// next is when to look again if the oldest message was accepted at a time; zero
// is none: what comes later expires later.
func (e expiry) next(now, oldest time.Time) time.Time {
	if oldest.IsZero() {
		oldest = now
	}
	return oldest.Add(e.after)
}

// lateness is from which age on messages are nearly late, and what they leave at then.
// The zero value is never.
type lateness struct {
	age  time.Duration
	rate limiter.Rate
}

func latenessOf(d policies.Deadline) lateness {
	if d.UrgentBefore <= 0 || d.UrgentRate == 0 {
		return lateness{}
	}
	return lateness{d.MaxDelay - d.UrgentBefore, d.UrgentRate}
}

// of is the urgency of a message that was accepted at a time.
func (l lateness) of(accepted time.Time) urgency {
	if l.rate == 0 || accepted.IsZero() {
		return urgency{}
	}
	return urgency{l.rate, accepted.Add(l.age)}
}

const (
	// maxStep is how far the wall clock may be set forward without doubt.
	maxStep = 10 * time.Minute
	// doubt is how long nothing expires after it was set further.
	doubt = 10 * time.Minute
)

// stepwatch compares the wall clock with the time that has really passed. It is
// pure. A machine that slept shows the same way as a clock that was set.
type stepwatch struct {
	began   bool
	wall    time.Time
	elapsed time.Duration
	until   time.Duration // elapsed time before which nothing expires
}

// look takes note of both and returns the step that raises doubt, 0 if none does.
func (w *stepwatch) look(wall time.Time, elapsed time.Duration) time.Duration {
	step := wall.Sub(w.wall) - (elapsed - w.elapsed)
	if !w.began {
		step = 0
	}
	w.began, w.wall, w.elapsed = true, wall, elapsed
	if step <= maxStep {
		return 0
	}
	w.until = elapsed + doubt
	return step
}

// trusts reports whether what the wall clock says may end messages.
func (w *stepwatch) trusts(elapsed time.Duration) bool { return elapsed >= w.until }
