package main_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// An envelope is what a sink's log may show of a rate: in any stretch of t
// seconds at most rate × t + burst attempts, and for the receiver's own clock
// one message and 5 ms of the rate more.
type envelope struct {
	rate  float64
	burst float64
	late  time.Duration // what the machine itself was late; under 5 ms it does not count
}

// breach looks at every window from 0.1 s to 5 s and describes the first that
// holds too many arrivals; empty when there is none. at is sorted.
func (e envelope) breach(at []time.Time) string {
	slack := 1 + e.rate*max(5*time.Millisecond, e.late).Seconds()
	for i := range at {
		// The fullest window of a length begins with an arrival, and a window that
		// is shorter than 0.1 s is judged as one of 0.1 s.
		for j := i + 1; j < len(at); j++ {
			length := at[j].Sub(at[i])
			if length > 5*time.Second {
				break
			}
			length = max(length, 100*time.Millisecond)
			allowed := e.rate*length.Seconds() + e.burst + slack
			if got := float64(j - i + 1); got > allowed {
				return fmt.Sprintf("%.0f arrivals within %v from %s, at most %.1f allowed at %g/s and burst %g",
					got, length, at[i].Format(time.StampMicro), allowed, e.rate, e.burst)
			}
		}
	}
	return ""
}

// A lateness is how late this machine lets things happen: between a token and
// the request that is written for it, no program is better than that.
type lateness struct{ worst atomic.Int64 }

// watchLateness looks at a timer until the test has ended.
func watchLateness(t *testing.T) *lateness {
	var l lateness
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		const step = 2 * time.Millisecond
		timer := time.NewTimer(step)
		defer timer.Stop()
		for {
			due := time.Now().Add(step)
			timer.Reset(step)
			select {
			case <-timer.C:
				l.worst.Store(max(l.worst.Load(), int64(time.Since(due))))
			case <-quit:
				return
			}
		}
	}()
	t.Cleanup(func() { close(quit); <-done })
	return &l
}

func (l *lateness) max() time.Duration { return time.Duration(l.worst.Load()) }

// meanRate is that of the arrivals in the log, which is sorted.
func meanRate(log []arrival) float64 {
	return float64(len(log)-1) / log[len(log)-1].At.Sub(log[0].At).Seconds()
}

func times(log []arrival) []time.Time {
	at := make([]time.Time, len(log))
	for i, a := range log {
		at[i] = a.At
	}
	return at
}

func TestEnvelope(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	grid := func(n int, step time.Duration, extra ...time.Duration) []time.Time {
		var at []time.Time
		for i := range n {
			at = append(at, start.Add(time.Duration(i)*step))
			for _, e := range extra {
				if i == n/2 {
					at = append(at, at[len(at)-1].Add(e))
				}
			}
		}
		return at
	}
	tests := []struct {
		name string
		at   []time.Time
		ok   bool
		// lateOK: it is no breach where the machine was late.
		lateOK bool
	}{
		{"none", nil, true, true},
		{"on the grid", grid(500, 10*time.Millisecond), true, true},
		{"one beside the grid", grid(500, 10*time.Millisecond, time.Millisecond), true, true},
		{"two beside the grid", grid(500, 10*time.Millisecond, time.Millisecond, time.Millisecond), false, true},
		{"two percent too fast for five seconds", grid(520, 9800*time.Microsecond), false, false},
		{"all at once", grid(20, 0), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := envelope{rate: 100, burst: 1}.breach(tt.at)
			if (got == "") != tt.ok {
				t.Errorf("breach of %d arrivals = %q, want ok %v", len(tt.at), got, tt.ok)
			}
			// The machine was late by 20 ms: two messages more, and no flood.
			if got := (envelope{rate: 100, burst: 1, late: 20 * time.Millisecond}).breach(tt.at); (got == "") != tt.lateOK {
				t.Errorf("breach on a busy machine = %q, want ok %v", got, tt.lateOK)
			}
		})
	}
}
