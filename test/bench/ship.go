package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// shipRate is how many lines a second a busy program logs.
	shipRate = 1000
	// shipEvery is how often it writes some.
	shipEvery = 50 * time.Millisecond
	// shipShare is what of a core shipping them may take.
	shipShare = 0.02
)

// shipping measures what `forebay ship` takes of the processors beside a program
// that logs.
func shipping(ctx context.Context, o options) (err error) {
	dir := filepath.Join(o.dir, fmt.Sprintf("data-%d", os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	text, err := os.ReadFile(o.orders)
	if err != nil {
		return err
	}
	p, err := startForebay(o.forebay, dir, buffering("split: lines"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	log := filepath.Join(dir, "app.log")
	cmd := exec.CommandContext(ctx, o.forebay, "ship", log, "--to", "http://"+p.public+"/v1/orders", "--state", filepath.Join(dir, "state"), "-o", "json")
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, os.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	written, err := logLines(ctx, log, bytes.SplitAfter(bytes.TrimSpace(text), []byte("\n")), o.measure)
	if err != nil {
		_ = cmd.Process.Kill() // the error is the first
		return err
	}
	if err := rest(ctx, 3*time.Second); err != nil { // for the last of them
		return err
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return err
	}
	return reportShip(cmd.ProcessState, time.Since(began), written, stdout.Bytes(), o.hold)
}

func reportShip(ended *os.ProcessState, took time.Duration, written int, said []byte, hold bool) error {
	var sum struct{ Lines, Bytes, Batches, Duplicates, Rejected int }
	if err := json.Unmarshal(said, &sum); err != nil {
		return err
	}
	cpu := ended.UserTime() + ended.SystemTime()
	share := cpu.Seconds() / took.Seconds()
	fmt.Printf("%d lines/s, %d bytes each, for %v: %d lines in %d batches\n", shipRate, sum.Bytes/max(1, sum.Lines), took.Round(time.Second), sum.Lines, sum.Batches)
	fmt.Printf("forebay ship took %v of user and %v of system time, its start and end too: %.2f %% of a core\n",
		ended.UserTime().Round(time.Millisecond), ended.SystemTime().Round(time.Millisecond), 100*share)
	if usage, ok := ended.SysUsage().(*syscall.Rusage); ok {
		fmt.Printf("at most %d MiB resident\n", usage.Maxrss>>10) // KiB on Linux
	}
	switch {
	case sum.Lines != written || sum.Rejected+sum.Duplicates > 0:
		return fmt.Errorf("%d lines were written: %s", written, said)
	case hold && share > shipShare:
		return fmt.Errorf("it may take %.0f %%", 100*shipShare)
	}
	return nil
}

// logLines appends lines to a file for so long, over and over, and returns how many.
func logLines(ctx context.Context, path string, lines [][]byte, lasts time.Duration) (n int, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	last := len(lines) - 1
	lines[last] = append(bytes.Clone(lines[last]), '\n')
	tick := time.NewTicker(shipEvery)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < lasts; {
		select {
		case <-ctx.Done():
			return n, ctx.Err()
		case <-tick.C:
		}
		var some []byte
		for due := int(min(time.Since(began), lasts).Seconds() * shipRate); n < due; n++ {
			some = append(some, lines[n%len(lines)]...)
		}
		if _, err := f.Write(some); err != nil {
			return n, err
		}
	}
	return n, nil
}
