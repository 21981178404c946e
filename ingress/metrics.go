package ingress

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"forebay/buffer"
	"forebay/policies"
)

// The decisions that ingress takes.
const (
	decisionPass     = "pass"
	decisionHeld     = "held"
	decisionBuffered = "buffered"
	decisionReplayed = "replayed"
	decisionLimited  = "limited"
	decisionFull     = "full"
	decisionDenied   = "denied"
	decisionInvalid  = "invalid"
	decisionError    = "error"
)

// outcome is how a request ended. A code of 499 means that its caller left first.
type outcome struct {
	decision string
	code     int
}

// metrics counts by route. What no route matched, and what waits for a
// receipt, has the empty route, which no policy can name.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	waiting  *prometheus.GaugeVec
	refusals *prometheus.CounterVec // route, reason
	lookups  lookups
	unrouted *routeMetrics

	mu     sync.Mutex // serialises apply
	routes atomic.Pointer[map[string]*routeMetrics]
}

func newMetrics(reg prometheus.Registerer) *metrics {
	labels := []string{"route", "decision", "code"}
	m := &metrics{
		requests: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "forebay_ingress_requests_total",
			Help: "Requests by route, what was decided about them, and the status they were answered with.",
		}, labels),
		seconds: promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
			Name:    "forebay_ingress_request_duration_seconds",
			Help:    "Time from a request's header to the end of its answer, a wait that the caller preferred included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, labels),
		waiting: promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
			Name: "forebay_ingress_waiting_requests",
			Help: "Requests that wait for their sink, or for the final state of their message.",
		}, []string{"route"}),
	}
	m.refusals = promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "forebay_ingress_refusals_total",
		Help: "Requests with decision full, by the reason in the answer.",
	}, []string{"route", "reason"})
	m.lookups = newLookups(promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "forebay_idempotency_lookups_total",
		Help: "Requests with an idempotency key, by what was known of the key.",
	}, []string{"result"}))
	m.unrouted = m.newRoute("", "")
	m.routes.Store(&map[string]*routeMetrics{})
	return m
}

// lookups counts idempotency keys by what was known of them.
type lookups struct{ fresh, replay, inProgress, mismatch prometheus.Counter }

// count takes note of what a look-up said.
func (l *lookups) count(replayed bool, err error) {
	switch {
	case err == nil && replayed:
		l.replay.Inc()
	case err == nil:
		l.fresh.Inc()
	case errors.Is(err, buffer.ErrMismatch):
		l.mismatch.Inc()
	case errors.Is(err, buffer.ErrInProgress):
		l.inProgress.Inc()
	}
}

func newLookups(v *prometheus.CounterVec) lookups {
	return lookups{
		fresh:      v.WithLabelValues("new"),
		replay:     v.WithLabelValues("replay"),
		inProgress: v.WithLabelValues("in_progress"),
		mismatch:   v.WithLabelValues("mismatch"),
	}
}

// apply makes the routes those of set.
func (m *metrics) apply(set *policies.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.routes.Load()
	gone := maps.Clone(old)
	routes := make(map[string]*routeMetrics, len(set.Routes))
	for i := range set.Routes {
		name, mode := set.Routes[i].Name, set.Routes[i].Mode
		if r := old[name]; r != nil && r.mode == mode {
			routes[name] = r
			delete(gone, name)
			continue
		}
		if r := old[name]; r != nil {
			r.drop() // it is another route now
			delete(gone, name)
		}
		routes[name] = m.newRoute(name, mode)
	}
	m.routes.Store(&routes)
	for _, r := range gone {
		r.drop()
	}
}

// route returns the metrics of a route. Those of one that apply was not given
// are kept nowhere: a reload took it away while the request was on its way.
func (m *metrics) route(name string) *routeMetrics {
	if r := (*m.routes.Load())[name]; r != nil {
		return r
	}
	return &routeMetrics{metrics: m, name: name, gone: true, waiting: prometheus.NewGauge(prometheus.GaugeOpts{})}
}

