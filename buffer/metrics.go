package buffer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what the engine measures itself; counts are in Stats.
type metrics struct {
	append *prometheus.HistogramVec
	commit prometheus.Histogram
	sync   prometheus.Histogram
	stalls prometheus.Counter
	read   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	seconds := prometheus.ExponentialBuckets(0.0001, 2, 16) // 0.1 ms … 3.3 s
	return &metrics{
		append: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "forebay_buffer_append_duration_seconds", Help: "Time from an append to its durability.",
			Buckets:                     prometheus.ExponentialBuckets(0.0002, 4, 8), // for each stream: fewer
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}, []string{"stream"}),
		commit: f.NewHistogram(prometheus.HistogramOpts{
			Name: "forebay_buffer_commit_messages", Help: "Messages that one commit made durable.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 16),
		}),
		sync: f.NewHistogram(prometheus.HistogramOpts{
			Name: "forebay_buffer_sync_duration_seconds", Help: "Time that one commit took to be written and synced.",
			Buckets: seconds, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}),
		stalls: f.NewCounter(prometheus.CounterOpts{
			Name: "forebay_buffer_stalled_commits_total", Help: "Commits that took over 2 s: their callers were sent away meanwhile, and others refused.",
		}),
		read: f.NewCounter(prometheus.CounterOpts{
			Name: "forebay_buffer_read_blocks_total", Help: "Blocks of messages that were read from segments, because they were not in memory; a drain that keeps up causes none.",
		}),
	}
}

func (m *metrics) committed(messages int, d time.Duration) {
	m.commit.Observe(float64(messages))
	m.sync.Observe(d.Seconds())
}
