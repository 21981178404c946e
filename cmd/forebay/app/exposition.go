package app

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

const (
	// maxScrapes bounds the scrapes that are under way.
	maxScrapes = 4
	// flushAt is how much of an answer is written at once, in bytes.
	flushAt = 64 << 10
)

// metricsHandler serves the metrics. Those who ask for protocol buffers, in which
// alone native histograms can be said, get them from promhttp. The text is written
// here, for a third of what it costs there: with a thousand streams a scrape has
// well over 100,000 samples, most of them buckets of metrics whose labels are the same.
func metricsHandler(reg *prometheus.Registry) http.Handler {
	rich := promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg, Timeout: 30 * time.Second})
	under := make(chan struct{}, maxScrapes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case under <- struct{}{}:
			defer func() { <-under }()
		default:
			http.Error(w, fmt.Sprintf("%d scrapes are under way, try again", maxScrapes), http.StatusServiceUnavailable)
			return
		}
		if strings.Contains(r.Header.Get("Accept"), "application/vnd.google.protobuf") {
			rich.ServeHTTP(w, r)
			return
		}
		families, err := reg.Gather()
		if err != nil {
			http.Error(w, "gather metrics: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores")
		writeFamilies(w, families, takesGzip(r.Header.Get("Accept-Encoding")))
	})
}

func takesGzip(accepted string) bool {
	for part := range strings.SplitSeq(accepted, ",") {
		name, weight, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) == "gzip" {
			return strings.TrimSpace(weight) != "q=0"
		}
	}
	return false
}

// writeFamilies answers. A write that fails means that the scraper is gone.
func writeFamilies(w http.ResponseWriter, families []*dto.MetricFamily, compressed bool) {
	out := io.Writer(w)
	if compressed {
		w.Header().Set("Content-Encoding", "gzip")
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // the level exists
		defer func() { _ = z.Close() }()
		out = z
	}
	e := exposition{}
	for _, f := range families {
		e.begin(f)
		for _, m := range f.GetMetric() {
			e.metric(f, m)
			if len(e.b) < flushAt {
				continue
			}
			if _, err := out.Write(e.b); err != nil {
				return
			}
			e.b = e.b[:0]
		}
	}
	_, _ = out.Write(e.b)
}

// exposition writes the text format, version 0.0.4, without a time stamp of samples.
type exposition struct {
	b      []byte
	labels []byte // of the metric at hand, each with a comma behind
}

// begin writes the lines above the samples of a family.
func (e *exposition) begin(f *dto.MetricFamily) {
	e.b = append(e.b, "# HELP "+f.GetName()+" "...)
	e.b = escaped(e.b, f.GetHelp(), false)
	e.b = append(e.b, "\n# TYPE "+f.GetName()+" "+strings.ToLower(f.GetType().String())+"\n"...)
}

func (e *exposition) metric(f *dto.MetricFamily, m *dto.Metric) {
	e.labels = e.labels[:0]
	for _, l := range m.GetLabel() {
		e.labels = append(append(e.labels, l.GetName()...), `="`...)
		e.labels = append(escaped(e.labels, l.GetValue(), true), `",`...)
	}
	name := f.GetName()
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		e.sample(name, "", m.GetCounter().GetValue())
	case dto.MetricType_GAUGE:
		e.sample(name, "", m.GetGauge().GetValue())
	case dto.MetricType_SUMMARY:
		s := m.GetSummary()
		for _, q := range s.GetQuantile() {
			e.part(name, "", "quantile", q.GetQuantile(), q.GetValue())
		}
		e.sample(name, "_sum", s.GetSampleSum())
		e.sample(name, "_count", float64(s.GetSampleCount()))
	case dto.MetricType_HISTOGRAM:
		h := m.GetHistogram()
		for _, b := range h.GetBucket() {
			e.part(name, "_bucket", "le", b.GetUpperBound(), float64(b.GetCumulativeCount()))
		}
		e.part(name, "_bucket", "le", math.Inf(1), float64(h.GetSampleCount()))
		e.sample(name, "_sum", h.GetSampleSum())
		e.sample(name, "_count", float64(h.GetSampleCount()))
	}
}

func (e *exposition) sample(name, suffix string, v float64) {
	e.b = append(append(e.b, name...), suffix...)
	if n := len(e.labels); n > 0 {
		e.b = append(append(e.b, '{'), e.labels[:n-1]...)
		e.b = append(e.b, '}')
	}
	e.value(v)
}

// part is a sample of a metric that has several, told apart by one more label.
func (e *exposition) part(name, suffix, label string, bound, v float64) {
	e.b = append(append(append(e.b, name...), suffix...), '{')
	e.b = append(append(e.b, e.labels...), label...)
	e.b = number(append(e.b, `="`...), bound)
	e.b = append(e.b, `"}`...)
	e.value(v)
}

func (e *exposition) value(v float64) { e.b = append(number(append(e.b, ' '), v), '\n') }

func number(b []byte, v float64) []byte {
	switch {
	case v == 0: // nearly all of them
		return append(b, '0')
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	default:
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	}
}

// escaped appends a text as the format has it: quotes only where it is quoted.
func escaped(b []byte, text string, quoted bool) []byte {
	if !strings.ContainsAny(text, "\\\n\"") {
		return append(b, text...)
	}
	for _, c := range []byte(text) {
		switch {
		case c == '\\':
			b = append(b, `\\`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '"' && quoted:
			b = append(b, `\"`...)
		default:
			b = append(b, c)
		}
	}
	return b
}
