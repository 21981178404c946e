package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
	"forebay/drain"
	"forebay/policies"
)

// backend is the App as the admin API sees it.
func (a *App) backend(metrics http.Handler) admin.Backend {
	b := admin.Backend{
		Ready:    a.readiness,
		Metrics:  metrics,
		Streams:  with(a, streams),
		Drains:   with(a, drains),
		Audit:    a.audit,
		Receipts: with(a, receipts),
		Reload: func(ctx context.Context) (string, error) {
			return a.Reload(admin.Actor(ctx))
		},
		Backup:  a.backup,
		Policy:  with(a, policy),
		Routes:  with(a, routes),
		Sinks:   with(a, sinks),
		Limits:  with(a, limits),
		Sources: with(a, sources),
		Why: func(drain, message string) (admin.Why, error) {
			return of(a, func(l *live) (admin.Why, error) { return why(l, drain, message) })
		},
		Messages: func(ctx context.Context, q admin.MessagesQuery) (any, error) {
			return of(a, func(l *live) (any, error) { return l.find(ctx, q) })
		},
		Events: func(after int64, from time.Time, limit int) ([]admin.Event, error) {
			return of(a, func(l *live) ([]admin.Event, error) { return l.events.since(after, from, limit) })
		},
		Dead: func(sel admin.Selection, page admin.DeadPage) (admin.Page[admin.Dead], error) {
			return of(a, func(l *live) (admin.Page[admin.Dead], error) { return l.deadLetters(sel, page) })
		},
		DeadShow: func(id, drain string) (admin.DeadMessage, error) {
			return of(a, func(l *live) (admin.DeadMessage, error) { return l.deadLetter(id, drain) })
		},
		Windows: func(q admin.WindowsQuery) (any, error) {
			return of(a, func(l *live) (any, error) { return windows(l, q) })
		},
		Acts: map[string]func(context.Context, admin.Act) (any, error){},
	}
	for path, do := range acts() {
		b.Acts[path] = func(ctx context.Context, act admin.Act) (any, error) {
			return of(a, func(l *live) (any, error) { return do(l.operator, ctx, act) })
		}
	}
	return b
}

// of asks the live parts, or fails while there are none.
func of[T any](a *App, ask func(*live) (T, error)) (T, error) {
	l, err := a.parts()
	if err != nil {
		var none T
		return none, err
	}
	return ask(l)
}

// with makes a view of the live parts one that fails while there are none.
func with[T any](a *App, view func(*live) T) func() (T, error) {
	return func() (T, error) {
		return of(a, func(l *live) (T, error) { return view(l), nil })
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
	now := time.Now()
	var out []admin.Stream
	st := l.engine.Stats()
	full := l.fills.look(now, st)
	for _, s := range st.Streams {
		v := admin.Stream{
			Name: s.Stream, State: "open", Messages: s.Messages, Bytes: s.Bytes,
			CapacityBytes: admin.Bound(s.MaxBytes), OldestAcceptedAt: admin.Time{Time: s.Oldest}, AcceptedTotal: s.Accepted,
			FullAt: admin.Time{Time: full.streams[s.Stream]},
		}
		if c, closed := l.gate.at(s.Stream, now); closed {
			v.State, v.Closed = "closed", &admin.Hold{Until: admin.Time{Time: c.Until}, Reason: c.Reason}
		}
		if s.Orphaned {
			v.State = "orphaned"
		}
		out = append(out, v)
	}
	return out
}

// drains joins what the buffer counts with where the drains stand. One that is
// in no policy has no sink and no rate; what operators hold back of it waits for it.
func drains(l *live) []admin.Drain {
	now := time.Now()
	standing := map[string]drain.Status{}
	for _, s := range l.drains.Status(now) {
		standing[s.Drain] = s
	}
	held := map[string][]drain.Hold{}
	for _, h := range l.drains.Holds() {
		held[h.Drain] = append(held[h.Drain], h)
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
			v.NextChange = change(s.Next)
		}
		for _, h := range held[c.Drain] {
			if until := (admin.Time{Time: h.Until}); h.Kind == drain.Paused {
				v.Paused = &admin.Hold{Until: until, Reason: h.Reason}
			} else {
				v.Override = &admin.Override{Rate: admin.Rate(h.Rate), Until: until, Reason: h.Reason}
			}
		}
		out = append(out, v)
	}
	return out
}

func change(c *drain.Change) *admin.Change {
	if c == nil {
		return nil
	}
	return &admin.Change{At: admin.Time{Time: c.At}, Rate: admin.Rate(c.Rate), Because: c.Because}
}

