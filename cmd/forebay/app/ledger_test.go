package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"forebay/buffer"
)

func TestLedger(t *testing.T) {
	calls := 0
	var fail error
	audited := []buffer.Account{{Stream: "s", Drain: "d"}}
	l := &ledger{audit: func(context.Context) ([]buffer.Account, error) {
		calls++
		accounts := append([]buffer.Account{}, audited...)
		accounts[0].Accepted = uint64(calls)
		return accounts, fail
	}}
	drains := func(names ...string) (list []buffer.DrainStats) {
		for _, n := range names {
			list = append(list, buffer.DrainStats{Stream: "s", Drain: n})
		}
		return list
	}
	t0 := time.Unix(1000, 0)
	tests := []struct {
		name   string
		at     time.Duration
		drains []buffer.DrainStats
		err    error
		calls  int
		want   uint64 // accepted by d
		known  int    // accounts
	}{
		{"the first", 0, drains("d"), nil, 1, 1, 1},
		{"just before it is old", 10*time.Second - 1, drains("d"), nil, 1, 1, 1},
		{"old", 10 * time.Second, drains("d"), nil, 2, 2, 1},
		{"a failure keeps the last", 20 * time.Second, drains("d"), errors.New("x"), 3, 2, 1},
		{"and is not tried again at once", 21 * time.Second, drains("d"), nil, 3, 2, 1},
		{"a drain that was added is there at once", 22 * time.Second, drains("d", "new"), nil, 4, 4, 2},
		{"one that is gone is not, at once", 23 * time.Second, drains("d"), nil, 4, 4, 1},
		{"none", 24 * time.Second, nil, nil, 4, 0, 0},
	}
	for _, tt := range tests {
		fail = tt.err
		if len(tt.drains) > 1 {
			audited = append(audited, buffer.Account{Stream: "s", Drain: "new"})
		}
		got := l.accounts(t0.Add(tt.at), tt.drains)
		if calls != tt.calls || len(got) != tt.known || tt.known > 0 && got[0].Accepted != tt.want {
			t.Errorf("%s: %d audits, accounts %v, want %d audits, %d accounts, %d accepted", tt.name, calls, got, tt.calls, tt.known, tt.want)
		}
	}
}
