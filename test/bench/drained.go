package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// drained is the program with one drain to the sink, and what was posted to it.
type drained struct {
	*process
	dir    string
	sink   *logSink
	client http.Client
	orders []byte // a batch
	posted int64
	passed int64 // what others sent to the sink
}

// The policy of a drain to the sink.
const drainPolicy = `version: 1
time_intervals:
%s
sinks:
  - { name: order-service, http: { urls: ["http://%s"] }, budget: { %s } }
streams:
  - { name: orders, keep_delivered: 1s }
drains:
  - { name: orders-to-service, stream: orders, sink: order-service, schedule: { %s } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders, split: ndjson, max_body: 16MiB }
`

// pacing is what differs between the policies of a run.
type pacing struct{ intervals, budget, schedule string }

var stopped = pacing{schedule: "base: 0"}

func (p pacing) policy(addr string) string {
	intervals := p.intervals
	if intervals == "" {
		intervals = "  []"
	}
	return fmt.Sprintf(drainPolicy, intervals, addr, p.budget, p.schedule)
}

// startDrained starts the program before a sink to which nothing is sent yet.
func startDrained(o options, sink *logSink) (*drained, error) {
	text, err := os.ReadFile(o.orders)
	if err != nil {
		return nil, err
	}
	orders := bytes.SplitAfter(append(bytes.TrimSpace(text), '\n'), []byte("\n"))
	d := &drained{sink: sink, dir: filepath.Join(o.dir, fmt.Sprintf("data-%d", os.Getpid())), client: http.Client{Timeout: 30 * time.Second}}
	for i := range perBatch {
		d.orders = append(d.orders, orders[i%(len(orders)-1)]...)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	if d.process, err = startForebay(o.forebay, d.dir, stopped.policy(sink.addr())); err != nil {
		return nil, errors.Join(err, os.RemoveAll(d.dir))
	}
	return d, nil
}

func (d *drained) end() error { return errors.Join(d.process.stop(), os.RemoveAll(d.dir)) }

// fill posts until at least so many messages wait.
func (d *drained) fill(ctx context.Context, n int64) error {
	for d.posted-(d.sink.took.Load()-d.passed) < n {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.public+"/v1/orders", bytes.NewReader(d.orders))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-ndjson")
		resp, err := d.client.Do(req)
		if err != nil {
			return err
		}
		said, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read to its end
		if err != nil || resp.StatusCode != http.StatusAccepted {
			return fmt.Errorf("fill: %s %s: %w", resp.Status, said, err)
		}
		d.posted += perBatch
	}
	return nil
}

// pace changes how the sink is sent to, from now on.
func (d *drained) pace(ctx context.Context, p pacing) error {
	if err := os.WriteFile(filepath.Join(d.dir, "policy.yaml"), []byte(p.policy(d.sink.addr())), 0o600); err != nil {
		return err
	}
	_, err := d.ask(ctx, http.MethodPost, "/api/v1/reload")
	return err
}

// still waits until nothing was sent to the sink for a while.
func (s *logSink) still(ctx context.Context) error {
	for was := int64(-1); was != s.took.Load(); {
		was = s.took.Load()
		if err := rest(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
