package http

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"forebay/drain"
)

// newRequest builds the request that delivers a message. Where it goes is the
// upstream's to fill in.
func newRequest(ctx context.Context, m drain.Delivery) (*nethttp.Request, error) {
	target := m.Target
	if target == "" {
		target = "/"
	}
	to, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	req, err := nethttp.NewRequestWithContext(ctx, m.Method, "http://sink.invalid/", nil)
	if err != nil {
		return nil, err
	}
	req.URL = to
	req.Header = fields(m)
	req.Host = req.Header.Get("X-Forwarded-Host") // the caller's, for a sink that is to see it
	if len(m.Body) > 0 {
		// GetBody lets the transport change to another connection when the one
		// it had was closed before a byte was written.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.Body)), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(m.Body))
	}
	return req, nil
}

// fields are the message's own, less what belongs to a connection, and ours,
// which replace any that the caller sent.
func fields(m drain.Delivery) nethttp.Header {
	h := make(nethttp.Header, len(m.Header)+8)
	for _, f := range m.Fields() {
		name := nethttp.CanonicalHeaderKey(f.Name)
		if !drain.OfConnection(name) {
			h[name] = append(h[name], f.Value)
		}
	}
	for _, f := range m.Ours() {
		h.Set(f.Name, f.Value)
	}
	if h.Get("Traceparent") == "" {
		h.Set("Traceparent", m.Traceparent())
	}
	if h.Get("Idempotency-Key") == "" {
		h.Set("Idempotency-Key", m.ID)
	}
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", "forebay")
	}
	hideFromTransport(h, "Idempotency-Key")
	hideFromTransport(h, "X-Idempotency-Key")
	return h
}

// hideFromTransport spells a field in lower case, which means the same to the
// receiver. The transport looks for the canonical spelling, and where it finds
// it writes a request again after a broken connection: an attempt without a
// token, that nobody counts.
func hideFromTransport(h nethttp.Header, name string) {
	if values, ok := h[name]; ok {
		delete(h, name)
		h[strings.ToLower(name)] = values
	}
}

// maxRetryAfter is where a Retry-After is cut, long before it overflows: a year
// is still told as what it is.
const maxRetryAfter = 10 * 365 * 24 * time.Hour

// retryAfter reads a Retry-After field: seconds or a date. 0 is none; one that
// is over already is the shortest there is.
func retryAfter(h nethttp.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	seconds, err := strconv.ParseInt(v, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return max(1, time.Duration(min(max(0, seconds), int64(maxRetryAfter/time.Second)))*time.Second)
	}
	at, err := nethttp.ParseTime(v)
	if err != nil {
		return 0
	}
	return max(1, min(at.Sub(now), maxRetryAfter))
}
