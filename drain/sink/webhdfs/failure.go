package webhdfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
	"unicode"
)

const (
	// firstWait and lastWait bound how long a sink rests after a failure: twice as long
	// each time.
	firstWait, lastWait = time.Second, 30 * time.Second
	// deniedWait is how long it rests after one that somebody has to mend.
	deniedWait = time.Minute
	// patience is how often in a row a DataNode may be out of reach before the file that
	// lies there is given up: about half a minute.
	patience = 6
	// maxDetail bounds what is kept of an exception's message.
	maxDetail = 256
)

// failure is why an operation did not succeed.
type failure struct {
	name    string // of the exception, or a category of our own
	detail  string
	status  int
	data    bool // of a DataNode, not of a NameNode
	unsent  bool // there was no connection
	written bool // the DataNode may have had some of it
}

// Error implements error.
func (f *failure) Error() string {
	if f.detail == "" {
		return f.name
	}
	return f.name + ": " + f.detail
}

func isName(err error, name string) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.name == name
}

// refusal reads a RemoteException.
func refusal(status int, answer []byte, host string) error {
	var said struct {
		RemoteException struct{ Exception, Message string }
	}
	if json.Unmarshal(answer, &said) != nil || said.RemoteException.Exception == "" {
		return &failure{name: fmt.Sprintf("status %d", status), detail: host, status: status}
	}
	detail, _, _ := strings.Cut(said.RemoteException.Message, "\n") // a stack trace follows
	return &failure{name: printable(said.RemoteException.Exception), detail: printable(detail), status: status}
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "") + "…"
	}
	return s
}

// unanswered says why there is no answer.
func unanswered(err error, host string) error {
	f := &failure{name: "unreachable", detail: host}
	var timeout net.Error
	dial, ok := errors.AsType[*net.OpError](err)
	f.unsent = ok && dial.Op == "dial"
	switch {
	case errors.Is(err, context.Canceled):
		f.name = "abandoned"
	case errors.Is(err, syscall.ECONNREFUSED):
		f.name = "connection refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		f.name = "timeout"
	}
	return f
}

// elsewhere reports whether another NameNode is to be asked: this one is not there, hangs
// or stands by. What a DataNode did is not for another NameNode.
func elsewhere(err error) bool {
	f, ok := errors.AsType[*failure](err)
	if !ok || f.data {
		return false
	}
	switch f.name {
	case "StandbyException", "RetriableException", "connection refused", "unreachable", "timeout", "status 502", "status 503", "status 504":
		return true
	default:
		return false
	}
}

// denied reports whether somebody has to mend what an operation failed for: rights,
// quotas, a path that cannot be, a host that is not listed.
func denied(err error) bool {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		return false
	}
	switch f.name {
	case "AccessControlException", "SecurityException", "AuthorizationException", "QuotaExceededException", "NSQuotaExceededException",
		"DSQuotaExceededException", "QuotaByStorageTypeExceededException", "ParentNotDirectoryException", "InvalidPathException",
		"IllegalArgumentException", "UnsupportedOperationException", "refused host", "status 401":
		return true
	default:
		return false
	}
}

// hopeless reports whether a file cannot be added to any more: somebody removed it, or
// where its last block lies nobody has answered for many times.
func hopeless(err error, failures int) bool {
	f, ok := errors.AsType[*failure](err)
	switch {
	case !ok || denied(err) || f.name == "SafeModeException":
		return false
	case f.name == "FileNotFoundException":
		return true
	default:
		return failures >= patience && (f.data || f.status != 0 && !elsewhere(err))
	}
}
