package ingress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"forebay/buffer"
	"forebay/ingress/http1"
	"forebay/policies"
)

// This file alone knows which failure is which status.

const (
	problemPrefix   = "urn:forebay:problem:"
	problemCapacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
	problemExceeded = "https://iana.org/assignments/http-problem-types#quota-exceeded"

	// statusClientClosed is counted, never sent: the caller left first.
	statusClientClosed = 499
)

// The reasons of a 503 that this package can give.
const (
	reasonBufferFull   = "buffer-full"
	reasonDiskFull     = "disk-full"
	reasonOverloaded   = "overloaded"
	reasonDeadFull     = "dead-letters-full"
	reasonStreamClosed = "stream-closed"
	reasonShuttingDown = "shutting-down"
	reasonSinkBudget   = "sink-budget"
	reasonSinkPaused   = "sink-paused"
	reasonBreakerOpen  = "breaker-open"
	reasonHoldFull     = "hold-full"
	reasonHoldTimeout  = "hold-timeout"
	reasonInfeasible   = "deadline-infeasible"
)

// reasons are those that a route of a mode can give.
func reasons(mode policies.Mode) []string {
	buffer := []string{reasonBufferFull, reasonDiskFull, reasonOverloaded, reasonDeadFull, reasonStreamClosed, reasonShuttingDown, reasonInfeasible}
	pass := []string{reasonSinkBudget, reasonSinkPaused, reasonBreakerOpen, reasonShuttingDown}
	hold := append(slices.Clone(pass), reasonHoldFull, reasonHoldTimeout)
	switch mode {
	case policies.ModePass:
		return pass
	case policies.ModeHold:
		return hold
	case policies.ModeOverflow:
		return append(buffer, hold...)
	default:
		return buffer
	}
}

// problem is an error that says what to tell the caller.
type problem struct {
	kind       string // URI
	title      string // of the kind
	status     int
	detail     string   // of the occurrence
	reason     string   // of a 503
	retryAfter int      // seconds, before jitter; 0: no retry helps
	allow      []string // of a 405
	challenges []string // of a 401
	accept     string   // of a 415: the encodings that are taken
	line       int      // of a bad-line
	violated   []string // of a 429: the limits
	closes     bool     // what is left of the body is not worth reading
	proxy      string   // of live traffic: what RFC 9209, section 2.3, calls it
}

// Error implements error.
func (p *problem) Error() string { return p.title + ": " + p.detail }

