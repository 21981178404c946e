package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"forebay/cmd/forebay/admin"
	"forebay/cmd/forebay/bench"
	"forebay/limiter"
)

// benchReport is what a load was, and what was measured.
type benchReport struct {
	config bench.Config
	bench.Result
}

// benchJSON is a report as JSON.
type benchJSON struct {
	Target        string     `json:"target"`
	Method        string     `json:"method"`
	Rate          admin.Rate `json:"rate"` // asked for
	Arrivals      string     `json:"arrivals"`
	ForSeconds    float64    `json:"for_seconds"`
	WarmupSeconds float64    `json:"warmup_seconds"`
	Connections   int        `json:"connections"`
	bench.Result
	FirstFailure *firstFailure `json:"first_failure"` // null: none
}

type firstFailure struct {
	Began admin.Time `json:"began_at"`
	What  string     `json:"what"`
}

func (r benchReport) json() benchJSON {
	j := benchJSON{
		Target: r.config.Target.String(), Method: r.config.Method, Rate: r.rate(), Arrivals: r.arrivals(),
		ForSeconds: r.config.For.Seconds(), WarmupSeconds: r.config.Warmup.Seconds(), Connections: r.config.Connections,
		Result: r.Result,
	}
	if f := r.Result.FirstFailure; f != nil {
		j.FirstFailure = &firstFailure{admin.Time{Time: f.Began}, f.What}
	}
	return j
}

func (r benchReport) rate() admin.Rate {
	if r.config.Rate == 0 {
		return admin.Rate(limiter.Unlimited)
	}
	return admin.Rate(r.config.Rate)
}

func (r benchReport) arrivals() string {
	switch {
	case r.config.Rate == 0:
		return "closed loop"
	case r.config.Poisson:
		return "poisson"
	}
	return "constant"
}

func (r benchReport) print(w io.Writer) {
	c := r.config
	fmt.Fprintf(w, "%s %s: %s (%s) over %d connections, %v", c.Method, c.Target, rateText(limiter.Rate(r.rate())), r.arrivals(), c.Connections, c.For)
	if c.Warmup > 0 {
		fmt.Fprintf(w, " after %v that are not counted", c.Warmup)
	}
	if r.Interrupted {
		fmt.Fprintf(w, "; ended after %.1f s", r.TookSeconds)
	}
	fmt.Fprint(w, "\n\n")
	r.printCounts(w)
	fmt.Fprintln(w)
	r.printLatency(w)
}

func (r benchReport) printCounts(w io.Writer) {
	t := table{head: []string{"RESULT", ">REQUESTS", ">SHARE", ">A SECOND"}}
	add := func(name string, n int64) {
		t.add(name, strconv.FormatInt(n, 10), fmt.Sprintf("%.2f %%", 100*float64(n)/float64(r.Requests)), perSecond(float64(n)/r.TookSeconds))
	}
	for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
		add(status, r.Statuses[status])
	}
	for _, failure := range slices.Sorted(maps.Keys(r.Errors)) {
		add("no answer: "+string(failure), r.Errors[failure])
	}
	if r.Requests > 0 {
		add("all", r.Requests)
	}
	t.none = "no request was due"
	t.write(w)
}

func (r benchReport) printLatency(w io.Writer) {
	t := table{head: []string{"", ">MEAN", ">P50", ">P90", ">P95", ">P99", ">P99.9", ">MAX"}}
	if l := r.Latency; l != nil {
		t.add("latency", latencyText(l.Mean), latencyText(l.P50), latencyText(l.P90), latencyText(l.P95), latencyText(l.P99), latencyText(l.P999), latencyText(l.Max))
	}
	if r.config.Rate > 0 {
		t.add("sent late", "", latencyText(r.Lag.P50), "", "", latencyText(r.Lag.P99), "", latencyText(r.Lag.Max))
	}
	t.write(w)
	if f := r.FirstFailure; f != nil {
		fmt.Fprintf(w, "the first to fail (%s) began at %s\n", f.What, f.Began.Format("15:04:05.000"))
	}
	fmt.Fprintf(w, "%d connections were opened; %d requests found all of them busy\n", r.ConnectionsOpened, r.Waited)
}

// latencyText prints seconds with three digits.
func latencyText(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	unit := time.Microsecond
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(cmp.Or(unit, 1)).String()
}

// hint says what to look at when nothing succeeded.
func (r benchReport) hint() string {
	switch {
	case r.Errors[bench.Refused] > 0:
		return "nothing listens at " + r.config.Target.Host
	case r.Errors[bench.Connect] > 0:
		return "look at the name and the certificate of " + r.config.Target.Host
	case len(r.Statuses) > 0:
		return "send one such request with curl: the answer says what is wrong with it"
	}
	return "give it longer: --for, --timeout"
}
