package http

import (
	"io"
	nethttp "net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// rest is how long a URL that could not be reached, or answered that it is
	// in trouble, is passed over while another can be used. It fails fast, so
	// it would else always be the one with the least in flight.
	rest = time.Second
	// maxRest bounds the Retry-After of a URL until LimitRest says otherwise.
	maxRest = time.Hour
)

// upstream is the sink's URLs behind one transport. It is an
// http.RoundTripper that chooses the URL with the least in flight, and is safe
// for concurrent use.
type upstream struct {
	transport nethttp.RoundTripper

	mu      sync.Mutex
	targets []*target     // the slice is fixed; what it points at is guarded by mu
	picks   uint64        // guarded by mu
	longest time.Duration // guarded by mu; the longest rest
}

type target struct {
	url      *url.URL
	inFlight int
	rested   time.Time // passed over before, while another can be used
	picked   uint64    // the pick that chose it last, so that equals take turns
}

func newUpstream(transport nethttp.RoundTripper, urls []*url.URL) *upstream {
	u := &upstream{transport: transport, longest: maxRest}
	for _, x := range urls {
		u.targets = append(u.targets, &target{url: x})
	}
	return u
}

// RoundTrip implements http.RoundTripper. Scheme, host and the Host field of
// the request are replaced by the URL's, and its path too where the URL has one.
func (u *upstream) RoundTrip(req *nethttp.Request) (*nethttp.Response, error) {
	resp, _, err := u.send(req)
	return resp, err
}

// send is RoundTrip that tells the target. The target counts as in use until
// the answer's body is closed.
func (u *upstream) send(req *nethttp.Request) (*nethttp.Response, *target, error) {
	t := u.pick(time.Now())
	out := req.WithContext(req.Context()) // a shallow copy: a RoundTripper must not change req
	out.URL = resolve(t.url, req.URL)
	out.Host = t.url.Host
	resp, err := u.transport.RoundTrip(out)
	if err != nil {
		u.done(t)
		if unreachable(err) {
			u.rest(t, time.Now(), rest)
		}
		return nil, t, err
	}
	resp.Body = &body{ReadCloser: resp.Body, done: sync.OnceFunc(func() { u.done(t) })}
	return resp, t, nil
}

// pick chooses among the targets that do not rest, or else those whose rest
// ends first.
func (u *upstream) pick(now time.Time) *target {
	u.mu.Lock()
	defer u.mu.Unlock()
	var best *target
	for _, t := range u.targets {
		if best == nil || better(now, t, best) {
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

// rest lets a target rest for as long as it asked, within what is honoured.
func (u *upstream) rest(t *target, now time.Time, asked time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if until := now.Add(max(rest, min(asked, u.longest))); until.After(t.rested) {
		t.rested = until
	}
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

// body tells when an answer is done with.
type body struct {
	io.ReadCloser
	done func()
}

// Close implements io.Closer.
func (b *body) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}
