// Command bench compares how fast `forebay serve` accepts orders, each on disk
// before its 202, with a bare net/http handler that reads the body and answers
// 202. Both get the same load from the same client, in turns, in one run on one
// machine, so that the ratio means something where the figures do not.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

type options struct {
	forebay, orders, dir string
	connections, rounds  int
	warm, measure        time.Duration
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == bareArg {
		exit(serveBare())
	}
	var o options
	seconds := 10
	flag.StringVar(&o.forebay, "forebay", "bin/forebay", "the program")
	flag.StringVar(&o.orders, "orders", "cmd/forebay/demo/orders.ndjson", "bodies, one a line")
	flag.StringVar(&o.dir, "dir", ".bench", "where the rounds' data goes; on the disk that is to be measured")
	flag.IntVar(&o.connections, "connections", 256, "keep-alive connections, each with one request at a time")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; each measures both, one after the other")
	flag.IntVar(&seconds, "seconds", seconds, "seconds measured of each, after one of warming up")
	flag.Parse()
	o.warm, o.measure = time.Second, time.Duration(seconds)*time.Second
	if flag.NArg() > 0 || o.rounds < 1 || o.connections < 1 || seconds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(run(ctx, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o options) error {
	bodies, err := readOrders(o.orders)
	if err != nil {
		return err
	}
	fmt.Printf("%d connections, %d rounds of %v each, %d real orders of %d bytes in the mean as bodies\n\n",
		o.connections, o.rounds, o.measure, len(bodies), meanLength(bodies))
	var bare, forebay []round
	for i := range o.rounds {
		b, err := measureBare(ctx, o, bodies)
		if err != nil {
			return fmt.Errorf("round %d, bare handler: %w", i+1, err)
		}
		f, err := measureForebay(ctx, o, bodies)
		if err != nil {
			return fmt.Errorf("round %d, forebay: %w", i+1, err)
		}
		bare, forebay = append(bare, b), append(forebay, f)
		fmt.Printf("round %d   bare %8.0f/s   forebay %8.0f/s   ratio %.3f\n", i+1, b.rate(), f.rate(), f.rate()/b.rate())
	}
	report(os.Stdout, bare, forebay)
	return nil
}

func measureBare(ctx context.Context, o options, bodies [][]byte) (round, error) {
	p, err := startBare()
	if err != nil {
		return round{}, err
	}
	r, err := load(ctx, p.public, bodies, o.connections, o.warm, o.measure)
	return r, errors.Join(err, p.stop())
}

func measureForebay(ctx context.Context, o options, bodies [][]byte) (r round, err error) {
	dir := filepath.Join(o.dir, fmt.Sprintf("data-%d", os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return round{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := startForebay(o.forebay, dir)
	if err != nil {
		return round{}, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	before, counted := p.writtenBytes()
	if r, err = load(ctx, p.public, bodies, o.connections, o.warm, o.measure); err != nil {
		return r, err
	}
	if after, ok := p.writtenBytes(); ok && counted {
		r.written = after - before
	}
	r.stored, err = p.storedBytes()
	return r, err
}

func readOrders(path string) ([][]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	bodies := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(bodies[0]) == 0 {
		return nil, fmt.Errorf("%s has no orders", path)
	}
	return bodies, nil
}

func meanLength(bodies [][]byte) int {
	n := 0
	for _, b := range bodies {
		n += len(b)
	}
	return n / len(bodies)
}