// why says what keeps a drain from going faster and, where an id is given, where that
// message stands.
func why(l *live, name, message string) (admin.Why, error) {
	now := time.Now()
	w, ok := l.drains.Why(now, name)
	if !ok {
		return admin.Why{}, fmt.Errorf("drain %s: %w", name, admin.ErrNotFound)
	}
	out := admin.Why{
		Drain: name, Rate: admin.Rate(w.Rate), Binding: string(w.Binding), Constraints: []admin.Constraint{}, Gathering: []admin.Gathering{}, NextChange: change(w.Next),
	}
	for _, c := range w.Constraints {
		out.Constraints = append(out.Constraints, admin.Constraint{
			Name: string(c.Name), Rate: admin.Rate(c.Rate), Detail: c.Detail, Until: admin.Time{Time: c.Until},
		})
	}
	for _, g := range w.Gathering {
		out.Gathering = append(out.Gathering, admin.Gathering{
			Place: g.Place, Messages: g.Messages, Bytes: g.Bytes, Since: admin.Time{Time: g.Since}, Ending: g.Ending,
		})
	}
	if h := w.Head; h != nil {
		out.Head = &admin.Head{ID: h.ID, State: string(h.State), WaitsFor: h.WaitsFor}
	}
	if message == "" {
		return out, nil
	}
	ref, err := l.buf.Ref(message)
	if err != nil {
		return admin.Why{}, fmt.Errorf("message %s: %w", message, admin.ErrNotFound)
	}
	if h := l.drains.Message(now, name, ref, w); h != nil {
		out.Message = &admin.Standing{Head: admin.Head{ID: h.ID, State: string(h.State), WaitsFor: h.WaitsFor}, Ahead: h.Ahead}
	}
	return out, nil
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
			Path: r.Path, PathPrefix: r.PathPrefix, Stream: r.Stream, Sink: r.Sink,
			Auth: authNames(r.Auth), Limits: orEmpty(r.Limits), Enforcement: enforcement(r.Shadow), MaxBodyBytes: r.MaxBody,
		})
	}
	return out
}

// enforcement is the policy's word.
func enforcement(shadow bool) string {
	if shadow {
		return "shadow"
	}
	return "enforce"
}

func authNames(entries []*policies.Auth) []string {
	names := []string{}
	for _, a := range entries {
		names = append(names, a.Name)
	}
	return names
}

func sinks(l *live) []admin.Sink {
	now := time.Now()
	var out []admin.Sink
	for _, s := range l.reloader.policy().Sinks {
		v := admin.Sink{
			Name: s.Name, Kind: s.Kind(), BudgetRate: admin.Rate(s.Budget.Limit.Rate), Burst: s.Budget.Limit.Burst,
			URLs: []admin.SinkURL{},
		}
		st, _ := l.drains.SinkStatus(now, s.Name) // one that a reload takes away at this moment has no status
		v.State, v.Breaker, v.BreakerUntil = sinkState(st), st.Breaker.String(), admin.Time{Time: st.Opens}
		v.ConcurrencyLimit, v.InFlight, v.LiveRequestsTotal, v.LiveWaiting = st.Slots, st.InFlight, st.Live, st.Waiting
		if h := st.Pause; h != nil {
			v.PausedUntil = admin.Time{Time: h.Until}
			v.Paused = &admin.Hold{Until: v.PausedUntil, Reason: h.Reason}
		}
		if lag := st.Lag; lag != nil {
			v.ConsumerLag = &admin.Lag{
				Group: lag.Group, MaxMessages: lag.Most, Messages: lag.Behind, ReadAt: admin.Time{Time: lag.At}, Holding: lag.Holds, Error: lag.Error,
			}
		}
		if s.Kafka != nil {
			for _, b := range s.Kafka.Brokers {
				v.URLs = append(v.URLs, admin.SinkURL{URL: b})
			}
		}
		for _, t := range st.Targets {
			v.URLs = append(v.URLs, admin.SinkURL{URL: t.URL, InFlight: t.InFlight, RestingUntil: admin.Time{Time: t.Resting}})
		}
		out = append(out, v)
	}
	return out
}

func limits(l *live) []admin.Limit {
	var out []admin.Limit
	for _, s := range l.handler.Limits() {
		v := admin.Limit{
			Name: s.Name, Rate: admin.Rate(s.Limit.Limit.Rate), Burst: s.Limit.Limit.Burst, Key: []string{}, Scope: string(s.Scope),
			TrackedKeys: s.Tracked, MaxKeys: s.MaxKeys, AllowedTotal: s.Allowed, DeniedTotal: s.Denied,
			ShadowDeniedTotal: s.ShadowDenied, EvictionsTotal: s.Evicted,
		}
		for _, k := range s.Key {
			v.Key = append(v.Key, k.String())
		}
		out = append(out, v)
	}
	return out
}

func sinkState(st drain.SinkStatus) string {
	switch {
	case st.Pause != nil:
		return "paused"
	case st.Breaker == drain.BreakerOpen:
		return "breaker-open"
	case st.Breaker == drain.BreakerHalfOpen:
		return "breaker-half-open"
	case st.Lag != nil && st.Lag.Holds:
		return string(drain.KafkaLag)
	case st.Ramping:
		return "slow-start"
	default:
		return "open"
	}
}

// windows are the rates of one drain, or of all.
func windows(l *live, q admin.WindowsQuery) (any, error) {
	set := l.reloader.policy()
	if q.Drain != "" && set.Drain(q.Drain) == nil {
		return nil, fmt.Errorf("drain %s: %w", q.Drain, admin.ErrNotFound)
	}
	if q.From.IsZero() {
		q.From = time.Now().Truncate(time.Second)
	}
	list, err := set.Windows(q.Drain, q.From, q.From.Add(q.For))
	if err != nil {
		return nil, admin.Invalid(err.Error())
	}
	return slices.Concat([]policies.DrainWindow{}, list), nil // none is an empty list, never null
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
