package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is to be reached beside the broker's own client.
const (
	overKafka        = 1.25 // which leaves its records to the page cache
	overKafkaFlushed = 2.5  // with flush.messages=1
)

// perfWindow is how often ProducerPerformance says what it did.
const perfWindow = 5 * time.Second

// kafkaAccept measures batches of orders, each on disk before its 202, and beside
// it the same records from ProducerPerformance to the broker, acks=all.
func kafkaAccept(ctx context.Context, o options, b *broker) error {
	lines, err := readOrders(o.orders)
	if err != nil {
		return err
	}
	all, err := inBatches(lines)
	if err != nil {
		return err
	}
	payload := filepath.Join(b.dir, "payload")
	if err := os.WriteFile(payload, all(0)(), 0o600); err != nil {
		return err
	}
	// Both sides are warm: a JVM takes its time.
	o.warm, o.measure = perfWindow, (o.measure + perfWindow - 1).Truncate(perfWindow)
	fmt.Printf("%d rounds of %v each, orders of %d bytes; forebay: %d connections, batches of %d; kafka: ProducerPerformance, acks=all, %d partitions\n\n",
		o.rounds, o.measure, lineBytes, o.connections, perBatch, o.partitions)
	forebay := side{"forebay", func(dir string) (*process, error) {
		return startForebay(o.forebay, dir, buffering("split: ndjson, max_body: 16MiB"))
	}, func(addr string) target { return httpTarget(addr, "application/x-ndjson") }, all}
	var ours, kafka, flushed []float64
	for i := range o.rounds {
		r, err := forebay.measure(ctx, o)
		if err != nil {
			return err
		}
		ours = append(ours, r.rate()*perBatch)
		for _, of := range []struct {
			rates    *[]float64
			settings map[string]*string
		}{{&kafka, nil}, {&flushed, map[string]*string{"flush.messages": new("1")}}} {
			rate, err := b.perf(ctx, o, payload, of.settings)
			if err != nil {
				return err
			}
			*of.rates = append(*of.rates, rate)
		}
		fmt.Printf("round %d   forebay %.0f/s   kafka %.0f/s   kafka, flush.messages=1 %.0f/s\n", i+1, ours[i], kafka[i], flushed[i])
	}
	fmt.Printf("\nmedians: forebay %.0f/s, kafka %.0f/s, kafka with flush.messages=1 %.0f/s\n", median(ours), median(kafka), median(flushed))
	return errors.Join(
		reached(o, "forebay / kafka", ours, kafka, overKafka),
		reached(o, "forebay / kafka with flush.messages=1", ours, flushed, overKafkaFlushed))
}

// reached prints the ratios of the rounds' pairs, and is an error where their
// median has to reach more.
func reached(o options, name string, of, to []float64, least float64) error {
	all := make([]float64, len(of))
	for i := range of {
		all[i] = of[i] / to[i]
	}
	fmt.Printf("%s: %.3f in the median (%.3f to %.3f), to reach %v\n", name, median(all), slices.Min(all), slices.Max(all), least)
	if o.hold && median(all) < least {
		return fmt.Errorf("%s is %.3f, less than %v", name, median(all), least)
	}
	return nil
}

// perf runs ProducerPerformance into a topic of its own, and is the rate that it
// says, in records a second, once it is warm.
func (b *broker) perf(ctx context.Context, o options, payload string, settings map[string]*string) (rate float64, err error) {
	name := fmt.Sprintf("orders-%d", time.Now().UnixNano())
	remove, err := b.topic(ctx, name, int32(o.partitions), settings)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	cmd := b.java("512M", "org.apache.kafka.tools.ProducerPerformance", "--topic", name, "--num-records", "2000000000",
		"--throughput", "-1", "--payload-file", payload, "--producer-props", "bootstrap.servers="+b.public, "acks=all")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	limit := time.AfterFunc(5*(o.warm+o.measure)+time.Minute, func() { _ = cmd.Process.Kill() }) // it may have ended
	defer limit.Stop()
	windows := 1 + int(o.measure/perfWindow)
	rate, err = perfRate(out, windows)
	_ = cmd.Process.Kill() // it has said enough
	var ended *exec.ExitError
	if wait := cmd.Wait(); err == nil && !errors.As(wait, &ended) {
		err = wait
	}
	return rate, errors.Join(err, ctx.Err())
}

var perfLine = regexp.MustCompile(`^(\d+) records sent, ([\d.]+) records/sec`)

// perfRate is the rate over those windows that ProducerPerformance prints, but
// for the first, in which it warms up.
func perfRate(out io.Reader, windows int) (float64, error) {
	var sent, seconds float64
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for n := 0; n < windows && lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		m := perfLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		if n++; n == 1 {
			continue
		}
		records, _ := strconv.ParseFloat(m[1], 64) // digits, as matched
		rate, err := strconv.ParseFloat(m[2], 64)
		if err != nil || rate == 0 {
			return 0, fmt.Errorf("ProducerPerformance said %q", lines.Text())
		}
		sent, seconds = sent+records, seconds+records/rate
		if n == windows {
			return sent / seconds, nil
		}
	}
	return 0, fmt.Errorf("ProducerPerformance ended early:\n%s", said.String())
}
