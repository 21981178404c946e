package main

import (
	"context"
	"sync"
	"time"
)

// A round is what one server did in one measured stretch.
type round struct {
	requests uint64 // accepted within the measured stretch
	took     time.Duration
	latency  histogram
	body     uint64 // bytes of all bodies accepted, warming up included
	written  uint64 // bytes the process wrote; 0: not known
	stored   uint64 // bytes the stream takes on disk; 0: not known
	// What the processor did from the first request to the last, warming up included.
	sent                     uint64
	clientUser, clientSystem time.Duration
	serverUser, serverSystem time.Duration
}

func (r round) rate() float64 { return float64(r.requests) / r.took.Seconds() }

// client is one connection with one request at a time. It shares the machine
// with what it measures, so answers are barely parsed.
type client interface {
	// send sends a body and returns once it is accepted; anything else is an error.
	send(body []byte) error
	deadline(t time.Time) error
	close() error
}

// target is a server under load and how it is spoken to.
type target struct {
	addr string
	dial func(ctx context.Context, addr string, id int) (client, error)
}

// bodies makes what connection number id sends, one after the other. A body is
// good until the next is asked for.
type bodies func(id int) func() []byte

// load drives a target over that many connections, each sending the next body as
// soon as the last is accepted, and counts once warm has passed. The first
// failure ends it.
func load(ctx context.Context, t target, all bodies, connections int, warm, measure time.Duration) (round, error) {
	clients := make([]client, connections)
	for i := range clients {
		c, err := t.dial(ctx, t.addr, i)
		if err != nil {
			return round{}, err
		}
		defer func() { _ = c.close() }() // it has been of use
		clients[i] = c
	}
	user, system := ownTimes()
	from := time.Now().Add(warm)
	to := from.Add(measure)
	drives := make([]drive, connections)
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i, c := range clients {
		d, next := &drives[i], all(i)
		wg.Go(func() { errs[i] = d.run(ctx, c, next, from, to) })
	}
	wg.Wait()
	r := round{took: measure}
	r.clientUser, r.clientSystem = ownTimes()
	r.clientUser, r.clientSystem = r.clientUser-user, r.clientSystem-system
	for i := range drives {
		r.requests += drives[i].requests
		r.sent += drives[i].sent
		r.body += drives[i].body
		r.latency.add(&drives[i].latency)
	}
	// One is enough to read: they fail for the same reason.
	for _, err := range errs {
		if err != nil {
			return r, err
		}
	}
	return r, ctx.Err()
}

// drive is what one connection did.
type drive struct {
	requests uint64
	sent     uint64 // warming up included
	body     uint64
	latency  histogram
}

func (d *drive) run(ctx context.Context, c client, next func() []byte, from, to time.Time) error {
	if err := c.deadline(to.Add(30 * time.Second)); err != nil {
		return err
	}
	for began := time.Now(); began.Before(to) && ctx.Err() == nil; {
		body := next()
		if err := c.send(body); err != nil {
			return err
		}
		ended := time.Now()
		d.body += uint64(len(body))
		d.sent++
		if !ended.Before(from) && ended.Before(to) {
			d.requests++
			d.latency.record(ended.Sub(began))
		}
		began = ended
	}
	return nil
}
