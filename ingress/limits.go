package ingress

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"forebay/limiter"
	"forebay/policies"
)

// callerLimits are those of the policy at work. A limit's buckets and counts belong
// to its name and survive a reload.
type callerLimits struct {
	mu  sync.Mutex // serialises apply
	now atomic.Pointer[limitSet]
}

type limitSet struct {
	byName map[string]*limit
	routes map[string]*routeLimits // those that have some
}

// limit is one at work: its buckets, and what it said.
type limit struct {
	*policies.Limit
	table *limiter.Keyed
	*limitCounts
}

type limitCounts struct {
	allowed, denied, shadowDenied atomic.Uint64
	evicted                       atomic.Uint64 // from tables that are no more
}

// routeLimits are what holds on one route.
type routeLimits struct {
	shadow     bool
	head, body []*limit // by what they are keyed: a request's header, or its body too
	policy     string   // RateLimit-Policy; empty: there is nothing to tell
}

func newCallerLimits() *callerLimits {
	l := &callerLimits{}
	l.now.Store(&limitSet{})
	return l
}

// apply makes the limits those of set.
func (l *callerLimits) apply(now time.Time, set *policies.Set) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.now.Load()
	next := &limitSet{byName: make(map[string]*limit, len(set.Limits)), routes: make(map[string]*routeLimits)}
	for i := range set.Limits {
		spec := &set.Limits[i]
		next.byName[spec.Name] = old.byName[spec.Name].become(now, spec)
	}
	for i := range set.Routes {
		if r := &set.Routes[i]; len(r.Limits) > 0 {
			next.routes[r.Name] = next.of(r)
		}
	}
	l.now.Store(next)
}

// become returns the limit as spec has it; l is nil where the name is new. Other
// keys are another table.
func (l *limit) become(now time.Time, spec *policies.Limit) *limit {
	if l == nil {
		return &limit{spec, limiter.NewKeyed(now, spec.Limit, spec.MaxKeys), &limitCounts{}}
	}
	next := &limit{spec, l.table, l.limitCounts}
	switch {
	case !spec.SameKeys(l.Limit):
		_, evicted := l.table.Keys()
		l.evicted.Add(evicted)
		next.table = limiter.NewKeyed(now, spec.Limit, spec.MaxKeys)
	case spec.Limit != l.Limit.Limit || spec.MaxKeys != l.MaxKeys:
		l.table.Set(now, spec.Limit, spec.MaxKeys)
	}
	return next
}

func (s *limitSet) of(r *policies.Route) *routeLimits {
	out := &routeLimits{shadow: r.Shadow}
	for _, name := range r.Limits {
		if l := s.byName[name]; l.OfBody() {
			out.body = append(out.body, l)
		} else {
			out.head = append(out.head, l)
		}
	}
	if !r.Shadow {
		out.policy = policyField(slices.Concat(out.head, out.body))
	}
	return out
}

// LimitStatus is what a limit has done since the start.
type LimitStatus struct {
	*policies.Limit
	Tracked                                int // keys
	Allowed, Denied, ShadowDenied, Evicted uint64
}

// Limits returns the limits of the policy, by name.
func (h *Handler) Limits() []LimitStatus { return h.limits.status() }

func (l *callerLimits) status() []LimitStatus {
	var all []LimitStatus
	for _, x := range l.now.Load().byName {
		tracked, evicted := x.table.Keys()
		all = append(all, LimitStatus{
			Limit: x.Limit, Tracked: tracked, Evicted: x.evicted.Load() + evicted,
			Allowed: x.allowed.Load(), Denied: x.denied.Load(), ShadowDenied: x.shadowDenied.Load(),
		})
	}
	slices.SortFunc(all, func(a, b LimitStatus) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// limitCollector reads what limits did when it is scraped.
type limitCollector struct {
	limits                                *callerLimits
	decisions, tracked, evictions, errors *prometheus.Desc
}

func newLimitCollector(l *callerLimits) *limitCollector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("forebay_limit_"+name, help, append([]string{"limit"}, labels...), nil)
	}
	return &limitCollector{
		limits:    l,
		decisions: d("decisions_total", "Requests by limit: those that passed all limits of their route, and those that this one refused, or would have in shadow.", "decision"),
		tracked:   d("tracked_keys", "Keys that have a bucket of the limit; at max_keys new ones may have to share."),
		evictions: d("key_evictions_total", "Full buckets that were forgotten to make room for other keys."),
		errors:    d("store_errors_total", "Failures of the store that limits of a cluster are counted in."),
	}
}

// Describe implements [prometheus.Collector].
func (c *limitCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.decisions, c.tracked, c.evictions, c.errors} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *limitCollector) Collect(ch chan<- prometheus.Metric) {
	out := func(d *prometheus.Desc, kind prometheus.ValueType, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, float64(v), labels...)
	}
	for _, s := range c.limits.status() {
		out(c.decisions, prometheus.CounterValue, s.Allowed, s.Name, "allow")
		out(c.decisions, prometheus.CounterValue, s.Denied, s.Name, "deny")
		out(c.decisions, prometheus.CounterValue, s.ShadowDenied, s.Name, "shadow_deny")
		out(c.tracked, prometheus.GaugeValue, uint64(s.Tracked), s.Name)
		out(c.evictions, prometheus.CounterValue, s.Evicted, s.Name)
		out(c.errors, prometheus.CounterValue, 0, s.Name) // no limit is counted in a store yet
	}
}
