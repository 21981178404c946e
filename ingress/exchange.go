package ingress

import (
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"forebay/policies"
)

// maxRequestID is in bytes.
const maxRequestID = 128

// exchange is one request and its answer.
type exchange struct {
	w     http.ResponseWriter
	r     *http.Request
	id    string // the request's, on every answer and stored with the message
	start time.Time
	cut   bool // the answer is: its connection has to be, too
	async bool // it is answered before it is carried out, as the caller prefers
	spill *spill
	// principal is who the caller has shown to be; empty where nobody asked.
	principal string
	client    netip.Addr    // zero until clientOf found it
	quota     *quota        // nil where the route has no limits
	policy    *policies.Set // the running one, once its routes are looked at
	// The answer's header fields, so that each need not be allocated.
	values [14]string
	fields int // how many of values are in use
}

func begin(w http.ResponseWriter, r *http.Request, stopping bool) *exchange {
	x := &exchange{w: w, r: r, id: requestID(r.Header), start: time.Now()}
	x.set("X-Request-Id", x.id)
	if stopping {
		x.set("Connection", "close")
	}
	return x
}

// set is Header.Set for names that are in canonical form already.
func (x *exchange) set(name, value string) {
	if x.fields == len(x.values) {
		x.w.Header()[name] = []string{value}
		return
	}
	x.values[x.fields] = value
	x.fields++
	x.w.Header()[name] = x.values[x.fields-1 : x.fields : x.fields]
}

// field returns the values of a header field; its name is in canonical form.
func (x *exchange) field(name string) []string { return x.r.Header[name] }

// unguessed keeps a server from guessing a Content-Type that a sink did not send.
func (x *exchange) unguessed() {
	if h := x.w.Header(); h["Content-Type"] == nil {
		h["Content-Type"] = nil
	}
}

// write answers with body. A failed write means that the caller is gone:
// there is nobody left to tell.
func (x *exchange) write(status int, body []byte) {
	x.quota.tell(x, status)
	if len(body) > 2048 || x.r.Method == http.MethodHead {
		// Beyond net/http's own buffer it would fall back to chunks.
		x.set("Content-Length", strconv.Itoa(len(body)))
	}
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body)
}

// requestID takes the caller's X-Request-Id if it is harmless in a log line,
// and makes one up otherwise.
func requestID(h http.Header) string {
	if ids := h["X-Request-Id"]; len(ids) == 1 && saneRequestID(ids[0]) {
		return ids[0]
	}
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], rand.Uint64())
	return hex.EncodeToString(raw[:])
}

func saneRequestID(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// failureLog reports failures inside Forebay, at most one a second: a broken
// buffer fails every request. Of a request it names the id alone, which its
// caller was given to quote; no field, path or body.
type failureLog struct {
	log        *slog.Logger
	next       atomic.Int64 // nanoseconds since 1970; before it nothing is logged
	suppressed atomic.Int64
}

func (l *failureLog) report(x *exchange, err error) {
	now, next := time.Now().UnixNano(), l.next.Load()
	wait := next - now // more than a second where the clock was set back
	if wait > 0 && wait <= int64(time.Second) || !l.next.CompareAndSwap(next, now+int64(time.Second)) {
		l.suppressed.Add(1)
		return
	}
	l.log.LogAttrs(x.r.Context(), slog.LevelError, "request failed",
		slog.String("request_id", x.id),
		slog.Int64("suppressed", l.suppressed.Swap(0)),
		slog.Any("error", err))
}
