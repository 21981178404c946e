package drain

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what drains count. What the buffer counts is not repeated here.
type metrics struct {
	attempts *prometheus.CounterVec   // drain, sink, outcome
	duration *prometheus.HistogramVec // drain, sink, outcome
	delay    *prometheus.HistogramVec // drain
	promises *prometheus.CounterVec   // drain, result
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	labels := []string{"drain", "sink", "outcome"}
	return &metrics{
		attempts: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "forebay_drain_attempts_total",
			Help: "Attempts at delivering a message that have ended, by outcome.",
		}, labels),
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "forebay_drain_attempt_duration_seconds",
			Help:    "Time an attempt took, by outcome.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30}, // four sets of them a drain
		}, labels),
		delay: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "forebay_drain_delay_seconds",
			Help:    "Time from accepting a message to its delivery.",
			Buckets: []float64{.01, .1, 1, 10, 60, 300, 900, 3600, 4 * 3600, 8 * 3600, 24 * 3600, 72 * 3600},
		}, []string{"drain"}),
		promises: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "forebay_drain_eta_promises_total",
			Help: "Messages that were held to their last eta before the final tenth of their wait, by how that went: one in a hundred.",
		}, []string{"drain", "result"}),
	}
}

// meters are the series of one drain and sink. An attempt that ends after the
// policy dropped the drain counts in them still, but no scrape sees them then.
type meters struct {
	attempts [classes]prometheus.Counter
	duration [classes]prometheus.Observer
	delay    prometheus.Observer

	kept, missed, voided prometheus.Counter
}

// of makes the series exist, so that they are there from the first scrape on.
func (m *metrics) of(drain, sink string) *meters {
	s := &meters{
		delay:  m.delay.WithLabelValues(drain),
		kept:   m.promises.WithLabelValues(drain, "kept"),
		missed: m.promises.WithLabelValues(drain, "missed"),
		voided: m.promises.WithLabelValues(drain, "void"),
	}
	for class := range Class(classes) {
		s.attempts[class] = m.attempts.WithLabelValues(drain, sink, class.String())
		s.duration[class] = m.duration.WithLabelValues(drain, sink, class.String())
	}
	return s
}

// forget drops the series of a drain.
func (m *metrics) forget(drain string) {
	labels := prometheus.Labels{"drain": drain}
	m.attempts.DeletePartialMatch(labels)
	m.duration.DeletePartialMatch(labels)
	m.delay.DeletePartialMatch(labels)
	m.promises.DeletePartialMatch(labels)
}

func (m *meters) attempted(a attempt) {
	class := a.outcome.Class
	if class >= classes {
		class = Retry
	}
	m.attempts[class].Inc()
	m.duration[class].Observe(a.now.Sub(a.began).Seconds())
}

func (m *meters) delivered(delay time.Duration) {
	m.delay.Observe(max(0, delay.Seconds()))
}

// left counts a promise of which the message left.
func (m *meters) left(kept bool) {
	if kept {
		m.kept.Inc()
	} else {
		m.missed.Inc()
	}
}

// void counts promises that something came between.
func (m *meters) void(n int) { m.voided.Add(float64(n)) }

// collector reads the gauges when they are scraped, so that they cannot drift.
type collector struct{ drains *Drains }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range gauges() {
		ch <- g.desc
	}
	for _, g := range sinkGauges() {
		ch <- g.desc
	}
	ch <- bindingDesc()
	ch <- breakerDesc()
	ch <- lagDesc()
	ch <- liveDesc()
	ch <- adviceDesc()
}

// Collect implements prometheus.Collector. What it tells of drains comes in the
// order of a scrape, which sorts what is sorted already for little: with many
// drains that is most of what there is.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	statuses := c.drains.Status(now)
	slices.SortFunc(statuses, func(a, b Status) int { return strings.Compare(a.Drain, b.Drain) })
	for _, g := range gauges() {
		for _, s := range statuses {
			ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value(now, s), s.Drain)
		}
	}
	binding := bindingDesc()
	for _, name := range slices.Sorted(slices.Values(Constraints())) {
		for _, s := range statuses {
			ch <- prometheus.MustNewConstMetric(binding, prometheus.GaugeValue, truth(s.Binding == name), s.Drain, string(name))
		}
	}
	c.sinks(now, ch)
}

func (c collector) sinks(now time.Time, ch chan<- prometheus.Metric) {
	gauges, breaker, live, advice, behind := sinkGauges(), breakerDesc(), liveDesc(), adviceDesc(), lagDesc()
	for _, s := range c.drains.sinkList() {
		s.advice(func(name Constraint, r AdviceResult, n uint64) {
			ch <- prometheus.MustNewConstMetric(advice, prometheus.CounterValue, float64(n), s.name, string(name), r.String())
		})
		ch <- prometheus.MustNewConstMetric(live, prometheus.CounterValue, float64(s.live.Load()), s.name)
		for _, g := range gauges {
			ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value(s), s.name)
		}
		o := s.outlook(now)
		if o.lag.bound.Messages > 0 {
			ch <- prometheus.MustNewConstMetric(behind, prometheus.GaugeValue, o.lag.value(now), s.name)
		}
		present := o.breaker
		for _, state := range BreakerStates() {
			ch <- prometheus.MustNewConstMetric(breaker, prometheus.GaugeValue, truth(state == present), s.name, state.String())
		}
	}
}

func lagDesc() *prometheus.Desc {
	return prometheus.NewDesc("forebay_sink_consumer_lag_messages",
		"How far the consumer group of max_consumer_lag is behind; NaN while that is not known.", []string{"sink"}, nil)
}

func liveDesc() *prometheus.Desc {
	return prometheus.NewDesc("forebay_sink_live_requests_total", "Live requests whose turn at the sink came.", []string{"sink"}, nil)
}

func adviceDesc() *prometheus.Desc {
	return prometheus.NewDesc("forebay_sink_advice_total",
		"Fields of the sink's answers that ask for a pause or a rate, by what became of them.", []string{"sink", "constraint", "result"}, nil)
}

func breakerDesc() *prometheus.Desc {
	return prometheus.NewDesc("forebay_sink_breaker_state",
		"1 for what the sink's breaker lets through: everything, nothing, or one probe at a time.", []string{"sink", "state"}, nil)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func bindingDesc() *prometheus.Desc {
	return prometheus.NewDesc("forebay_drain_binding",
		"1 for the constraint that keeps the drain from going faster.", []string{"drain", "constraint"}, nil)
}

type gauge struct {
	desc  *prometheus.Desc
	value func(now time.Time, s Status) float64
}

func gauges() []gauge {
	labels := []string{"drain"}
	return []gauge{
		{
			prometheus.NewDesc("forebay_drain_permitted_rate",
				"Messages a second that may leave now; +Inf when unlimited.", labels, nil),
			func(_ time.Time, s Status) float64 { return value(s.Permitted) },
		},
		{
			prometheus.NewDesc("forebay_drain_estimated_empty_timestamp_seconds",
				"When the last waiting message leaves; the present time when none waits, +Inf when no rate is in sight.", labels, nil),
			estimatedEmpty,
		},
		{
			prometheus.NewDesc("forebay_drain_paused", "1 while an operator's pause holds.", labels, nil),
			func(_ time.Time, s Status) float64 { return truth(s.Pause != nil) },
		},
		{
			prometheus.NewDesc("forebay_drain_override_until_timestamp_seconds",
				"When an operator's rate ends; 0 while there is none.", labels, nil),
			func(_ time.Time, s Status) float64 {
				if s.Override == nil {
					return 0
				}
				return timestamp(s.Override.Until)
			},
		},
		{
			prometheus.NewDesc("forebay_drain_next_deadline_timestamp_seconds",
				"When the oldest unfinished message reaches its deadline; +Inf while there is none.", labels, nil),
			func(_ time.Time, s Status) float64 {
				if s.Deadline.IsZero() {
					return math.Inf(1)
				}
				return timestamp(s.Deadline)
			},
		},
	}
}

func timestamp(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func estimatedEmpty(now time.Time, s Status) float64 {
	switch {
	case !s.EmptyAt.IsZero():
		return timestamp(s.EmptyAt)
	case s.Waiting == 0:
		return timestamp(now)
	default:
		return math.Inf(1)
	}
}

type sinkGauge struct {
	desc  *prometheus.Desc
	value func(s *sinkState) float64
}

func sinkGauges() []sinkGauge {
	labels := []string{"sink"}
	return []sinkGauge{
		{
			prometheus.NewDesc("forebay_sink_in_flight_requests", "Attempts and live requests in flight.", labels, nil),
			func(s *sinkState) float64 { return float64(s.budget.InFlight()) },
		},
		{
			prometheus.NewDesc("forebay_sink_concurrency_limit", "Attempts and live requests that may be in flight.", labels, nil),
			func(s *sinkState) float64 { return float64(s.budget.Slots()) },
		},
		{
			prometheus.NewDesc("forebay_sink_budget_rate", "Messages a second that the sink can take; +Inf when unlimited.", labels, nil),
			func(s *sinkState) float64 { return value(s.budget.Limit().Rate) },
		},
	}
}