// problemDocument is a problem as RFC 9457 writes it.
type problemDocument struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail"`
	Instance   string `json:"instance"`
	RequestID  string `json:"request_id"`
	RetryAfter int    `json:"retry_after_seconds,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Line       int    `json:"line,omitempty"`

	Violated []string `json:"violated-policies,omitempty"`
}

func problemBadRequest(detail string) *problem {
	return &problem{kind: problemPrefix + "bad-request", title: "Bad request", status: http.StatusBadRequest, detail: detail}
}

// problemBadLine is for part n of a body that is split; unit says what a part is.
func problemBadLine(unit string, n int, fault string) *problem {
	return &problem{
		kind: problemPrefix + "bad-line", title: "Bad line", status: http.StatusBadRequest,
		detail: fmt.Sprintf("%s %d %s; nothing of the body was stored", unit, n, fault), line: n,
	}
}

func problemIdempotencyKeyMissing(field string) *problem {
	return &problem{
		kind: problemPrefix + "idempotency-key-missing", title: "Idempotency key missing", status: http.StatusBadRequest,
		detail: "this route requires the header field " + field,
	}
}

func problemIdempotencyMismatch() *problem {
	return &problem{
		kind: problemPrefix + "idempotency-mismatch", title: "Idempotency mismatch", status: http.StatusUnprocessableEntity,
		detail: "the idempotency key was used for another request",
	}
}

func problemIdempotencyInProgress() *problem {
	return &problem{
		kind: problemPrefix + "idempotency-in-progress", title: "Idempotency in progress", status: http.StatusConflict,
		detail: "the first request with this idempotency key is still under way", retryAfter: 1,
	}
}

func problemUnsupportedEncoding(what string) *problem {
	return &problem{
		kind: problemPrefix + "unsupported-encoding", title: "Unsupported encoding", status: http.StatusUnsupportedMediaType,
		detail: what + " is not supported here", accept: "gzip, zstd, deflate",
	}
}

func problemURITooLong() *problem {
	return &problem{
		kind: problemPrefix + "uri-too-long", title: "URI too long", status: http.StatusRequestURITooLong,
		detail: fmt.Sprintf("path and query are over %d bytes", maxTarget),
	}
}

func problemHeadersTooLarge(detail string) *problem {
	return &problem{
		kind: problemPrefix + "headers-too-large", title: "Headers too large", status: http.StatusRequestHeaderFieldsTooLarge,
		detail: detail,
	}
}

// problemOfFault is for what is no request that a route could see.
func problemOfFault(f *http1.Fault) *problem {
	switch f.Status {
	case http.StatusRequestURITooLong:
		return problemURITooLong()
	case http.StatusRequestHeaderFieldsTooLarge:
		return problemHeadersTooLarge(f.Detail)
	}
	return problemBadRequest(f.Detail)
}

// problemUnauthenticated is for a caller without a known key in one of the header fields.
func problemUnauthenticated(fields []string) *problem {
	p := &problem{
		kind: problemPrefix + "unauthenticated", title: "Unauthenticated", status: http.StatusUnauthorized,
		detail: "this route needs a known key in " + strings.Join(fields, " or "),
	}
	for _, field := range fields {
		p.challenges = append(p.challenges, challenge(field))
	}
	return p
}

func problemForbidden() *problem {
	return &problem{
		kind: problemPrefix + "forbidden", title: "Forbidden", status: http.StatusForbidden,
		detail: "the key is known, and not for this route",
	}
}

func problemNoRoute() *problem {
	return &problem{
		kind: problemPrefix + "no-route", title: "No route", status: http.StatusNotFound,
		detail: "no route of the policy matches this host and path",
	}
}

func problemMethodNotAllowed(allow []string) *problem {
	return &problem{
		kind: problemPrefix + "method-not-allowed", title: "Method not allowed", status: http.StatusMethodNotAllowed,
		detail: "allowed here: " + strings.Join(allow, ", "), allow: allow,
	}
}

func problemTooLarge(limit int64) *problem {
	return &problem{
		kind: problemPrefix + "too-large", title: "Too large", status: http.StatusRequestEntityTooLarge,
		detail: fmt.Sprintf("the body is over %d bytes", limit), closes: true,
	}
}

// problemInflatesTooLarge is for a body that was read whole; ratio says that it is too
// much for what was sent.
func problemInflatesTooLarge(limit int64, ratio bool) *problem {
	p := problemTooLarge(limit)
	p.detail, p.closes = fmt.Sprintf("the body inflates to over %d bytes", limit), false
	if ratio {
		p.detail += fmt.Sprintf(", which is over 4 MiB and over %d times what was sent", maxRatio)
	}
	return p
}

func problemBatchTooLarge() *problem {
	p := problemTooLarge(0)
	p.detail, p.closes = "the body holds more messages than can be stored at once", false
	return p
}

// problemSink is for a sink that gave no answer.
func problemSink(f *Failure) *problem {
	p := &problem{
		kind: problemPrefix + "sink-unreachable", title: "Sink unreachable", status: http.StatusBadGateway,
		detail: "the service behind this route could not be reached, or broke off", proxy: f.Word,
	}
	switch {
	case f.Held:
		p = problemUnavailable(reasonSinkBudget)
	case f.Caller:
		p = problemBodyLate()
	case f.NoToken:
		p.detail = "the service behind this route asks for an access token, and none could be had"
	case f.Timeout:
		p.kind, p.title, p.status = problemPrefix+"sink-timeout", "Sink timeout", http.StatusGatewayTimeout
		p.detail = "the service behind this route did not answer in time"
	}
	return p
}

func problemBodyLate() *problem {
	p := problemBadRequest("the body did not arrive in time")
	p.closes = true
	return p
}

func problemLoop() *problem {
	return &problem{
		kind: problemPrefix + "loop-detected", title: "Loop detected", status: http.StatusLoopDetected,
		detail: fmt.Sprintf("the request has come by here %d times already, says its Via", maxHops), proxy: "proxy_loop_detected",
	}
}

func problemNoReceipt() *problem {
	return &problem{
		kind: problemPrefix + "no-receipt", title: "No such receipt", status: http.StatusNotFound,
		detail: "no message with this id was accepted here",
	}
}

func problemReceiptGone() *problem {
	return &problem{
		kind: problemPrefix + "receipt-gone", title: "Receipt gone", status: http.StatusGone,
		detail: "the message was finished longer ago than receipts are kept",
	}
}

func problemNotCancellable(detail string) *problem {
	return &problem{
		kind: problemPrefix + "not-cancellable", title: "Not cancellable", status: http.StatusConflict,
		detail: detail,
	}
}

func problemInternal() *problem {
	return &problem{
		kind: problemPrefix + "internal", title: "Internal error", status: http.StatusInternalServerError,
		detail: "whether the request was carried out is not known; the log has the cause under request_id",
	}
}

// problemQuota is for a caller who has used up what limits allow; wait is in
// seconds, 0 where it does not help.
func problemQuota(limits []string, wait int) *problem {
	return &problem{
		kind: problemExceeded, title: "Quota exceeded", status: http.StatusTooManyRequests,
		detail: "this caller has used up what is allowed by: " + strings.Join(limits, ", "), retryAfter: wait, violated: limits,
	}
}

// problemUnavailable is for our own lack of capacity. It comes with the
// shortest wait that makes sense for its reason.
func problemUnavailable(reason string) *problem {
	p := &problem{
		kind: problemCapacity, title: "Temporarily reduced capacity", status: http.StatusServiceUnavailable,
		reason: reason, retryAfter: 1,
	}
	switch reason {
	case reasonBufferFull:
		p.detail = "the stream has reached its size limit"
	case reasonDiskFull:
		p.detail = "no disk space is left for new messages"
	case reasonOverloaded:
		p.detail = "the memory for requests in flight is in use"
	case reasonDeadFull:
		p.detail, p.retryAfter = "the stream's dead letters have reached their size limit", 60
	case reasonStreamClosed:
		p.detail, p.retryAfter = "the stream is closed to new messages", 60
	case reasonSinkBudget:
		p.detail, p.proxy = "the service behind this route takes no more at the moment", proxyLimited
	case reasonSinkPaused:
		p.detail, p.retryAfter, p.proxy = "the service behind this route is closed for the moment", 60, proxyAbsent
	case reasonBreakerOpen:
		p.detail, p.proxy = "the service behind this route fails, and is left alone for a while", proxyAbsent
	case reasonHoldFull:
		p.detail, p.proxy = "too many requests wait for the service behind this route", proxyLimited
	case reasonHoldTimeout:
		p.detail, p.proxy = "the request's turn did not come in time", proxyLimited
	case reasonShuttingDown:
		p.detail, p.retryAfter, p.closes = "this server is shutting down", 5, true
	}
	return p
}

// What RFC 9209, section 2.3, has for a sink that is not asked.
const (
	proxyLimited = "connection_limit_reached"
	proxyAbsent  = "destination_unavailable"
)

// problemRefusal is for a request that its sink is not asked about.
func problemRefusal(r *Refusal, now time.Time) *problem {
	reason := reasonSinkBudget
	switch {
	case r.Of == SinkPaused:
		reason = reasonSinkPaused
	case r.Of == SinkUnhealthy:
		reason = reasonBreakerOpen
	case r.Waited:
		reason = reasonHoldTimeout
	}
	p := problemUnavailable(reason)
	p.retryUntil(r.Until, now)
	return p
}

// problemHoldFull is for a request that would be refused, and cannot wait either.
func problemHoldFull(r *Refusal, now time.Time) *problem {
	if r.Of != NoBudget {
		return problemRefusal(r, now)
	}
	p := problemUnavailable(reasonHoldFull)
	p.retryUntil(r.Until, now)
	return p
}

// retryUntil has a retry come at a time, if that is known.
func (p *problem) retryUntil(at, now time.Time) {
	if !at.IsZero() {
		p.retryAfter = retrySeconds(at, now)
	}
}

// maxInfeasible bounds the seconds after which a caller is told to come back.
const maxInfeasible = 24 * 60 * 60

// problemInfeasible is for messages that would be late before they leave, until again;
// zero is not in sight.
func problemInfeasible(again, now time.Time) *problem {
	p := problemUnavailable(reasonInfeasible)
	p.detail = "more waits than can be delivered before this would be late"
	p.retryAfter = maxInfeasible
	if !again.IsZero() {
		p.retryAfter = int(min(max(math.Ceil(again.Sub(now).Seconds()), 1), maxInfeasible))
	}
	return p
}

// problemSlowDisk is for requests that came while a commit takes long.
func problemSlowDisk(detail string) *problem {
	p := problemUnavailable(reasonOverloaded)
	p.detail, p.retryAfter = detail, 5
	return p
}

// problemOf finds the answer to err. What it does not know is internal, and
// nothing of it reaches the caller.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if r, ok := errors.AsType[*Refusal](err); ok {
		return problemRefusal(r, time.Now())
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return problemSink(f)
	}
	switch {
	case errors.Is(err, buffer.ErrBufferFull):
		return problemUnavailable(reasonBufferFull)
	case errors.Is(err, buffer.ErrDiskFull):
		return problemUnavailable(reasonDiskFull)
	case errors.Is(err, buffer.ErrOverloaded):
		return problemUnavailable(reasonOverloaded)
	case errors.Is(err, buffer.ErrStalled):
		return problemSlowDisk("the disk is slow; nothing of the request was stored")
	case errors.Is(err, buffer.ErrUndecided):
		return problemSlowDisk("the disk is slow; whether the request will be stored is not known, and an idempotency key makes it safe to repeat")
	case errors.Is(err, buffer.ErrDeadFull):
		return problemUnavailable(reasonDeadFull)
	case errors.Is(err, buffer.ErrMismatch):
		return problemIdempotencyMismatch()
	case errors.Is(err, buffer.ErrInProgress):
		return problemIdempotencyInProgress()
	case errors.Is(err, buffer.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		// A context ends because the caller left, who reads no answer, or
		// because the server does.
		return problemUnavailable(reasonShuttingDown)
	case errors.Is(err, buffer.ErrTooLarge):
		p := problemTooLarge(0)
		p.detail = "the body is over the stream's max_message_bytes"
		return p
	case errors.Is(err, buffer.ErrNoMessage):
		return problemNoReceipt()
	case errors.Is(err, buffer.ErrGone):
		return problemReceiptGone()
	case errors.Is(err, buffer.ErrDelivering):
		return problemNotCancellable("the message is being delivered")
	case errors.Is(err, buffer.ErrFinal):
		return problemNotCancellable("the message is in a final state")
	}
	return problemInternal()
}

// outcome is how the metrics count a request that ended in p.
func (p *problem) outcome() outcome {
	switch {
	case p.status == http.StatusServiceUnavailable:
		return outcome{decisionFull, p.status}
	case p.status == http.StatusTooManyRequests:
		return outcomeLimited()
	case p.status == http.StatusUnauthorized || p.status == http.StatusForbidden:
		return outcome{decisionDenied, p.status}
	case p.status < http.StatusInternalServerError:
		return outcome{decisionInvalid, p.status}
	}
	return outcome{decisionError, p.status}
}

// fail answers with p.
func (x *exchange) fail(p *problem) {
	doc := problemDocument{
		Type: p.kind, Title: p.title, Status: p.status, Detail: p.detail,
		// A target without a path, as CONNECT has it, is about the server as a whole.
		Instance: cmp.Or(x.r.URL.EscapedPath(), "/"), RequestID: x.id,
		RetryAfter: p.retryAfter, Reason: p.reason, Line: p.line,
		Violated: p.violated,
	}
	if p.status == http.StatusServiceUnavailable || p.status == http.StatusTooManyRequests {
		doc.RetryAfter = jittered(p.retryAfter)
	}
	x.set("Content-Type", x.problemType())
	x.set("Cache-Control", "no-store")
	x.set("X-Content-Type-Options", "nosniff")
	if doc.RetryAfter > 0 {
		x.set("Retry-After", strconv.Itoa(doc.RetryAfter))
	}
	if p.proxy != "" {
		x.set("Proxy-Status", proxyName+"; error="+p.proxy)
	}
	if p.allow != nil {
		x.set("Allow", strings.Join(p.allow, ", "))
	}
	if p.challenges != nil {
		x.set("Www-Authenticate", strings.Join(p.challenges, ", "))
	}
	if p.accept != "" {
		x.set("Accept-Encoding", p.accept)
	}
	if p.closes {
		x.set("Connection", "close")
	}
	x.write(p.status, append(appendProblem(make([]byte, 0, 512), &doc), '\n'))
}

// problemType is that of problems, but for clients of Elasticsearch from version 8 on:
// they read application/json alone, and else fail without a look at the status.
func (x *exchange) problemType() string {
	for _, accept := range x.r.Header["Accept"] {
		if strings.HasPrefix(accept, "application/vnd.elasticsearch+json") {
			return "application/json"
		}
	}
	return "application/problem+json"
}

// jittered spreads callers over a fifth of the wait, a second at least, so
// that those refused together do not come back together.
func jittered(seconds int) int {
	if seconds <= 0 {
		return 0
	}
	return seconds + rand.IntN(max(1, seconds/5)+1)
}
