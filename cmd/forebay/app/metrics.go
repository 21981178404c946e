package app

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"forebay/buffer"
	"forebay/policies"
)

// Build says which program this is.
type Build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
}

// newRegistry returns the metrics that are there before anything else is.
func newRegistry(b Build) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
		Name: "forebay_build_info", Help: "Which program this is; always 1.",
	}, []string{"version", "revision", "goversion"}).WithLabelValues(b.Version, b.Revision, b.Go).Set(1)
	return reg
}

// policyMetrics tell which policy runs and how the last reload went.
type policyMetrics struct {
	info        *prometheus.GaugeVec   // hash
	reloads     *prometheus.CounterVec // result
	successful  prometheus.Gauge
	successTime prometheus.Gauge
}

func newPolicyMetrics(reg prometheus.Registerer) *policyMetrics {
	auto := promauto.With(reg)
	m := &policyMetrics{
		info: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "forebay_policy_info", Help: "The running policy, by the hash of its files; always 1.",
		}, []string{"hash"}),
		reloads: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "forebay_policy_reloads_total", Help: "Attempts to load the policy, the one at the start included.",
		}, []string{"result"}),
		successful: auto.NewGauge(prometheus.GaugeOpts{
			Name: "forebay_policy_last_reload_successful", Help: "Whether the last attempt to load the policy was taken: 1, or 0.",
		}),
		successTime: auto.NewGauge(prometheus.GaugeOpts{
			Name: "forebay_policy_last_reload_success_timestamp_seconds", Help: "When the running policy was loaded, in Unix time.",
		}),
	}
	for _, result := range []string{"success", "failure"} {
		m.reloads.WithLabelValues(result)
	}
	return m
}

func (m *policyMetrics) loaded(hash string, now time.Time) {
	m.info.Reset()
	m.info.WithLabelValues(hash).Set(1)
	m.reloads.WithLabelValues("success").Inc()
	m.successful.Set(1)
	m.successTime.Set(unixSeconds(now))
}

func (m *policyMetrics) failed() {
	m.reloads.WithLabelValues("failure").Inc()
	m.successful.Set(0)
}

// stateSources are what a stateCollector reads when it is scraped.
type stateSources struct {
	stats  func() buffer.Stats
	policy func() *policies.Set
	gate   *gate
	fills  *fills
	ledger *ledger
}

// stateCollector reads counts and the policy when it is scraped, so that no
// gauge can drift from what it mirrors.
type stateCollector struct {
	stateSources
	descs stateDescs
}

func newStateCollector(from stateSources) *stateCollector {
	return &stateCollector{stateSources: from, descs: newStateDescs()}
}

type stateDescs struct {
	size, free, room, segments, corrupt               *prometheus.Desc
	readOnly, diskFull                                *prometheus.Desc
	accepted, messages, bytes, capacity, oldest       *prometheus.Desc
	drainMessages, delivered, expired, cancelled      *prometheus.Desc
	dead, imbalance, intervalActive, intervalNextEdge *prometheus.Desc
	closed, fullAt, streamOrphaned, drainOrphaned     *prometheus.Desc
}

func newStateDescs() stateDescs {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("forebay_"+name, help, labels, nil)
	}
	return stateDescs{
		size:           d("buffer_size_bytes", "What segments take on disk, open ones as reserved."),
		free:           d("buffer_free_bytes", "Free space of the buffer's volume."),
		room:           d("buffer_room_bytes", "What the disk takes yet, about, before appends are refused for buffer.max_bytes or min_free."),
		segments:       d("buffer_segments", "Segments: open, which are written or about to be sealed, and sealed.", "state"),
		corrupt:        d("buffer_corrupt_blocks_total", "Blocks found damaged since the start."),
		readOnly:       d("buffer_read_only", "Whether appends are refused, for want of disk space or because the buffer stopped: 1, or 0."),
		diskFull:       d("buffer_full_timestamp_seconds", "When the disk takes no more, for buffer.max_bytes or min_free, if all streams grow as in the last minute or two, in Unix time; +Inf where it is not in sight."),
		accepted:       d("stream_accepted_messages_total", "Messages accepted, ever.", "stream"),
		messages:       d("stream_messages", "Messages unfinished with at least one drain.", "stream"),
		bytes:          d("stream_bytes", "What max_bytes is compared with: encoded bytes of blocks with unfinished messages.", "stream"),
		capacity:       d("stream_capacity_bytes", "The stream's max_bytes; +Inf where the disk alone bounds it.", "stream"),
		oldest:         d("stream_oldest_message_timestamp_seconds", "When the oldest unfinished message was accepted, in Unix time; 0 where there is none.", "stream"),
		drainMessages:  d("drain_messages", "Messages of the drain: untried, in flight, waiting for another attempt or their time, dead.", "drain", "state"),
		delivered:      d("drain_delivered_messages_total", "Messages delivered, ever.", "drain"),
		expired:        d("drain_expired_messages_total", "Messages expired, ever.", "drain"),
		cancelled:      d("drain_cancelled_messages_total", "Messages cancelled, ever.", "drain"),
		dead:           d("drain_dead_messages_total", "Messages buried; those that are dead at the start are counted, those replayed or dropped stay counted.", "drain", "reason"),
		closed:         d("stream_closed", "Whether an operator has closed the stream's intake: 1, or 0.", "stream"),
		fullAt:         d("stream_full_timestamp_seconds", "When the stream is at its max_bytes if it grows as in the last minute or two, in Unix time: now while it is; +Inf where it is not in sight.", "stream"),
		streamOrphaned: d("stream_orphaned", "Whether the stream is stored and in no policy: 1, or 0.", "stream"),
		drainOrphaned:  d("drain_orphaned", "Whether the drain is stored and in no policy, so that nobody delivers: 1, or 0.", "drain"),
		imbalance: d("ledger_imbalance", "Accepted less delivered, expired, cancelled, dead and buffered, re-counted at most every 10 s. Anything but 0 is a fault.",
			"stream", "drain"),
		intervalActive:   d("time_interval_active", "Whether the time interval is active: 1, or 0.", "interval"),
		intervalNextEdge: d("time_interval_next_change_timestamp_seconds", "When that changes next, in Unix time; +Inf where it does not within 400 days.", "interval"),
	}
}

