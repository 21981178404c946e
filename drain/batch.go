package drain

import (
	"time"

	"forebay/buffer"
	"forebay/limiter"
)

// Batch is what a sink takes in one attempt: the zero value is one message. A
// [Sink] that takes more has a method Batch() Batch, whose answer never changes, and
// is called with as many messages as are due, up to that. A batch needs one slot,
// and as many tokens as it has messages.
type Batch struct {
	Messages int   // at most
	Bytes    int64 // of bodies at most, unless one alone has more; 0: no bound
	// Wait is how long a message that may leave waits for others to leave with. 0:
	// it leaves with those that are there. Otherwise burst has to be a batch.
	Wait time.Duration

	serial bool // one after the other: of a Collector
}

func batchOf(s Sink) (batch Batch) {
	if b, ok := s.(interface{ Batch() Batch }); ok {
		batch = b.Batch()
	}
	_, batch.serial = s.(Collector)
	return batch
}

// size is the most messages of one.
func (b Batch) size() int { return max(1, b.Messages) }

// burst is what has to be there at once for a whole one to leave.
func (b Batch) burst() int {
	if b.Wait == 0 {
		return 1
	}
	return b.size()
}

// most is how many messages one take asks for: whole batches.
func (b Batch) most() int {
	n := b.size()
	if b.serial {
		return n
	}
	return max(n, maxTake/n*n)
}

// split parts messages into batches, no more than most of them, and returns what was
// left over: what may gather is, but for the first batch where all that there is may go.
func (b Batch) split(ds []buffer.Delivery, most int, all bool, each func([]buffer.Delivery)) (rest []buffer.Delivery) {
	for i := 0; i < most && len(ds) > 0; i++ {
		n := b.first(ds)
		if (i > 0 || !all) && b.Wait > 0 && n == len(ds) && n < b.size() {
			break
		}
		each(ds[:n])
		ds = ds[n:]
	}
	return ds
}

// first is how many messages are the first batch.
func (b Batch) first(ds []buffer.Delivery) int {
	n, bytes := 1, int64(len(ds[0].Body))
	for n < min(len(ds), b.size()) {
		if bytes += int64(len(ds[n].Body)); b.Bytes > 0 && bytes > b.Bytes {
			break
		}
		n++
	}
	return n
}

// gather reports whether messages wait for others to leave with, and until when: there
// are tokens and messages for some, but not for a whole batch. Those that are ripe have
// waited, and leave however few they are.
func (c *core) gather(now time.Time, want int, o outlook) (until time.Time, waits, ripe bool) {
	if c.batch.Wait == 0 || o.breaker == BreakerHalfOpen {
		return time.Time{}, false, true
	}
	at := c.accountable(now)
	full := c.batch.size()
	if limit := c.budget.Limit(); limit.Rate != limiter.Unlimited {
		full = min(full, limit.Burst)
	}
	some := min(tokens(c.paced(), now, full), c.fundedNow(at, full, o.leave), want)
	if some < 1 || some >= full {
		c.gathers = time.Time{}
		return time.Time{}, false, full < c.batch.size()
	}
	if c.gathers.IsZero() || now.Before(c.gathers) {
		c.gathers = now
	}
	if until = c.gathers.Add(c.batch.Wait); !now.Before(until) {
		c.gathers = time.Time{}
		return time.Time{}, false, true
	}
	return until, true, false
}

// gathering is when to look again at what gathers: when there are the tokens for a whole
// batch, or else at the end of its wait. More messages are heard of apart.
func (c *core) gathering(now, funded, until time.Time) time.Time {
	if !funded.After(now) {
		c.due = time.Time{}
		return until
	}
	return sooner(funded, until)
}

// fundedNow is how many tokens the budget has beside what is left to others, at most n.
func (c *core) fundedNow(at time.Time, n int, leave leave) int {
	level := c.budget.Level(at)
	if !leave.nothing() {
		level -= leave.of(at, level)
	}
	return int(max(0, min(level+unresolved, float64(n))))
}

// together is what the outcomes of an attempt's messages say of the sink: it failed if
// it did for all of them. False: they were all cut off.
func together(outcomes []Outcome, stopped bool) (said Outcome, any bool) {
	var pause time.Duration
	var advice []Advice
	var cancel []string
	for _, o := range outcomes {
		if o.cutOff(stopped) {
			continue
		}
		if !any || said.sinkFailed() && !o.sinkFailed() {
			said, any = o, true
		}
		pause = max(pause, o.RetryAfter)
		if advice == nil {
			advice = o.Advice
		}
		cancel = append(cancel, o.CancelKeys...)
	}
	said.RetryAfter, said.Advice, said.CancelKeys = pause, advice, cancel
	return said, any
}
