package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// report prints medians over the rounds. A request holds so many messages.
func report(w io.Writer, sides []side, rounds [][]round, messages int) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "medians\tmessages/s\tp50\tp99\tserver µs\tin kernel\tclient µs\tin kernel\t")
	for i, s := range sides {
		var rates []float64
		var all histogram
		for _, r := range rounds[i] {
			rates = append(rates, r.rate()*float64(messages))
			all.add(&r.latency)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%v\t%v\t", s.name, median(rates), all.quantile(0.5), all.quantile(0.99))
		for _, of := range []func(round) time.Duration{
			func(r round) time.Duration { return r.serverUser + r.serverSystem },
			func(r round) time.Duration { return r.serverSystem },
			func(r round) time.Duration { return r.clientUser + r.clientSystem },
			func(r round) time.Duration { return r.clientSystem },
		} {
			fmt.Fprintf(t, "%.1f\t", aRequest(rounds[i], of))
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // as little can be done about it as about the lines above
	fmt.Fprintln(w)
}

// aRequest is the processor time of a request, in microseconds.
func aRequest(rounds []round, of func(round) time.Duration) float64 {
	var all []float64
	for _, r := range rounds {
		all = append(all, of(r).Seconds()*1e6/float64(r.sent))
	}
	return median(all)
}

// ratios prints the ratio of each round's pair: its median is less moved by what
// else the machine did than the medians' ratio.
func ratios(w io.Writer, name string, of, to []round) {
	ratiosBy(w, name, of, to, round.rate)
}

// costs is ratios of the processor time that a server takes for a request.
func costs(w io.Writer, name string, of, to []round) {
	ratiosBy(w, name, of, to, func(r round) float64 { return (r.serverUser + r.serverSystem).Seconds() / float64(r.sent) })
}

func ratiosBy(w io.Writer, name string, of, to []round, by func(round) float64) {
	all := make([]float64, len(of))
	for i := range of {
		all[i] = by(of[i]) / by(to[i])
	}
	fmt.Fprintf(w, "%s: %.3f in the median (%.3f to %.3f)\n", name, median(all), slices.Min(all), slices.Max(all))
}

func written(w io.Writer, rounds []round) {
	var body, written, stored uint64
	for _, r := range rounds {
		body, written, stored = body+r.body, written+r.written, stored+r.stored
	}
	if written == 0 || stored == 0 {
		fmt.Fprintln(w, "bytes written: this system does not tell")
		return
	}
	fmt.Fprintf(w, "bytes written: %.3f a body byte, %.3f a byte stored (a byte stored holds %.2f body bytes)\n",
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
