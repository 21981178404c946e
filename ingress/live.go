package ingress

import (
	"context"
	"net/http"
	"time"
)

// Live is the way to the sinks for requests whose callers wait for the answer.
// It is safe for concurrent use.
type Live interface {
	// Enter takes a token and a slot of a sink's budget for one request. Where
	// the budget has none, it waits for at most wait, behind those who came before.
	// size is that of the request's body; below 0: it is not known. The stream is that
	// of the route, in which the sink may ask to cancel what waits; empty: none.
	// It returns a [*Refusal] where the request may not be sent, and ctx's error
	// when that ended first.
	Enter(ctx context.Context, sink, stream string, size int64, wait time.Duration) (Turn, error)
}

// Turn is the leave to send one request.
type Turn interface {
	// RoundTrip sends the request, once. An error is a [*Failure], or no failure
	// of the sink's. It does not close the request's body.
	http.RoundTripper
	// End has to be called once the answer is done with, and whatever happened.
	End()
}

// Shortage is what keeps a live request from being sent.
type Shortage uint8

// The shortages.
const (
	NoBudget      Shortage = iota // the sink's rate or slots are in use
	SinkPaused                    // by an operator
	SinkUnhealthy                 // its breaker lets nothing through
)

// Refusal says why a live request may not be sent now. It is an error.
type Refusal struct {
	Of     Shortage
	Until  time.Time // when that may be over; zero: not known
	Waited bool      // for that, in vain
}

// Error implements error.
func (r *Refusal) Error() string { return "the sink takes no live request now" }

// Failure is why a live request has no answer. It is an error.
type Failure struct {
	Word    string // of RFC 9209, section 2.3
	Held    bool   // the sink's rate did not allow it to be written in time
	Caller  bool   // the request's body came too slowly
	Unsent  bool   // nothing of it was written
	Timeout bool
	NoToken bool // none could be had that the sink asks for
	Err     error
}

// Error implements error.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }
