package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// receiver is what the receiver's log may exceed the envelope by, beside one message.
const receiver = 5 * time.Millisecond

var spans = []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second, time.Minute}

// window is the stretch of a length in which most requests came.
type window struct {
	span time.Duration
	most int
	may  float64
}

func (w window) holds() bool { return float64(w.most) <= w.may }

// windows compares a log with a rate: in any stretch t at most rate × t + burst came,
// and one more and 5 ms of the rate, for the receiver's clock.
func windows(log []int64, rate float64, burst int) (all []window) {
	for _, span := range spans {
		if len(log) == 0 || log[len(log)-1]-log[0] < int64(span) {
			break
		}
		all = append(all, window{span, most(log, span), rate*(span+receiver).Seconds() + float64(burst) + 1})
	}
	return all
}

// most is how many came in the worst stretch of a length, which begins with one of them.
func most(log []int64, span time.Duration) (n int) {
	end := 0
	for begin := range log {
		for end < len(log) && log[end]-log[begin] <= int64(span) {
			end++
		}
		n = max(n, end-begin)
	}
	return n
}

// mean is the rate from the first to the last of a log that begins later than a time.
func mean(log []int64, from int64) float64 {
	for len(log) > 0 && log[0] < from {
		log = log[1:]
	}
	if len(log) < 2 {
		return 0
	}
	return float64(len(log)-1) / time.Duration(log[len(log)-1]-log[0]).Seconds()
}

// paced is what came of one rate.
type paced struct {
	by      string
	rate    float64
	mean    float64
	windows []window
	server  time.Duration // of processor, for a message
}

func (p paced) holds() bool {
	for _, w := range p.windows {
		if !w.holds() {
			return false
		}
	}
	return p.mean > 0.99*p.rate && p.mean < 1.01*p.rate
}

// pacedTable prints the most of any window, and what it may be.
func pacedTable(w io.Writer, all []paced) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "rate by\ta second\tmean\t")
	for _, span := range spans {
		fmt.Fprintf(t, "most in %v\t", span)
	}
	fmt.Fprintln(t, "server µs\t\t")
	for _, p := range all {
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t", p.by, p.rate, p.mean)
		for i := range spans {
			if i < len(p.windows) {
				fmt.Fprintf(t, "%d of %.0f\t", p.windows[i].most, p.windows[i].may)
			} else {
				fmt.Fprint(t, "-\t")
			}
		}
		says := "inside"
		if !p.holds() {
			says = "OUTSIDE"
		}
		fmt.Fprintf(t, "%.1f\t%s\t\n", float64(p.server)/1e3, says)
	}
	return t.Flush()
}
