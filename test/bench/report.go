package main

import (
	"fmt"
	"io"
	"slices"
)

// report prints medians over the rounds, and the ratio of each round's pair:
// its median is less moved by what else the machine did than the medians' ratio.
func report(w io.Writer, bare, forebay []round) {
	ratios := make([]float64, len(bare))
	for i := range bare {
		ratios[i] = forebay[i].rate() / bare[i].rate()
	}
	fmt.Fprintf(w, "\n%-8s  %12s  %10s  %10s\n", "", "req/s median", "p50", "p99")
	for _, side := range []struct {
		name   string
		rounds []round
	}{{"bare", bare}, {"forebay", forebay}} {
		var rates []float64
		var all histogram
		for _, r := range side.rounds {
			rates = append(rates, r.rate())
			all.add(&r.latency)
		}
		fmt.Fprintf(w, "%-8s  %12.0f  %10v  %10v\n", side.name, median(rates), all.quantile(0.5), all.quantile(0.99))
	}
	fmt.Fprintf(w, "\nratio forebay / bare: %.3f median (%.3f to %.3f)\n", median(ratios), slices.Min(ratios), slices.Max(ratios))

	var body, written, stored uint64
	for _, r := range forebay {
		body, written, stored = body+r.body, written+r.written, stored+r.stored
	}
	if written == 0 || stored == 0 {
		fmt.Fprintln(w, "bytes written: this system does not tell")
		return
	}
	fmt.Fprintf(w, "bytes written: %.3f a body byte, %.3f a byte stored (%.2f body bytes a byte stored)\n",
		ratio(written, body), ratio(written, stored), ratio(body, stored))
}

func ratio(a, b uint64) float64 { return float64(a) / float64(b) }

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
