// Command bench measures `forebay serve` against baselines and a peer. All get
// the same load from the same client, in turns, in one run on one machine, so
// that the ratios mean something where the figures do not.
package main

import (
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
	nginx, caddy, kafka  string
	row, profiles        string
	partitions           int
	connections, rounds  int
	warm, measure        time.Duration
	messages, callers    int
	hold                 bool
}

const usage = `usage: bench accept|batch|deep|drain|edge|idle|kafka|logs|pace|search|ship [flags]

  accept   one order a request, against a bare handler and NATS JetStream
  batch    a thousand orders a request, against bare handlers
  deep     a backlog of many messages: memory, disk, a start, look-ups
  drain    a backlog sent to a sink as fast as it can be, against a bare client
  edge     orders passed on to nginx, against httputil.ReverseProxy and Caddy
  idle     999 streams with a drain each and nothing to do, against one stream
  kafka    batches of orders against Apache Kafka's own client and broker, a drain against a bare producer, a topic into
           a stream against a bare consumer
  logs     a thousand lines a request, as they are and as gzip
  pace     a backlog sent to a sink at several rates, and in a window
  search   a backlog of lines to a _bulk endpoint that only parses
  ship     what following a log of 1,000 lines a second takes of a core

`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	switch os.Args[1] {
	case bareArg:
		exit(serveBare())
	case proxyArg:
		exit(serveProxy(os.Args[2]))
	case natsArg:
		exit(serveNATS(os.Args[2]))
	case fillArg:
		exit(fill(os.Args[2:]))
	case emptyArg:
		exit(empty(os.Args[2:]))
	case postArg:
		exit(postBare(os.Args[2], os.Args[3], os.Args[4]))
	case "deep":
		exit(run(deep, 0))
	case "accept":
		exit(run(accept, 256))
	case "batch":
		exit(run(batch, 8))
	case "edge":
		exit(run(edge, 64))
	case "drain":
		exit(run(drain, 64))
	case "pace":
		exit(run(pace, 64))
	case "idle":
		exit(run(idle, 1))
	case "kafka":
		exit(run(kafka, 8))
	case "search":
		exit(run(search, 4))
	case "logs":
		exit(run(logs, 8))
	case "ship":
		exit(run(shipping, 1))
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}

func run(measure func(context.Context, options) error, connections int) error {
	var o options
	seconds := 10
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&o.forebay, "forebay", "bin/forebay", "the program")
	flags.StringVar(&o.nginx, "nginx", "nginx", "nginx, for the edge")
	flags.StringVar(&o.caddy, "caddy", "bin/bench-caddy", "Caddy with a reverse proxy, for the edge")
	flags.StringVar(&o.kafka, "kafka", ".parts/kafka/lib", "the jars of Apache Kafka")
	flags.StringVar(&o.row, "row", "", "what alone is measured beside Kafka; empty: all")
	flags.IntVar(&o.partitions, "partitions", 4, "partitions of a topic of Kafka")
	flags.StringVar(&o.orders, "orders", "cmd/forebay/demo/orders.ndjson", "orders for bodies, one a line")
	flags.StringVar(&o.dir, "dir", ".bench", "where the rounds' data goes; on the disk that is to be measured")
	flags.IntVar(&o.connections, "connections", connections, "keep-alive connections, each with one request at a time")
	flags.IntVar(&o.rounds, "rounds", 5, "rounds; each measures all, one after the other")
	flags.IntVar(&seconds, "seconds", seconds, "seconds measured of each, after one of warming up")
	flags.IntVar(&o.messages, "messages", 10_000_000, "messages of a deep backlog")
	flags.StringVar(&o.profiles, "profiles", "", "where CPU profiles of a deep backlog's tenths go; empty: none are made")
	flags.BoolVar(&o.hold, "hold", false, "fail where a deep backlog costs more than it may, or Kafka is not far enough behind")
	flags.IntVar(&o.callers, "callers", 1024, "appends under way at a time, into a deep backlog")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	o.warm, o.measure = time.Second, time.Duration(seconds)*time.Second
	if flags.NArg() > 0 || o.rounds < 1 || o.connections < 0 || o.messages < 10_000 || seconds < 1 {
		flags.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return measure(ctx, o)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// side is one of what is compared.
type side struct {
	name   string
	start  func(dir string) (*process, error)
	target func(addr string) target
	bodies bodies
}

// measured runs all sides in turns.
func measured(ctx context.Context, o options, sides []side) ([][]round, error) {
	rounds := make([][]round, len(sides))
	for i := range o.rounds {
		fmt.Printf("round %d", i+1)
		for k, s := range sides {
			r, err := s.measure(ctx, o)
			if err != nil {
				fmt.Println()
				return nil, fmt.Errorf("round %d, %s: %w", i+1, s.name, err)
			}
			rounds[k] = append(rounds[k], r)
			fmt.Printf("   %s %.0f/s", s.name, r.rate())
		}
		fmt.Println()
	}
	return rounds, nil
}

func (s side) measure(ctx context.Context, o options) (r round, err error) {
	dir := filepath.Join(o.dir, fmt.Sprintf("data-%d", os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return round{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := s.start(dir)
	if err != nil {
		return round{}, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	before, counted := p.writtenBytes()
	user, system := p.times()
	if r, err = load(ctx, s.target(p.public), s.bodies, o.connections, o.warm, o.measure); err != nil {
		return r, err
	}
	r.serverUser, r.serverSystem = p.times()
	r.serverUser, r.serverSystem = r.serverUser-user, r.serverSystem-system
	if after, ok := p.writtenBytes(); ok && counted {
		r.written = after - before
	}
	if p.admin != "" {
		r.stored, err = p.storedBytes()
	}
	return r, err
}
