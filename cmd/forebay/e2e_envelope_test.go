package main_test

import (
	"fmt"
	"testing"
	"time"
)

// An envelope is what a sink's log may show of a rate: in any stretch of t
// seconds at most rate × t + burst attempts, and for the receiver's own clock
// one message and 5 ms of the rate more.
type envelope struct {
	rate  float64
	burst float64
}

// breach looks at every window from 0.1 s to 5 s and describes the first that
// holds too many arrivals; empty when there is none. at is sorted.
func (e envelope) breach(at []time.Time) string {
	slack := 1 + 0.005*e.rate
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
	}{
		{"none", nil, true},
		{"on the grid", grid(500, 10*time.Millisecond), true},
		{"one beside the grid", grid(500, 10*time.Millisecond, time.Millisecond), true},
		{"two beside the grid", grid(500, 10*time.Millisecond, time.Millisecond, time.Millisecond), false},
		{"two percent too fast for five seconds", grid(520, 9800*time.Microsecond), false},
		{"all at once", grid(20, 0), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := envelope{rate: 100, burst: 1}.breach(tt.at)
			if (got == "") != tt.ok {
				t.Errorf("breach of %d arrivals = %q, want ok %v", len(tt.at), got, tt.ok)
			}
		})
	}
}