// Describe implements [prometheus.Collector].
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	d := c.descs
	for _, desc := range []*prometheus.Desc{
		d.size, d.free, d.room, d.segments, d.corrupt, d.readOnly, d.diskFull, d.accepted, d.messages, d.bytes, d.capacity, d.oldest, d.drainMessages,
		d.delivered, d.expired, d.cancelled, d.dead, d.imbalance, d.intervalActive, d.intervalNextEdge,
		d.closed, d.fullAt, d.streamOrphaned, d.drainOrphaned,
	} {
		ch <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	out := emitter{ch}
	st := c.stats()
	out.gauge(c.descs.size, float64(st.Bytes))
	out.gauge(c.descs.free, float64(st.Free))
	out.gauge(c.descs.room, float64(st.Room))
	for _, state := range []string{"open", "sealed"} {
		out.gauge(c.descs.segments, float64(st.Segments[state]), state)
	}
	out.counter(c.descs.corrupt, float64(st.Corrupt))
	out.gauge(c.descs.readOnly, oneIf(st.ReadOnly))
	now := time.Now()
	full := c.fills.look(now, st)
	out.gauge(c.descs.diskFull, unixOrNever(full.disk))
	// In the order of a scrape, which then has less to sort.
	slices.SortFunc(st.Streams, func(a, b buffer.StreamStats) int { return strings.Compare(a.Stream, b.Stream) })
	slices.SortFunc(st.Drains, func(a, b buffer.DrainStats) int { return strings.Compare(a.Drain, b.Drain) })
	for _, s := range st.Streams {
		c.stream(out, s, now, full.streams[s.Stream])
	}
	for _, d := range st.Drains {
		c.drain(out, d)
	}
	for _, a := range c.ledger.accounts(now, st.Drains) {
		out.gauge(c.descs.imbalance, float64(a.Imbalance()), a.Stream, a.Drain)
	}
	c.intervals(out, now)
}

func (c *stateCollector) stream(out emitter, s buffer.StreamStats, now, full time.Time) {
	out.counter(c.descs.accepted, float64(s.Accepted), s.Stream)
	out.gauge(c.descs.messages, float64(s.Messages), s.Stream)
	out.gauge(c.descs.bytes, float64(s.Bytes), s.Stream)
	capacity := math.Inf(1)
	if s.MaxBytes > 0 {
		capacity = float64(s.MaxBytes)
	}
	out.gauge(c.descs.capacity, capacity, s.Stream)
	out.gauge(c.descs.oldest, unixSeconds(s.Oldest), s.Stream)
	out.gauge(c.descs.fullAt, unixOrNever(full), s.Stream)
	_, closed := c.gate.at(s.Stream, now)
	out.gauge(c.descs.closed, oneIf(closed), s.Stream)
	out.gauge(c.descs.streamOrphaned, oneIf(s.Orphaned), s.Stream)
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (c *stateCollector) drain(out emitter, d buffer.DrainStats) {
	var dead uint64
	for _, reason := range buffer.Reasons() {
		dead += d.Dead[reason]
		out.counter(c.descs.dead, float64(d.Buried[reason]), d.Drain, string(reason))
	}
	out.gauge(c.descs.drainMessages, float64(d.Pending), d.Drain, "pending")
	out.gauge(c.descs.drainMessages, float64(d.InFlight), d.Drain, "in_flight")
	out.gauge(c.descs.drainMessages, float64(d.Scheduled), d.Drain, "scheduled")
	out.gauge(c.descs.drainMessages, float64(dead), d.Drain, "dead")
	out.counter(c.descs.delivered, float64(d.Delivered), d.Drain)
	out.counter(c.descs.expired, float64(d.Expired), d.Drain)
	out.counter(c.descs.cancelled, float64(d.Cancelled), d.Drain)
	out.gauge(c.descs.drainOrphaned, oneIf(d.Orphaned), d.Drain)
}

func (c *stateCollector) intervals(out emitter, now time.Time) {
	set := c.policy()
	for i := range set.Intervals {
		iv := &set.Intervals[i]
		out.gauge(c.descs.intervalActive, oneIf(iv.Active(now)), iv.Name)
		out.gauge(c.descs.intervalNextEdge, unixOrNever(iv.NextChange(now)), iv.Name)
	}
}

// emitter sends samples to a scrape.
type emitter struct{ ch chan<- prometheus.Metric }

func (e emitter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (e emitter) counter(d *prometheus.Desc, v float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

// unixOrNever is +Inf for the zero time.
func unixOrNever(t time.Time) float64 {
	if t.IsZero() {
		return math.Inf(1)
	}
	return unixSeconds(t)
}

// unixSeconds is 0 for the zero time.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
