package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const postArg = "post-bare"

// atOnce is the most that a drain is taken to deliver in a second, here.
const atOnce = 60_000

// drain has a backlog leave as fast as it can, and a bare client of the standard
// library post the same orders from memory over as many connections.
func drain(ctx context.Context, o options) (err error) {
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
	fmt.Printf("%d connections, %d rounds of %v each, to a sink that answers at once\n\n", o.connections, o.rounds, o.measure)
	sides := []side{{name: "bare client"}, {name: "forebay"}}
	rounds := make([][]round, len(sides))
	for i := range o.rounds {
		bare, err := roundOfBare(ctx, o, sink, d)
		if err != nil {
			return fmt.Errorf("round %d, bare client: %w", i+1, err)
		}
		ours, err := roundOfDrain(ctx, o, d)
		if err != nil {
			return fmt.Errorf("round %d, forebay: %w", i+1, err)
		}
		rounds[0], rounds[1] = append(rounds[0], bare), append(rounds[1], ours)
		fmt.Printf("round %d   bare client %.0f/s   forebay %.0f/s\n", i+1, bare.rate(), ours.rate())
	}
	report(os.Stdout, sides, rounds, 1)
	ratios(os.Stdout, "forebay / bare client", rounds[1], rounds[0])
	costs(os.Stdout, "processor time, forebay / bare client", rounds[1], rounds[0])
	return nil
}

func roundOfDrain(ctx context.Context, o options, d *drained) (r round, err error) {
	if err := d.fill(ctx, int64(atOnce*(o.warm+o.measure).Seconds())); err != nil {
		return r, err
	}
	unlimited := pacing{schedule: "base: unlimited", budget: fmt.Sprintf("concurrency: { max: %d }", o.connections)}
	if err := d.pace(ctx, unlimited); err != nil {
		return r, err
	}
	if r, err = d.sink.measure(ctx, o, d.process); err != nil {
		return r, err
	}
	if err := d.pace(ctx, stopped); err != nil {
		return r, err
	}
	return r, d.sink.still(ctx)
}

func roundOfBare(ctx context.Context, o options, sink *logSink, d *drained) (r round, err error) {
	before := sink.took.Load()
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	p, err := start(exec.Command(self, postArg, sink.addr(), strconv.Itoa(o.connections), o.orders))
	if err != nil {
		return r, err
	}
	r, err = sink.measure(ctx, o, p)
	if err = errors.Join(err, p.stop()); err != nil {
		return r, err
	}
	err = sink.still(ctx)
	d.passed += sink.took.Load() - before
	return r, err
}

// measure counts what one process sends.
func (s *logSink) measure(ctx context.Context, o options, p *process) (r round, err error) {
	if err := rest(ctx, o.warm); err != nil {
		return r, err
	}
	if _, err := s.arrivals(); err != nil {
		return r, err
	}
	user, system := p.times()
	ownUser, ownSystem := ownTimes()
	began, before := time.Now(), s.took.Load()
	if err := rest(ctx, o.measure); err != nil {
		return r, err
	}
	r.took, r.requests = time.Since(began), uint64(s.took.Load()-before)
	r.sent = r.requests
	r.serverUser, r.serverSystem = p.times()
	r.serverUser, r.serverSystem = r.serverUser-user, r.serverSystem-system
	r.clientUser, r.clientSystem = ownTimes()
	r.clientUser, r.clientSystem = r.clientUser-ownUser, r.clientSystem-ownSystem
	if r.requests == 0 {
		return r, errors.New("nothing was sent")
	}
	_, err = s.arrivals()
	return r, err
}

// postBare is the baseline: what the standard library has, with no more than a pool
// that is large enough, until it is told to stop.
func postBare(addr, connections, file string) error {
	n, err := strconv.Atoi(connections)
	if err != nil {
		return err
	}
	orders, err := readOrders(file)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Fprintln(os.Stderr, "msg=ready")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, n
	client := http.Client{Transport: transport}
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			for k := i; ctx.Err() == nil && errs[i] == nil; k++ {
				errs[i] = postOne(&client, "http://"+addr+"/v1/orders", orders[k%len(orders)])
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func postOne(client *http.Client, url string, body []byte) error {
	resp, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
