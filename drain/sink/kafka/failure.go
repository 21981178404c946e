package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"

	"forebay/drain"
)

// The statuses of records that brokers refuse, as HTTP would have them.
const (
	statusInvalid  = 400
	statusNoTopic  = 404
	statusTooLarge = 413
)

// outcome says what became of a record. What is not about the record itself is the
// sink's trouble.
func outcome(err error, topic string) drain.Outcome {
	switch {
	case err == nil:
		return drain.Outcome{Class: drain.Success}
	case tooLarge(err):
		return drain.Outcome{Class: drain.Permanent, Status: statusTooLarge, Error: "record too large: " + err.Error()}
	case invalid(err):
		return drain.Outcome{Class: drain.Permanent, Status: statusInvalid, Error: "record refused: " + err.Error()}
	case isAny(err, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InvalidTopicException):
		return drain.Outcome{Class: drain.Retry, Status: statusNoTopic, Error: fmt.Sprintf("no topic %s: %v", topic, err)}
	case errors.Is(err, context.DeadlineExceeded), timedOut(err):
		return drain.Outcome{Class: drain.Timeout, Error: "timeout: " + err.Error()}
	default:
		return drain.Outcome{Class: drain.Retry, Error: category(err) + ": " + err.Error()}
	}
}

// ofBatch reports whether an error may be about another record of the same batch.
func ofBatch(err error) bool { return tooLarge(err) || invalid(err) }

func tooLarge(err error) bool { return isAny(err, kerr.MessageTooLarge, kerr.RecordListTooLarge) }

func invalid(err error) bool {
	return isAny(err, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedForMessageFormat)
}

// category is a short name for the sink's trouble.
func category(err error) string {
	var op *net.OpError
	switch {
	case isAny(err, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed, kerr.GroupAuthorizationFailed):
		return "not authorized"
	case isAny(err, kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState):
		return "not authenticated"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case isAny(err, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE):
		return "connection reset"
	case isAny(err, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend):
		return "too few replicas"
	case errors.Is(err, context.Canceled):
		return "abandoned"
	case errors.As(err, &op):
		return "unreachable"
	default:
		return "kafka"
	}
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func isAny(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
