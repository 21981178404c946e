package app

import (
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// awkward has metrics of each type, and what is hard to write.
func awkward() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	auto := promauto.With(reg)
	auto.NewCounter(prometheus.CounterOpts{Name: "none_total", Help: "No labels: a \\ and a \"quote\"\nand a line."}).Add(3)
	c := auto.NewCounterVec(prometheus.CounterOpts{Name: "some_total"}, []string{"a", "b"})
	c.WithLabelValues("", `"quoted"`).Add(1e21)
	c.WithLabelValues("a\\b\nc", "ü").Add(0.25)
	g := auto.NewGaugeVec(prometheus.GaugeOpts{Name: "gauge", Help: "h"}, []string{"a"})
	for name, v := range map[string]float64{"inf": math.Inf(1), "-inf": math.Inf(-1), "nan": math.NaN(), "-1": -1, "1": 1, "small": 1e-9, "large": 1.7e9, "long": 1732550400.123} {
		g.WithLabelValues(name).Set(v)
	}
	h := auto.NewHistogramVec(prometheus.HistogramOpts{Name: "seconds", Help: "h", Buckets: []float64{.001, 1, 2.5, 1e7}}, []string{"a"})
	h.WithLabelValues("none")
	for _, v := range []float64{.001, 2, 3, 1e8} {
		h.WithLabelValues("some").Observe(v)
	}
	auto.NewHistogram(prometheus.HistogramOpts{Name: "plain", Help: "h", NativeHistogramBucketFactor: 1.1, Buckets: []float64{1}}).Observe(4)
	s := auto.NewSummaryVec(prometheus.SummaryOpts{Name: "quantiles", Help: "h", Objectives: map[float64]float64{.5: .05, .99: .001}}, []string{"a"})
	s.WithLabelValues("x").Observe(7)
	s.WithLabelValues("none")
	return reg
}

func scraped(t *testing.T, h http.Handler, fields ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	resp := w.Result()
	body := io.Reader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			t.Fatal(err)
		}
		body = z
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// TestExposition: what is written here is what promhttp writes, to the byte.
func TestExposition(t *testing.T) {
	want, text := scraped(t, promhttp.HandlerFor(awkward(), promhttp.HandlerOpts{}))
	for _, accepted := range []string{"", "gzip", "br, gzip;q=0.5", "gzip;q=0, identity"} {
		reg := awkward()
		h := metricsHandler(reg)
		got, said := scraped(t, h, "Accept-Encoding", accepted)
		said = withoutHandlers(said)
		if diff := cmp.Diff(text, said); diff != "" {
			t.Errorf("accepting %q (-promhttp +ours):\n%s", accepted, diff)
		}
		if got.StatusCode != 200 || got.Header.Get("Content-Type") != want.Header.Get("Content-Type") {
			t.Errorf("%d, Content-Type %q; want %q", got.StatusCode, got.Header.Get("Content-Type"), want.Header.Get("Content-Type"))
		}
		if zipped := got.Header.Get("Content-Encoding") == "gzip"; zipped != strings.Contains(accepted, "gzip") && !strings.Contains(accepted, "q=0,") {
			t.Errorf("accepting %q: compressed %t", accepted, zipped)
		}
	}
	const protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	if got, _ := scraped(t, metricsHandler(awkward()), "Accept", protobuf); !strings.HasPrefix(got.Header.Get("Content-Type"), "application/vnd.google.protobuf") {
		t.Errorf("who asks for protocol buffers gets %q", got.Header.Get("Content-Type"))
	}
}

// withoutHandlers leaves out what promhttp counts of itself.
func withoutHandlers(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "promhttp_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestScrapesAtOnce: a scraper that hangs does not gather memory.
func TestScrapesAtOnce(t *testing.T) {
	held, release := make(chan struct{}), make(chan struct{})
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "slow"}, func() float64 { held <- struct{}{}; <-release; return 0 }))
	h, done := metricsHandler(reg), make(chan int)
	for range maxScrapes {
		go func() { resp, _ := scraped(t, h); done <- resp.StatusCode }()
		<-held
	}
	if resp, _ := scraped(t, h); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one scrape more = %d, want 503", resp.StatusCode)
	}
	close(release)
	for range maxScrapes {
		if code := <-done; code != 200 {
			t.Errorf("a scrape = %d, want 200", code)
		}
	}
}
