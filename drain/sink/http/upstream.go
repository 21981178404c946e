package http

import (
	"context"
	"io"
	nethttp "net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"forebay/policies"
)

const (
	// rest is how long a URL that could not be reached, or answered that it is
	// in trouble, is passed over while another can be used. It fails fast, so
	// it would else always be the one with the least in flight.
	rest = time.Second
	// maxDoublings bounds how that grows while a URL fails again and again.
	maxDoublings = 4
	// maxRest bounds the Retry-After of a URL until LimitRest says otherwise.
	maxRest = time.Hour
)

// upstream is the sink's URLs. It chooses the one with the least in flight, and is
// safe for concurrent use.
type upstream struct {
	preserveHost bool

	mu      sync.Mutex
	targets []*target     // the slice is fixed; what it points at is guarded by mu
	picks   uint64        // guarded by mu
	longest time.Duration // guarded by mu; the longest rest
}

type target struct {
	url      *url.URL
	inFlight int
	rested   time.Time // passed over before, while another can be used
	failures int       // in a row, each after a rest
	picked   uint64    // the pick that chose it last, so that equals take turns
}

func newUpstream(p policies.HTTPSink) *upstream {
	u := &upstream{preserveHost: p.PreserveHost, longest: maxRest}
	for _, x := range p.URLs {
		u.targets = append(u.targets, &target{url: x})
	}
	return u
}

// send makes an attempt and tells the target. Scheme, host and, unless it is to
// be preserved, the Host field of the request are replaced by the URL's, and its
// path too where the URL has one. Where one cannot be reached, so that nothing
// was sent, another is tried, once. The target counts as in use until the
// answer's body is closed. The request's body is not closed.
func (u *upstream) send(via nethttp.RoundTripper, req *nethttp.Request) (*nethttp.Response, *target, error) {
	return u.try(req.Context(), func(t *target) (*nethttp.Response, error) { return via.RoundTrip(u.address(req, t)) })
}

// address is a request to a target.
func (u *upstream) address(req *nethttp.Request, t *target) *nethttp.Request {
	out := req.WithContext(req.Context()) // a shallow copy: a RoundTripper must not change req
	out.URL = resolve(t.url, req.URL)
	if !u.preserveHost || out.Host == "" {
		out.Host = t.url.Host
	}
	if out.Body != nil && out.Body != nethttp.NoBody {
		out.Body = io.NopCloser(out.Body) // a connection that fails must not end it
	}
	return out
}

// try has an attempt made at one target, or at two where nothing was sent to the first.
func (u *upstream) try(ctx context.Context, attempt func(*target) (*nethttp.Response, error)) (*nethttp.Response, *target, error) {
	t := u.pick(time.Now(), nil)
	resp, err := u.tell(t, attempt)
	if err != nil && unreachable(err) && len(u.targets) > 1 && ctx.Err() == nil {
		t = u.pick(time.Now(), t)
		resp, err = u.tell(t, attempt)
	}
	return resp, t, err
}

// tell has an attempt made, and the target know how it went.
func (u *upstream) tell(t *target, attempt func(*target) (*nethttp.Response, error)) (*nethttp.Response, error) {
	resp, err := attempt(t)
	if err != nil {
		u.done(t)
		if unreachable(err) {
			u.rest(t, time.Now(), 0)
		}
		return nil, err
	}
	switch resp.StatusCode {
	case nethttp.StatusBadGateway, nethttp.StatusServiceUnavailable, nethttp.StatusGatewayTimeout:
	default:
		u.works(t)
	}
	resp.Body = u.counted(resp, t)
	return resp, nil
}

// pick chooses among the targets that do not rest, or else those whose rest
// ends first. One may be left out.
func (u *upstream) pick(now time.Time, but *target) *target {
	u.mu.Lock()
	defer u.mu.Unlock()
	var best *target
	for _, t := range u.targets {
		if t != but && (best == nil || better(now, t, best)) {
			best = t
		}
	}
	u.picks++
	best.picked = u.picks
	best.inFlight++
	return best
}

func better(now time.Time, a, b *target) bool {
	restA, restB := max(0, a.rested.Sub(now)), max(0, b.rested.Sub(now))
	if restA != restB {
		return restA < restB
	}
	if a.inFlight != b.inFlight {
		return a.inFlight < b.inFlight
	}
	return a.picked < b.picked
}

func (u *upstream) done(t *target) {
	u.mu.Lock()
	defer u.mu.Unlock()
	t.inFlight--
}

// rest lets a target rest for as long as it asked, within what is honoured, and
// for longer each time that it fails again after a rest.
func (u *upstream) rest(t *target, now time.Time, asked time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	least := rest << min(t.failures, maxDoublings)
	if now.Before(t.rested) {
		least = rest // of the same failure
	} else {
		t.failures++
	}
	if until := now.Add(max(least, min(asked, u.longest))); until.After(t.rested) {
		t.rested = until
	}
}

// works takes note that a target does what it is there for.
func (u *upstream) works(t *target) {
	u.mu.Lock()
	defer u.mu.Unlock()
	t.failures = 0
}

// pause is how long nothing can be sent after a target asked for a rest: what it
// asked for, whatever that is, if it is the first to be used again; what is left
// of the first one's rest otherwise; 0 while one does not rest.
func (u *upstream) pause(t *target, now time.Time, asked time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	first := t
	for _, x := range u.targets {
		if x.rested.Before(first.rested) {
			first = x
		}
	}
	if first == t {
		return asked
	}
	return max(0, first.rested.Sub(now))
}

// limitRest changes the longest rest, of those that rest already too.
func (u *upstream) limitRest(now time.Time, longest time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.longest = longest
	for _, t := range u.targets {
		t.rested = earlier(t.rested, now.Add(max(rest, longest)))
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// resolve is where a request goes: to the URL, with the request's path and
// query. A path of the URL replaces the request's; "/" is no path.
func resolve(base, request *url.URL) *url.URL {
	out := &url.URL{
		Scheme:     base.Scheme,
		Host:       base.Host,
		Path:       request.Path,
		RawPath:    request.RawPath,
		RawQuery:   request.RawQuery,
		ForceQuery: request.ForceQuery, // a "?" without a query is part of what was sent
	}
	if base.Path != "" && base.Path != "/" {
		out.Path, out.RawPath = base.Path, base.RawPath
	}
	return out
}

// counted is an answer's body, with which the target is in use. That of 101 can
// still be written to.
func (u *upstream) counted(resp *nethttp.Response, t *target) io.ReadCloser {
	b := &body{ReadCloser: resp.Body, u: u, t: t}
	if w, ok := resp.Body.(io.Writer); ok && resp.StatusCode == nethttp.StatusSwitchingProtocols {
		return struct {
			*body
			io.Writer
		}{b, w}
	}
	return b
}

// body tells when an answer is done with.
type body struct {
	io.ReadCloser
	u      *upstream
	t      *target
	closed atomic.Bool
}

// Close implements io.Closer.
func (b *body) Close() error {
	if !b.closed.Swap(true) {
		defer b.u.done(b.t)
	}
	return b.ReadCloser.Close()
}
