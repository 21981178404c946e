package http

import (
	"context"
	nethttp "net/http"
	"sync"
	"time"

	"forebay/policies"
)

const (
	// fetchEvery is the least time between two fetches.
	fetchEvery = time.Second
	// longestWait is the longest time between fetches that fail.
	longestWait = 30 * time.Second
	// maxLife is for how long a token is used, whatever is said of it; untoldLife is that
	// of one of which nothing is said.
	maxLife    = 24 * time.Hour
	untoldLife = 5 * time.Minute
	// A token is not used any more a tenth of its life, and at most lastUse, before its
	// end: requests take time. It is renewed a fifth of its life, at most renewal, before.
	lastUse = 10 * time.Second
	renewal = 2 * time.Minute
)

// tokenError is why there is no token.
type tokenError struct {
	reason, host string
	wait         time.Duration // until the next fetch
}

// Error says nothing of what the peer sent.
func (e *tokenError) Error() string { return "token: " + e.reason + ": " + e.host }

// tokens has the access token of a sink: one is fetched at a time, when an attempt needs it
// or soon will. It is safe for concurrent use.
type tokens struct {
	policy  policies.OAuth2
	via     *nethttp.Transport
	timeout time.Duration

	mu       sync.Mutex
	present  token         // guarded by mu
	fetching chan struct{} // guarded by mu; closed when the fetch under way has ended; nil: there is none
	failed   *tokenError   // guarded by mu; of the last fetch; nil: it went well
	failures int           // guarded by mu; in a row
	next     time.Time     // guarded by mu; no fetch begins before
	inBody   bool          // guarded by mu; client id and secret go there, not into a header field
}

// token is what was fetched, with the times from which it is renewed and not used any more.
type token struct {
	value       string
	renew, ends time.Time
}

// newTokens returns a source that has fetched nothing yet. Its connections keep to what
// holds for the sink's, but for the name on its certificate.
func newTokens(p policies.HTTPSink) (*tokens, error) {
	if p.TLS != nil {
		secure := *p.TLS
		secure.ServerName = ""
		p.TLS = &secure
	}
	via, err := NewTransport(p, 1)
	if err != nil {
		return nil, err
	}
	return &tokens{policy: *p.OAuth2, via: via, timeout: p.Timeout}, nil
}

func (t *tokens) host() string { return t.policy.TokenURL.Host }

// get returns a token, and has it renewed beside that while it still holds. It blocks for
// as long as a fetch takes, where there is no token. An error is a [*tokenError] or
// the context's.
func (t *tokens) get(ctx context.Context) (string, error) {
	for {
		value, ready, wait, err := t.look(time.Now())
		if value != "" || err != nil {
			return value, err
		}
		if err := await(ctx, ready, wait); err != nil {
			return "", err
		}
	}
}

// look returns a token or an error, or else what to wait for: the end of a fetch, or some time.
func (t *tokens) look(now time.Time) (value string, ready <-chan struct{}, wait time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	holds := t.present.value != "" && now.Before(t.present.ends)
	if t.fetching == nil && (!holds || !now.Before(t.present.renew)) && !now.Before(t.next) {
		t.fetching = make(chan struct{})
		go t.fetch(t.inBody) // it ends with its time-out, and has no owner: attempts come and go
	}
	wait = t.next.Sub(now)
	switch {
	case holds:
		return t.present.value, nil, 0, nil
	case t.fetching != nil:
		return "", t.fetching, 0, nil
	case t.failed != nil:
		failed := *t.failed
		failed.wait = wait
		return "", nil, 0, &failed
	default:
		return "", nil, wait, nil
	}
}

// await waits for the first of a channel that closes and, where there is none, some time.
func await(ctx context.Context, ready <-chan struct{}, wait time.Duration) error {
	var over <-chan time.Time
	if ready == nil {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-ready:
		return nil
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *tokens) fetch(inBody bool) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), t.timeout)
	defer cancel()
	value, life, refused, err := t.ask(ctx, inBody)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.fetching)
	t.fetching, t.failed = nil, err
	if err != nil {
		t.next = now.Add(min(longestWait, fetchEvery<<min(t.failures, 10)))
		t.failures++
		t.inBody = t.inBody != refused // there are servers that take the secret in one place alone
		return
	}
	t.failures, t.next = 0, began.Add(fetchEvery)
	end := began.Add(life)
	t.present = token{value, end.Add(-min(life/5, renewal)), end.Add(-min(life/10, lastUse))}
}

// drop has a token not be used any more.
func (t *tokens) drop(value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.present.value == value {
		t.present = token{}
	}
}
