package app

import (
	"context"
	"slices"
	"sync"
	"time"

	"forebay/buffer"
)

// ledger remembers the last audit: a scrape must not cost the index of every
// segment each time.
type ledger struct {
	audit func(context.Context) ([]buffer.Account, error)

	mu   sync.Mutex // guards what follows; held while an audit runs, so that there is one
	at   time.Time
	last []buffer.Account
}

const (
	ledgerAge   = 10 * time.Second
	ledgerLimit = 5 * time.Second
)

// accounts returns the accounts of the drains that there are, by the last
// audit. It makes one when that is 10 s old, or has not seen a drain. Where it
// fails, the accounts before it stand: the failure shows elsewhere.
func (l *ledger) accounts(now time.Time, drains []buffer.DrainStats) []buffer.Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, all := l.of(drains); all && !l.at.IsZero() && now.Sub(l.at) < ledgerAge {
		return known
	}
	l.at = now
	ctx, cancel := context.WithTimeout(context.Background(), ledgerLimit)
	defer cancel()
	if accounts, err := l.audit(ctx); err == nil {
		l.last = accounts
	}
	known, _ := l.of(drains)
	return known
}

// of picks the accounts of drains from the last audit, and says whether it has
// all of them. It requires that mu is held.
func (l *ledger) of(drains []buffer.DrainStats) (known []buffer.Account, all bool) {
	for _, d := range drains {
		i := slices.IndexFunc(l.last, func(a buffer.Account) bool { return a.Drain == d.Drain && a.Stream == d.Stream })
		if i >= 0 {
			known = append(known, l.last[i])
		}
	}
	return known, len(known) == len(drains)
}
