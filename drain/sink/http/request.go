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
func newRequest(ctx context.Context, m drain.Delivery, p proof) (*nethttp.Request, error) {
	to, err := parseTarget(m.Target)
	if err != nil {
		return nil, err
	}
	req, err := nethttp.NewRequestWithContext(ctx, m.Method, "http://sink.invalid/", nil)
	if err != nil {
		return nil, err
	}
	req.URL = to
	req.Header = fields(m, p)
	req.Host = req.Header.Get(forwardedHost) // the caller's, for a sink that is to see it
	if len(m.Body) > 0 {
		// GetBody lets the transport change to another connection when the one
		// it had was closed before a byte was written.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.Body)), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(m.Body))
	}
	return req, nil
}

func parseTarget(target string) (*url.URL, error) {
	if target == "" {
		target = "/"
	}
	to, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	return to, nil
}

// forwardedHost is the host that the caller asked for.
const forwardedHost = "X-Forwarded-Host"

// eachField adds the fields of a delivery: the message's own, less what belongs to a
// connection, and ours, which replace any that the caller sent.
func eachField(m drain.Delivery, p proof, add func(name, value string)) {
	trace, key, agent := false, false, false
	for _, f := range m.Fields() {
		name := nethttp.CanonicalHeaderKey(f.Name)
		has := &trace
		switch name {
		case "Forebay-Id", "Forebay-Attempt", "Forebay-Accepted-At", "Forebay-Stream":
			continue
		case "Traceparent":
		case "Idempotency-Key":
			has = &key
		case "User-Agent":
			has = &agent
		default:
			if !drain.OfConnection(name) && !p.replaces(name) {
				add(name, f.Value)
			}
			continue
		}
		if f.Value != "" {
			*has = true
			add(name, f.Value)
		}
	}
	for _, f := range m.Ours() {
		add(f.Name, f.Value)
	}
	for _, f := range p.fields {
		add(f.Name, f.Value)
	}
	if !trace {
		add("Traceparent", m.Traceparent())
	}
	if !key {
		add("Idempotency-Key", m.ID)
	}
	if !agent {
		add("User-Agent", "forebay")
	}
}

// fields are those of a delivery, for the transport.
func fields(m drain.Delivery, p proof) nethttp.Header {
	h := make(nethttp.Header, len(m.Header)+8)
	eachField(m, p, func(name, value string) { h[name] = append(h[name], value) })
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
