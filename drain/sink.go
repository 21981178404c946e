package drain

import (
	"context"
	"time"

	"forebay/buffer"
)

// Sink is what a drain delivers to: single messages, unless it says what a [Batch] is.
type Sink interface {
	// Deliver makes one attempt at delivering msgs and returns one outcome per
	// message, in the same order. It blocks until the attempt has ended, bounds
	// it in time by itself, and ends it soon after ctx is done. It must be safe
	// for concurrent use, and may be called again with the same messages, after
	// a success too if that was not recorded. The messages belong to the buffer:
	// Deliver neither changes them nor keeps them after it has returned. Failures
	// are outcomes. Before it writes, with a connection in hand, it calls Begin, so
	// that a slow connect does not bunch attempts. Deliver never panics for anything that a sink answers.
	Deliver(ctx context.Context, msgs []Delivery) []Outcome
}

// Delivery is a message with the id that its sink knows it by.
type Delivery struct {
	buffer.Delivery
	ID string // empty for a [Collector], which has the offset
}

// Outcome is how an attempt went for one message.
type Outcome struct {
	Class Class
	// Status is the HTTP status that was answered, or what comes closest to
	// one; 0 where there was no answer.
	Status int
	// Unsent says that Begin did not let the attempt be written: there was none.
	Unsent bool
	// Error is a short category and a detail, without secrets; empty on success.
	Error string
	// Answer is what the sink said, for a message that keeps it; nil otherwise.
	Answer *buffer.Answer
	// CancelKeys asks that what waits of these cancel keys be cancelled; it is
	// honoured where the policy says that the sink may.
	CancelKeys []string
	// RetryAfter asks that nothing be sent to the sink for so long; 0 asks nothing.
	RetryAfter time.Duration
	// Advice is what else the answer says of how much the sink takes; for every class.
	Advice []Advice
}

// Class says what follows from an outcome. The zero value is Retry, so that an
// outcome nobody filled in loses nothing.
type Class uint8

// The classes. They are a closed set: each is a label value of
// forebay_drain_attempts_total.
const (
	Retry     Class = iota // try again later
	Success                // done
	Permanent              // never try again
	Timeout                // no answer in time; try again later

	classes = 4
)

// String returns the label value.
func (c Class) String() string {
	switch c {
	case Success:
		return "success"
	case Permanent:
		return "permanent"
	case Timeout:
		return "timeout"
	default:
		return "retry"
	}
}

// cutOff reports whether there was no attempt, or one that the stop ended: that says
// nothing of sink or message.
func (o Outcome) cutOff(stopped bool) bool { return o.Unsent || stopped && o.Class != Success }

// aboutMessage reports whether a failure says something of the message. All
// else says that the sink is in trouble: that is no reason to give up a message.
func (o Outcome) aboutMessage() bool {
	switch o.Status {
	case 0, 429, 502, 503, 504:
		return false
	default:
		return o.Class != Timeout
	}
}

// sinkFailed reports whether an outcome says that the sink is in trouble.
func (o Outcome) sinkFailed() bool {
	return (o.Class == Retry || o.Class == Timeout) && !o.aboutMessage()
}
