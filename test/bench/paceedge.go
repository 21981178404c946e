package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// edgeRate is what the window lets through. Beside it nothing may be sent.
	edgeRate = 5000
	// firstWithin is how soon after the edge the first delivery is.
	firstWithin = 50 * time.Millisecond
)

// minute is a window that is one minute of the clock.
type minute struct{ from, to time.Time }

// coming is the next minute that begins in ten seconds or later: until then the
// backlog is filled.
func coming(now time.Time) minute {
	from := now.UTC().Add(10 * time.Second).Truncate(time.Minute).Add(time.Minute)
	return minute{from, from.Add(time.Minute)}
}

func (m minute) pacing(rate int) pacing {
	end := m.to.Format("15:04")
	if end == "00:00" {
		end = "24:00"
	}
	return pacing{
		intervals: fmt.Sprintf(`  - { name: open, intervals: [{ dates: ["%s"], times: [{ start_time: "%s", end_time: "%s" }], location: UTC }] }`,
			m.from.Format(time.DateOnly), m.from.Format("15:04"), end),
		schedule: fmt.Sprintf("base: 0, entries: [{ name: open, during: [open], rate: %d/s }]", rate),
	}
}

// edges has a window open and close, and looks for what came outside of it.
func edges(ctx context.Context, o options) (err error) {
	sink, err := listenSink()
	if err != nil {
		return err
	}
	defer sink.close()
	d, err := startDrained(o, sink)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	if err := d.fill(ctx, edgeRate*70); err != nil {
		return err
	}
	m := coming(time.Now())
	if err := d.pace(ctx, m.pacing(edgeRate)); err != nil {
		return err
	}
	if err := rest(ctx, time.Until(m.to.Add(2*time.Second))); err != nil {
		return err
	}
	log, err := sink.arrivals()
	if err != nil {
		return err
	}
	return m.judge(log)
}

// judge looks at what came around the window. What left before its end may reach the
// receiver's log as much later as the envelope allows.
func (m minute) judge(log []int64) error {
	if len(log) == 0 {
		return errors.New("nothing came in the window")
	}
	first := time.Duration(log[0] - m.from.UnixNano())
	last := time.Duration(log[len(log)-1] - m.to.UnixNano())
	fmt.Printf("\na window of a minute at %d/s: the first came %v after it began, the last %v before it ended; %d in all\n",
		edgeRate, first.Round(10*time.Microsecond), -last.Round(10*time.Microsecond), len(log))
	if first < 0 || first > firstWithin || last > receiver {
		return errOutside
	}
	return nil
}
