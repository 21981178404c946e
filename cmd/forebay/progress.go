package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// progressDraw is how often a line of progress is drawn.
const progressDraw = 200 * time.Millisecond

// progress is a line on a terminal that says how far a long command is; elsewhere
// it is silent.
type progress struct {
	n, of atomic.Int64 // bytes
	text  func(took time.Duration) string
	stop  chan struct{}
	drawn sync.WaitGroup
}

// startProgress draws how many bytes are done, on w until end.
func startProgress(w io.Writer, what string) *progress {
	p := &progress{stop: make(chan struct{})}
	p.text = func(took time.Duration) string { return progressText(p.n.Load(), p.of.Load(), took) }
	return p.start(w, what)
}

// startProgressOf draws a text.
func startProgressOf(w io.Writer, what string, text func(took time.Duration) string) *progress {
	p := &progress{stop: make(chan struct{}), text: text}
	return p.start(w, what)
}

func (p *progress) start(w io.Writer, what string) *progress {
	if ok, _ := terminal(w); ok {
		p.drawn.Go(func() { p.draw(w, what, time.Now()) })
	}
	return p
}

// set says how many bytes are done, and of how many.
func (p *progress) set(n, of int64) {
	p.n.Store(n)
	p.of.Store(of)
}

// end takes the line away.
func (p *progress) end() {
	close(p.stop)
	p.drawn.Wait()
}

func (p *progress) draw(w io.Writer, what string, begin time.Time) {
	tick := time.NewTicker(progressDraw)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_, _ = fmt.Fprintf(w, "\r\x1b[K%s: %s", what, p.text(time.Since(begin))) // a terminal that is gone shows nothing
		case <-p.stop:
			_, _ = io.WriteString(w, "\r\x1b[K")
			return
		}
	}
}

func progressText(n, of int64, took time.Duration) string {
	rate := bytesText(int64(float64(n)/max(took.Seconds(), 0.001))) + "/s"
	if of == 0 {
		return bytesText(n)
	}
	return fmt.Sprintf("%s of %s (%d %%), %s", bytesText(n), bytesText(of), 100*n/of, rate)
}
