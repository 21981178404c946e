package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"forebay/cmd/forebay/admin"
	"forebay/limiter"
)

// progress follows the run through the admin API, as an operator would.
type progress struct {
	adminURL string
	burst    *burst
	client   *http.Client
	samples  []sample // of the last second, oldest first
	started  time.Time
}

// sample is how far the run was at a moment.
type sample struct {
	at        time.Time
	accepted  int
	delivered int
}

func newProgress(adminURL string, b *burst) *progress {
	return &progress{adminURL: adminURL, burst: b, client: &http.Client{Timeout: 10 * time.Second}, started: time.Now()}
}

// view is one look at the run.
type view struct {
	at        time.Time
	since     time.Duration // since the start
	orders    int
	accepted  int
	answered  int // accepted or not
	delivered int
	backlog   int
	in, out   float64 // orders a second, over the last second
	permitted float64 // 0 while the drain says that nothing limits it
	eta       time.Time
}

// done reports that every order has an answer and nothing is buffered.
func (v view) done() bool {
	return v.answered == v.orders && v.backlog == 0 && v.delivered >= v.accepted
}

func (p *progress) look(ctx context.Context, now time.Time) (view, error) {
	// The burst is read first: what it counts as accepted is in the backlog or
	// out of it by the time the drain is read.
	accepted, answered := int(p.burst.ok.Load()), p.burst.answered()
	var d admin.Drain
	if err := p.get(ctx, "/api/v1/drains/orders", &d); err != nil {
		return view{}, err
	}
	ended := int(d.DeliveredTotal + d.Dead)
	p.samples = append(p.samples, sample{at: now, accepted: accepted, delivered: int(d.DeliveredTotal)})
	for len(p.samples) > 2 && now.Sub(p.samples[1].at) >= time.Second {
		p.samples = p.samples[1:]
	}
	v := view{
		at: now, since: now.Sub(p.started), orders: p.burst.orders.n, accepted: accepted, answered: answered,
		delivered: ended, backlog: int(d.Buffered()), eta: d.EmptyAt.Time,
	}
	first, last := p.samples[0], p.samples[len(p.samples)-1]
	if span := last.at.Sub(first.at).Seconds(); span > 0 {
		v.in = float64(last.accepted-first.accepted) / span
		v.out = float64(last.delivered-first.delivered) / span
	}
	if limiter.Rate(d.PermittedRate) != limiter.Unlimited {
		v.permitted = float64(d.PermittedRate)
	}
	return v, nil
}

// books is the ledger, re-counted from disk.
type books struct {
	admin.Account
	balanced bool
}

func (p *progress) audit(ctx context.Context) (books, error) {
	var a admin.Audit
	if err := p.get(ctx, "/api/v1/audit", &a); err != nil {
		return books{}, err
	}
	if len(a.Drains) != 1 {
		return books{}, fmt.Errorf("audit: %d drains, want 1", len(a.Drains))
	}
	return books{Account: a.Drains[0], balanced: a.Balanced}, nil
}

func (p *progress) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.adminURL+path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: status %d", path, resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	return nil
}
