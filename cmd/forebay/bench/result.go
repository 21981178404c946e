package bench

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// lateSend is how late a hundredth of the sends may be before the figures are
// doubted: it is what a loaded machine does, and more than most targets take.
const lateSend = 5 * time.Millisecond

// Result is what a run measured, warming up aside. Durations are seconds.
type Result struct {
	Requests          int64             `json:"requests"` // that were due, however they ended
	Succeeded         int64             `json:"succeeded"`
	Statuses          map[string]int64  `json:"statuses"` // of answers
	Errors            map[Failure]int64 `json:"errors"`   // of requests without one
	TookSeconds       float64           `json:"took_seconds"`
	AnsweredRate      float64           `json:"answered_rate"` // answers a second
	Latency           *Latency          `json:"latency"`       // nil: nobody waited for an answer
	Waited            int64             `json:"waited"`        // requests that found every connection busy
	ConnectionsOpened int64             `json:"connections_opened"`
	Lag               Lag               `json:"lag"`
	FirstFailure      *FirstFailure     `json:"-"` // nil: all succeeded
	Interrupted       bool              `json:"interrupted"`
	Warnings          []string          `json:"warnings"` // why not to believe the figures
}

// FirstFailure is the request that began first of those that did not succeed. What
// was broken off at the end of a run is none.
type FirstFailure struct {
	Began time.Time
	What  string // its status, or why it has none
}

// Latency is from when a request was due to the end of its answer. Time-outs and
// what was broken off count with the time until then; refused and closed
// connections do not count.
type Latency struct {
	Mean float64 `json:"mean_seconds"`
	P50  float64 `json:"p50_seconds"`
	P90  float64 `json:"p90_seconds"`
	P95  float64 `json:"p95_seconds"`
	P99  float64 `json:"p99_seconds"`
	P999 float64 `json:"p999_seconds"`
	Max  float64 `json:"max_seconds"`
}

// Lag is by how much the generator itself sent late, where a connection was free.
type Lag struct {
	P50 float64 `json:"p50_seconds"`
	P99 float64 `json:"p99_seconds"`
	Max float64 `json:"max_seconds"`
}

func (b *Bench) result(interrupted bool) Result {
	t := b.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	took := max(t.ended-b.cfg.Warmup, 0)
	if !interrupted {
		took = max(took, b.cfg.For)
	}
	r := Result{
		Requests: t.answered + t.failed, Errors: maps.Clone(t.failures), Statuses: make(map[string]int64),
		TookSeconds: took.Seconds(), Latency: latencyOf(t.latency), Waited: t.waited,
		ConnectionsOpened: t.opened.Load(), Lag: lagOf(t.lag), Interrupted: interrupted,
	}
	for status, n := range t.statuses {
		r.Statuses[strconv.Itoa(status)] = n
		if (outcome{status: status}).succeeded() {
			r.Succeeded += n
		}
	}
	if o := t.failing; o != nil {
		r.FirstFailure = &FirstFailure{Began: b.start.Add(o.began), What: string(o.failure)}
		if o.failure == Answered {
			r.FirstFailure.What = strconv.Itoa(o.status)
		}
	}
	if took > 0 {
		r.AnsweredRate = float64(t.answered) / took.Seconds()
	}
	r.Warnings = b.warnings(r)
	return r
}

func (b *Bench) warnings(r Result) []string {
	said := []string{}
	if lag := time.Duration(r.Lag.P99 * float64(time.Second)); lag > lateSend {
		said = append(said, fmt.Sprintf("the generator was late: one send in a hundred by %v or more with a connection free; do not believe the latencies, and give it a lower rate or a machine of its own", lag.Round(100*time.Microsecond)))
	}
	if b.cfg.Rate > 0 && r.Waited*10 > r.Requests {
		said = append(said, fmt.Sprintf("%d %% of the requests found all %d connections busy: latencies hold the wait for one; with more connections the target would have got the load it was meant to get", 100*r.Waited/r.Requests, b.cfg.Connections))
	}
	return said
}

func seconds(us int64) float64 { return float64(us) / 1e6 }

func latencyOf(h *hdrhistogram.Histogram) *Latency {
	if h.TotalCount() == 0 {
		return nil
	}
	at := func(q float64) float64 { return seconds(h.ValueAtQuantile(q)) }
	return &Latency{Mean: h.Mean() / 1e6, P50: at(50), P90: at(90), P95: at(95), P99: at(99), P999: at(99.9), Max: seconds(h.Max())}
}

func lagOf(h *hdrhistogram.Histogram) Lag {
	return Lag{P50: seconds(h.ValueAtQuantile(50)), P99: seconds(h.ValueAtQuantile(99)), Max: seconds(h.Max())}
}
