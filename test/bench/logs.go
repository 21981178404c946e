package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// gzipFloor is what gzip has to reach of plain.
const gzipFloor = 0.8

// madeBatches are made before the load begins, for each connection: to compress
// them would take more of the machine than what is measured.
const madeBatches = 16

// logs measures the intake of NDJSON, as it is and as gzip: the same batches, to
// the same program, in turns.
func logs(ctx context.Context, o options) error {
	lines, err := readOrders(o.orders)
	if err != nil {
		return err
	}
	all, err := inBatches(lines)
	if err != nil {
		return err
	}
	plain, zipped, shrunk, err := madeOf(all, o.connections)
	if err != nil {
		return err
	}
	fmt.Printf("%d connections, %d rounds of %v each, batches of %d lines of %d bytes, gzip makes them %.3f as long\n\n",
		o.connections, o.rounds, o.measure, perBatch, lineBytes, shrunk)
	const ndjson = "application/x-ndjson"
	serve := func(dir string) (*process, error) {
		return startForebay(o.forebay, dir, buffering("split: ndjson, max_body: 16MiB"))
	}
	sides := []side{
		{"plain", serve, func(addr string) target { return httpTarget(addr, ndjson) }, plain},
		{"gzip", serve, func(addr string) target { return httpTarget(addr, ndjson, "Content-Encoding: gzip") }, zipped},
	}
	rounds, err := measured(ctx, o, sides)
	if err != nil {
		return err
	}
	report(os.Stdout, sides, rounds, perBatch)
	ratios(os.Stdout, "gzip / plain", rounds[1], rounds[0])
	costs(os.Stdout, "processor time of the server, gzip / plain", rounds[1], rounds[0])
	top, err := profiled(ctx, o, sides[1])
	if err != nil {
		return err
	}
	fmt.Printf("\nwhat the server does under gzip:\n%s", top)
	if r := medianRatio(rounds[1], rounds[0]); o.hold && r < gzipFloor && !strings.Contains(busiest(top), "compress/flate") {
		return fmt.Errorf("gzip / plain is %.3f, want at least %.1f until inflating is what the server does most", r, gzipFloor)
	}
	return nil
}

// busiest is the first function of what pprof prints.
func busiest(top string) string {
	_, list, _ := strings.Cut(top, "cum%\n")
	line, _, _ := strings.Cut(list, "\n")
	return line
}

func medianRatio(of, to []round) float64 {
	all := make([]float64, len(of))
	for i := range of {
		all[i] = of[i].rate() / to[i].rate()
	}
	return median(all)
}

// madeOf makes batches and their gzip, and says how much shorter that is.
func madeOf(all bodies, connections int) (plain, zipped bodies, shrunk float64, err error) {
	var as, of [][]byte
	var long, short int
	for range connections * madeBatches {
		body := bytes.Clone(all(0)())
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		if _, err := w.Write(body); err != nil {
			return nil, nil, 0, err
		}
		if err := w.Close(); err != nil {
			return nil, nil, 0, err
		}
		as, of = append(as, body), append(of, z.Bytes())
		long, short = long+len(body), short+z.Len()
	}
	return inTurn(as, connections), inTurn(of, connections), float64(short) / float64(long), nil
}

// profiled tells what the server does most of the time under the load of a side.
func profiled(ctx context.Context, o options, s side) (top string, err error) {
	file := filepath.Join(o.dir, "logs.prof")
	taken := make(chan error, 1)
	start := s.start
	s.start = func(dir string) (*process, error) {
		p, err := start(dir)
		if err == nil {
			go func() { taken <- profile(ctx, p.admin, file, o.measure) }()
		}
		return p, err
	}
	o.warm += time.Second // the profile ends within the load
	if _, err := s.measure(ctx, o); err != nil {
		return "", err
	}
	if err := <-taken; err != nil {
		return "", fmt.Errorf("take a profile: %w", err)
	}
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=10", file).Output()
	if err != nil {
		return "", fmt.Errorf("read the profile: %w", err)
	}
	return string(out), nil
}

func profile(ctx context.Context, admin, file string, d time.Duration) (err error) {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, max(1, int(d.Seconds())))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}
