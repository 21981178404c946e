package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
)

// Failure says why a request has no answer. The set is closed.
type Failure string

// Answered is no failure, whatever the status.
const (
	Answered    Failure = ""
	Refused     Failure = "refused"     // the target's port is closed
	Connect     Failure = "connect"     // no connection for another reason: name, route, certificate
	Timeout     Failure = "timeout"     // no whole answer in time
	Closed      Failure = "closed"      // the connection ended before the answer did
	Malformed   Failure = "malformed"   // what came is not HTTP/1.1
	Unsent      Failure = "unsent"      // no connection became free until the end of the run
	Interrupted Failure = "interrupted" // under way when the run was broken off
)

// waitedFor tells whether the time until the failure is time that a caller waited
// for an answer, and so belongs to the latencies: it would have been longer.
func (f Failure) waitedFor() bool { return f == Timeout || f == Unsent || f == Interrupted }

func dialFailure(ctx context.Context, err error) Failure {
	switch {
	case ctx.Err() != nil:
		return Interrupted
	case timedOut(err):
		return Timeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	}
	return Connect
}

func exchangeFailure(ctx context.Context, err error) Failure {
	switch {
	case ctx.Err() != nil:
		return Interrupted
	case timedOut(err):
		return Timeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return Closed
	}
	return Malformed
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