// routeMetrics holds the series of one route, so that a request looks none up.
type routeMetrics struct {
	metrics *metrics
	name    string
	mode    policies.Mode
	waiting prometheus.Gauge
	held    atomic.Int64 // requests that wait for the sink
	// The outcomes that come by the ten thousand a second need no lock. After
	// drop they count into the void.
	accepted, replayed, passed, limited, full series
	refusals                                  map[string]prometheus.Counter // by reason; never changes

	mu   sync.Mutex // guards what follows
	gone bool       // removed by a reload; never counted again
	rest map[outcome]series
}

type series struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

// newRoute makes the series that exist from the first scrape: each decision
// with the code it has most often.
func (m *metrics) newRoute(name string, mode policies.Mode) *routeMetrics {
	r := &routeMetrics{metrics: m, name: name, mode: mode, waiting: m.waiting.WithLabelValues(name), rest: map[outcome]series{}}
	if name == "" {
		r.series(outcome{decisionInvalid, http.StatusNotFound})
		return r
	}
	r.accepted = r.series(outcomeAccepted())
	r.replayed = r.series(outcomeReplayed())
	r.passed = r.series(outcomePassed())
	r.series(outcome{decisionHeld, http.StatusOK})
	r.limited = r.series(outcomeLimited())
	r.full = r.series(outcomeFull())
	r.refusals = make(map[string]prometheus.Counter)
	for _, reason := range reasons(mode) {
		r.refusals[reason] = m.refusals.WithLabelValues(name, reason)
	}
	r.series(outcome{decisionDenied, http.StatusUnauthorized})
	r.series(outcome{decisionInvalid, http.StatusBadRequest})
	r.series(outcome{decisionError, http.StatusInternalServerError})
	return r
}

func outcomeAccepted() outcome { return outcome{decisionBuffered, http.StatusAccepted} }
func outcomeReplayed() outcome { return outcome{decisionReplayed, http.StatusAccepted} }
func outcomeLimited() outcome  { return outcome{decisionLimited, http.StatusTooManyRequests} }
func outcomePassed() outcome   { return outcome{decisionPass, http.StatusOK} }
func outcomeFull() outcome     { return outcome{decisionFull, http.StatusServiceUnavailable} }

// refused counts a request that was refused for want of capacity.
func (r *routeMetrics) refused(reason string) {
	if c := r.refusals[reason]; c != nil {
		c.Inc()
	}
}

func (r *routeMetrics) observe(o outcome, d time.Duration) {
	var s series
	switch o {
	case outcomeAccepted():
		s = r.accepted
	case outcomeReplayed():
		s = r.replayed
	case outcomeLimited():
		s = r.limited
	case outcomePassed():
		s = r.passed
	case outcomeFull():
		s = r.full
	default:
		s = r.series(o)
	}
	if s.requests == nil {
		return // dropped
	}
	s.requests.Inc()
	s.seconds.Observe(d.Seconds())
}

// series finds or makes the series of an outcome; it is empty once they are dropped.
func (r *routeMetrics) series(o outcome) series {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return series{}
	}
	s, ok := r.rest[o]
	if !ok {
		code := strconv.Itoa(o.code)
		s = series{
			requests: r.metrics.requests.WithLabelValues(r.name, o.decision, code),
			seconds:  r.metrics.seconds.WithLabelValues(r.name, o.decision, code),
		}
		r.rest[o] = s
	}
	return s
}

// drop removes the route's series for good.
func (r *routeMetrics) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	labels := prometheus.Labels{"route": r.name}
	r.metrics.requests.DeletePartialMatch(labels)
	r.metrics.seconds.DeletePartialMatch(labels)
	r.metrics.waiting.DeletePartialMatch(labels)
	r.metrics.refusals.DeletePartialMatch(labels)
}
