package kafka

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector reads where the sources stand when it is scraped.
type collector struct {
	sources                                *Sources
	records, lag, state, paused, errors, n *prometheus.Desc
}

func newCollector(s *Sources) *collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("forebay_source_"+name, help, append([]string{"source"}, labels...), nil)
	}
	return &collector{
		sources: s,
		records: d("records_total", "Records since the start: stored, refused (written to the topic of on_refused), and stopped (that stopped a partition).", "result"),
		lag:     d("lag_messages", "Records that are not stored, of the partitions that the source has."),
		state:   d("state", "What the source does: 1 for one of connecting, running, paused, stopped and failing.", "state"),
		paused:  d("paused", "Why the source waits for the buffer: 1 for one reason, 0 where it does not.", "reason"),
		errors:  d("errors_total", "What went wrong at the cluster since the start, each attempt."),
		n:       d("partitions", "Partitions that the group gave the source."),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.records, c.lag, c.state, c.paused, c.errors, c.n} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	put := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	is := func(yes bool) float64 {
		if yes {
			return 1
		}
		return 0
	}
	for _, s := range c.sources.Status() {
		put(c.records, prometheus.CounterValue, float64(s.Stored), s.Name, "stored")
		put(c.records, prometheus.CounterValue, float64(s.Refused), s.Name, "refused")
		put(c.records, prometheus.CounterValue, float64(s.Stopped), s.Name, "stopped")
		put(c.lag, prometheus.GaugeValue, float64(s.Lag), s.Name)
		for _, state := range States() {
			put(c.state, prometheus.GaugeValue, is(s.State == state), s.Name, string(state))
		}
		for _, reason := range Reasons() {
			put(c.paused, prometheus.GaugeValue, is(s.Reason == reason), s.Name, string(reason))
		}
		put(c.errors, prometheus.CounterValue, float64(s.Errors), s.Name)
		put(c.n, prometheus.GaugeValue, float64(len(s.Partitions)), s.Name)
	}
}
