package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

var errOutside = errors.New("outside of what is promised; see above")

// pace drains at several rates, and holds the sink's log against them.
func pace(ctx context.Context, o options) error {
	fmt.Printf("a backlog of orders drained for %v at each rate; the sink's log is what counts\n\n", o.measure)
	var all []paced
	for _, rate := range []int{10, 200, 5000, 20_000} {
		for _, c := range []struct {
			by string
			pacing
		}{
			{"schedule", pacing{schedule: fmt.Sprintf("base: %d/s", rate)}},
			{"budget", pacing{schedule: "base: unlimited", budget: fmt.Sprintf("rate: %d/s", rate)}},
		} {
			p, err := pacedAt(ctx, o, c.pacing, rate)
			if err != nil {
				return fmt.Errorf("%d/s by %s: %w", rate, c.by, err)
			}
			p.by = c.by
			all = append(all, p)
		}
	}
	if err := pacedTable(os.Stdout, all); err != nil {
		return err
	}
	err := edges(ctx, o)
	if slices.ContainsFunc(all, func(p paced) bool { return !p.holds() }) {
		err = errors.Join(err, errOutside)
	}
	return err
}

func pacedAt(ctx context.Context, o options, how pacing, rate int) (p paced, err error) {
	sink, err := listenSink()
	if err != nil {
		return p, err
	}
	defer sink.close()
	d, err := startDrained(o, sink)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	if err := d.fill(ctx, int64(float64(rate)*(o.warm+o.measure+2*time.Second).Seconds())); err != nil {
		return p, err
	}
	if err := d.pace(ctx, how); err != nil {
		return p, err
	}
	began := time.Now()
	if err := rest(ctx, o.warm); err != nil {
		return p, err
	}
	user, system := d.times()
	before := sink.took.Load()
	if err := rest(ctx, o.measure+100*time.Millisecond); err != nil { // the last window is to be whole
		return p, err
	}
	user2, system2 := d.times()
	n := sink.took.Load() - before
	log, err := sink.arrivals()
	if err != nil || n == 0 {
		return p, errors.Join(err, fmt.Errorf("%d requests came", n))
	}
	burst := max(1, rate/100)
	return paced{
		rate: float64(rate), mean: mean(log, began.Add(o.warm).UnixNano()), windows: windows(log, float64(rate), burst),
		server: (user2 + system2 - user - system) / time.Duration(n),
	}, nil
}
