package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Bounds of what an operator may ask.
const (
	maxReason = 500  // bytes
	maxIDs    = 1000 // of one replay or drop
	// MaxFor is the longest pause, override or closure that ends by itself.
	MaxFor = 366 * 24 * time.Hour
)

// Act is what an operator asks for, beside its object: all fields that any of
// the acts has.
type Act struct {
	Object string `json:"-"` // the drain or stream
	Actor  string `json:"-"`

	Reason     string  `json:"reason,omitempty"`
	ForSeconds float64 `json:"for_seconds,omitempty"` // 0: until it is undone
	Rate       *Rate   `json:"rate,omitempty"`
	Key        string  `json:"key,omitempty"`
	Selection
}

// Selection says which dead letters of a drain: those that match all of it.
type Selection struct {
	Drain  string   `json:"drain,omitempty"`
	DiedOf string   `json:"died_of,omitempty"` // a reason
	Since  Time     `json:"since,omitzero"`    // buried then or later
	IDs    []string `json:"ids,omitempty"`
	DryRun bool     `json:"dry_run,omitempty"`
}

// Until is when an act of now ends by itself; zero: it does not.
func (a Act) Until(now time.Time) time.Time {
	if a.ForSeconds == 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(a.ForSeconds * float64(time.Second)))
}

// Invalid is a request that asks for something that cannot be meant. Its text
// tells the caller how to ask.
type Invalid string

func (e Invalid) Error() string { return string(e) }

// act serves a request that changes something: the object is in the path, the
// rest in a JSON body, which may be missing.
func act(log *slog.Logger, do func(context.Context, Act) (any, error)) http.Handler {
	return jsonHandler(log, func(r *http.Request) (any, error) {
		a, err := readAct(r)
		if err != nil {
			return nil, err
		}
		return do(r.Context(), a)
	})
}

func readAct(r *http.Request) (Act, error) {
	a := Act{Object: r.PathValue("name"), Actor: Actor(r.Context())}
	if err := a.read(r.Body); err != nil {
		return Act{}, err
	}
	switch {
	case len(a.Reason) > maxReason:
		return Act{}, Invalid(fmt.Sprintf("reason is over %d bytes", maxReason))
	case strings.ContainsFunc(a.Reason, func(c rune) bool { return c < ' ' }):
		return Act{}, Invalid("reason has a control character in it")
	case a.ForSeconds < 0 || a.ForSeconds > MaxFor.Seconds():
		return Act{}, Invalid("for_seconds goes from 0 to 31622400, 366 days")
	case len(a.IDs) > maxIDs:
		return Act{}, Invalid(fmt.Sprintf("ids are over %d; ask in several requests", maxIDs))
	}
	return a, nil
}

// NeedsReason refuses an act that nobody could explain later.
func (a Act) NeedsReason() error {
	if strings.TrimSpace(a.Reason) == "" {
		return Invalid("reason is missing: the operator log keeps it")
	}
	return nil
}
