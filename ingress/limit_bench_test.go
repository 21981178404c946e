package ingress

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// BenchmarkLimited is what a request costs of the processors that three limits
// let pass, stored on disk beside others, and one that they refuse.
func BenchmarkLimited(b *testing.B) {
	for name, burst := range map[string]int{"refused": 1, "accepted": 2_000_000_000} {
		b.Run(name, func(b *testing.B) {
			engine, err := buffer.Open(b.Context(), buffer.Config{Dir: b.TempDir(), SegmentBytes: 64 << 20})
			if err != nil {
				b.Fatal(err)
			}
			defer engine.Close()
			if err := engine.Configure([]buffer.Stream{{Name: "orders", Drains: []string{"orders-to-service"}}}); err != nil {
				b.Fatal(err)
			}
			set := parsePolicy(b, limited(fmt.Sprintf("  - { name: everyone, rate: 1000000/s, burst: 2000000000 }\n  - { name: per-ip, rate: 1000000/s, burst: 1000000, key: [client_ip] }\n"+
				"  - { name: per-customer, rate: 1/h, burst: %d, key: [\"header:X-Customer-Id\"] }\n", burst), "everyone, per-ip, per-customer", ""))
			f := newFixture(b, func(c *Config) {
				c.Buffer, c.Policy = engine, func() *policies.Set { return set }
			})
			order := `{"customer_id":"c-1","items":[` + strings.Repeat(`{"sku":"s-1","quantity":1},`, 10) + `{}]}`
			before := processorTime(b)
			b.ReportAllocs()
			b.SetParallelism(64)
			b.RunParallel(func(p *testing.PB) {
				r := request(b.Context(), "POST", "/v1/orders", "", "Content-Type: application/json", "X-Customer-Id: c-7")
				content := &body{}
				r.Body = content
				w := &noWriter{header: http.Header{}}
				for p.Next() {
					content.Reset(order)
					clear(w.header)
					f.ServeHTTP(w, r)
				}
			})
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime is what this process has used of the processors.
func processorTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
