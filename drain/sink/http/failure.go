package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"

	"forebay/drain"
)

const timedOut = "timeout"

// failure says what an attempt without a whole answer means. status is what the
// answer began with, or 0. It is told, but not as the outcome's status: an
// answer that was cut off says nothing of the message that can be relied on.
func failure(err error, host string, status int) drain.Outcome {
	if unusable(err) {
		return drain.Outcome{Class: drain.Permanent, Error: "unusable request: " + err.Error()}
	}
	name := category(err)
	out := drain.Outcome{Class: drain.Retry, Error: name + ": " + host}
	if status != 0 {
		out.Error = fmt.Sprintf("%s: in the answer of %s, status %d", name, host, status)
	}
	if name == timedOut {
		out.Class = drain.Timeout
	}
	return out
}

// unusable reports whether the transport refused the request itself: it would
// refuse it every time.
func unusable(err error) bool {
	_, ours := errors.AsType[unusableError](err)
	return ours || strings.HasPrefix(err.Error(), "net/http: invalid header field")
}

// category is a short name for an error, from a closed set. What the peer sent
// is never part of it.
func category(err error) string {
	var address *addressError
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &address):
		return "refused address"
	case errors.Is(err, context.Canceled):
		return "abandoned"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return timedOut
	case errors.As(err, &dns):
		return "unresolved host"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		strings.Contains(err.Error(), "server closed idle connection"): // not exported
		return "connection reset"
	case ofTLS(err):
		return "tls"
	case dialling(err):
		return "unreachable"
	default:
		return "malformed answer"
	}
}

func ofTLS(err error) bool {
	var (
		alert     tls.AlertError
		record    tls.RecordHeaderError
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
	)
	return errors.As(err, &alert) || errors.As(err, &record) || errors.As(err, &verify) || errors.As(err, &authority) ||
		strings.HasPrefix(err.Error(), "remote error: tls:") || strings.HasPrefix(err.Error(), "tls:")
}

func dialling(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// unreachable reports whether an attempt failed before anything was sent.
func unreachable(err error) bool {
	var address *addressError
	return dialling(err) || ofTLS(err) || errors.As(err, &address)
}

// clean is an error's text without what url.Error quotes, which holds queries.
func clean(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Op + ": " + u.Err.Error()
	}
	return err.Error()
}
