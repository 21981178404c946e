package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
	"forebay/drain"
	"forebay/limiter"
	"forebay/policies"
)

// windowsAhead is how far GET /windows looks.
const windowsAhead = 7 * 24 * time.Hour

// maxWindows bounds one drain's part of an answer.
const maxWindows = 1000

// backend is the App as the admin API sees it.
func (a *App) backend(metrics http.Handler) admin.Backend {
	return admin.Backend{
		Ready:    a.readiness,
		Metrics:  metrics,
		Streams:  with(a, streams),
		Drains:   with(a, drains),
		Audit:    a.audit,
		Receipts: with(a, receipts),
		Reload: func(context.Context) (string, error) {
			return a.Reload("request")
		},
		Policy:  with(a, policy),
		Routes:  with(a, routes),
		Sinks:   with(a, sinks),
		Windows: with(a, windows),
	}
}

// with makes a view of the live parts one that fails while there are none.
func with[T any](a *App, view func(*live) T) func() (T, error) {
	return func() (T, error) {
		l, err := a.parts()
		if err != nil {
			var none T
			return none, err
		}
		return view(l), nil
	}
}

func (a *App) readiness() error {
	l, err := a.parts()
	switch {
	case err != nil:
		return errors.New("recovering the buffer")
	case l.stopping.Load():
		return errors.New("stopping")
	case l.engine.Err() != nil:
		return errors.New("the buffer has stopped")
	default:
		return nil
	}
}

func (a *App) audit(ctx context.Context) (admin.Audit, error) {
	l, err := a.parts()
	if err != nil {
		return admin.Audit{}, err
	}
	accounts, err := l.engine.Audit(ctx)
	if err != nil {
		return admin.Audit{}, fmt.Errorf("audit buffer: %w", err)
	}
	out := admin.Audit{Balanced: true, Drains: []admin.Account{}}
	for _, c := range accounts {
		out.Balanced = out.Balanced && c.Imbalance() == 0
		out.Drains = append(out.Drains, admin.Account{
			Stream: c.Stream, Drain: c.Drain, Accepted: c.Accepted, Delivered: c.Delivered, Expired: c.Expired,
			Cancelled: c.Cancelled, Dead: c.Dead, Buffered: c.Buffered, Imbalance: c.Imbalance(),
		})
	}
	return out, nil
}

func receipts(l *live) http.Handler { return l.handler.Receipts().Handler(admin.ReceiptsPrefix) }

func streams(l *live) []admin.Stream {
	var out []admin.Stream
	for _, s := range l.engine.Stats().Streams {
		v := admin.Stream{
			Name: s.Stream, State: "open", Messages: s.Messages, Bytes: s.Bytes,
			OldestAcceptedAt: admin.Time{Time: s.Oldest}, AcceptedTotal: s.Accepted,
		}
		if s.Orphaned {
			v.State = "orphaned"
		}
		if s.MaxBytes > 0 {
			v.CapacityBytes = &s.MaxBytes
		}
		out = append(out, v)
	}
	return out
}

// drains joins what the buffer counts with where the drains stand. One that is
// in no policy has no sink and no rate.
func drains(l *live) []admin.Drain {
	now := time.Now()
	standing := map[string]drain.Status{}
	for _, s := range l.drains.Status(now) {
		standing[s.Drain] = s
	}
	var out []admin.Drain
	for _, c := range l.engine.Stats().Drains {
		v := admin.Drain{
			Name: c.Drain, Stream: c.Stream, State: "orphaned",
			Pending: c.Pending, InFlight: c.InFlight, Scheduled: c.Scheduled, Dead: dead(c), DeliveredTotal: c.Delivered,
			OldestAcceptedAt: admin.Time{Time: c.Oldest},
		}
		if s, ok := standing[c.Drain]; ok && !c.Orphaned {
			v.Sink, v.State, v.Binding = s.Sink, string(s.State), string(s.Binding)
			v.PermittedRate, v.ActualRate = admin.Rate(s.Permitted), s.Actual
			v.EmptyAt = admin.Time{Time: s.EmptyAt}
			if s.Next != nil {
				v.NextChange = &admin.Change{At: admin.Time{Time: s.Next.At}, Rate: admin.Rate(s.Next.Rate), Because: s.Next.Because}
			}
		}
		out = append(out, v)
	}
	return out
}

func policy(l *live) admin.Policy {
	set := l.reloader.policy()
	return admin.Policy{
		Hash: set.Hash, LoadedAt: admin.Time{Time: *l.reloader.loadedAt.Load()}, Paths: l.reloader.paths,
		Routes: len(set.Routes), Streams: len(set.Streams), Drains: len(set.Drains), Sinks: len(set.Sinks),
	}
}

func routes(l *live) []admin.Route {
	var out []admin.Route
	for _, r := range l.reloader.policy().Routes {
		out = append(out, admin.Route{
			Name: r.Name, Mode: string(r.Mode), Hosts: orEmpty(r.Hosts), Methods: orEmpty(r.Methods),
			Path: r.Path, PathPrefix: r.PathPrefix, Stream: r.Stream, MaxBodyBytes: r.MaxBody,
		})
	}
	return out
}

func sinks(l *live) []admin.Sink {
	var out []admin.Sink
	for _, s := range l.reloader.policy().Sinks {
		v := admin.Sink{
			Name: s.Name, Kind: "http", URLs: []string{}, Rate: admin.Rate(s.Budget.Limit.Rate),
			Burst: s.Budget.Limit.Burst, Concurrency: s.Budget.Concurrency,
		}
		for _, u := range s.HTTP.URLs {
			v.URLs = append(v.URLs, u.Redacted())
		}
		out = append(out, v)
	}
	return out
}

func windows(l *live) []admin.Window {
	from := time.Now().Truncate(time.Second)
	var out []admin.Window
	for _, d := range l.reloader.policy().Drains {
		out = append(out, drainWindows(d, from)...)
	}
	return out
}

func drainWindows(d policies.Drain, from time.Time) []admin.Window {
	var out []admin.Window
	for at, w := range d.Schedule.Windows(from, from.Add(windowsAhead)) {
		if len(out) == maxWindows {
			break
		}
		v := admin.Window{
			Drain: d.Name, From: admin.Time{Time: at}, To: admin.Time{Time: w.Until}, Rate: admin.Rate(w.Rate),
			RateFrom: admin.Rate(w.Rate), RateTo: admin.Rate(w.Rate), Because: w.Because,
		}
		if w.Rate != limiter.Unlimited {
			fits := float64(w.Rate) * w.Until.Sub(at).Seconds()
			v.Capacity = &fits
		}
		out = append(out, v)
	}
	return out
}

func dead(d buffer.DrainStats) (sum uint64) {
	for _, n := range d.Dead {
		sum += n
	}
	return sum
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
