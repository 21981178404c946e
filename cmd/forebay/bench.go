package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/bench"
	"forebay/limiter"
	"forebay/policies"
)

const (
	maxBenchRate        = 100_000
	maxBenchConnections = 20_000
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench --target URL",
		Short: "Load a target at a fixed rate, and measure how it answers",
		Long: `Load a target at a rate that does not depend on its answers, and measure how it
answers. Latency counts from when a request should have been sent: what a stall held
up counts too (no coordinated omission). The requests are real: a route that buffers
stores them. Redirects and Retry-After are not followed, nothing is sent twice.
Ctrl-C ends the run and prints what was measured. Exits 1 when no request succeeded
(a status below 400).`,
		Example: `  forebay bench --target http://127.0.0.1:8080/v1/orders --lines orders.ndjson --rate 5000/s --for 30s
  forebay bench --target https://shop.example/v1/orders --body order.json --rate 50/s --idempotency
  forebay bench --target http://127.0.0.1:8080/ --rate unlimited --connections 256 -o json`,
		Args: exactly(),
	}
	c := benchFlags{lasts: duration(10 * time.Second), timeout: duration(10 * time.Second), out: formatFlag(cmd)}
	f := cmd.Flags()
	f.StringVar(&c.target, "target", "", "send to `URL`")
	f.StringVar(&c.rate, "rate", "50/s", "send at `RATE`, as 50/s; unlimited: as fast as it is answered")
	f.StringVar(&c.arrivals, "arrivals", "constant", "`constant` distance between requests, or poisson: at random around it")
	f.Var(&c.lasts, "for", "measure for `DUR`")
	f.StringVar(&c.warmup, "warmup", "0s", "before, send for `DUR` without measuring")
	f.Var(&c.timeout, "timeout", "give up a request after `DUR`")
	f.IntVar(&c.connections, "connections", 64, "keep `N` connections, each with one request at a time")
	f.StringVar(&c.method, "method", "", "the request `METHOD` (default POST with a body, else GET)")
	f.StringVar(&c.body, "body", "", "the body of each request is that of `FILE`")
	f.StringVar(&c.lines, "lines", "", "the lines of `FILE` are the bodies, in turn")
	f.IntVar(&c.batch, "batch", 1, "`N` lines a request")
	f.StringArrayVar(&c.fields, "header", nil, "a field of each request, as '`NAME: VALUE`'; repeatable")
	f.StringVar(&c.roots, "ca", "", "trust the certificates in `FILE`, and no others, to sign the target's")
	f.BoolVar(&c.keys, "idempotency", false, "give each request an Idempotency-Key of its own")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := c.config()
		if err != nil {
			return usageError{err, "run 'forebay bench --help'"}
		}
		if cfg.Bodies, err = c.bodies(); err != nil {
			return err
		}
		if cfg.Roots, err = trustedRoots(c.roots); err != nil {
			return err
		}
		return c.run(cmd, cfg)
	}
	return cmd
}

type benchFlags struct {
	target, rate, arrivals, warmup, method, body, lines, roots string
	lasts, timeout                                             duration
	connections, batch                                         int
	fields                                                     []string
	keys                                                       bool
	out                                                        *format
}

// run loads the target. The first signal ends the load, the second one kills.
func (c benchFlags) run(cmd *cobra.Command, cfg bench.Config) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop()
	}()
	b := bench.New(cfg)
	p := startProgressOf(cmd.ErrOrStderr(), "bench", func(took time.Duration) string {
		ended, failed := b.Counts()
		return fmt.Sprintf("%s of %s, %d measured, %d without an answer", short(took), short(cfg.Warmup+cfg.For), ended, failed)
	})
	r := benchReport{config: cfg, Result: b.Run(ctx)}
	p.end()
	if *c.out == "json" {
		if err := printJSON(cmd.OutOrStdout(), r.json()); err != nil {
			return err
		}
	} else {
		r.print(cmd.OutOrStdout())
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
	}
	if r.Succeeded == 0 {
		return hinted{errors.New("no request succeeded"), r.hint()}
	}
	return nil
}

// config checks the flags, all but the files.
func (c benchFlags) config() (cfg bench.Config, err error) {
	cfg = bench.Config{
		For: time.Duration(c.lasts), Timeout: time.Duration(c.timeout), Connections: c.connections,
		Method: c.verb(), Poisson: c.arrivals == "poisson",
	}
	if cfg.Target, err = httpTarget("--target", c.target); err != nil {
		return cfg, err
	}
	if cfg.Rate, err = benchRate(c.rate); err != nil {
		return cfg, err
	}
	if cfg.Header, err = requestHeader(c.fields, "bench"); err != nil {
		return cfg, err
	}
	if cfg.Warmup, err = policies.ParseDuration(c.warmup); err != nil {
		return cfg, fmt.Errorf("--warmup: %w", err)
	}
	if c.keys {
		cfg.IdempotencyKey = fmt.Sprintf("bench-%016x", rand.Uint64()) // no two runs share keys
		if cfg.Header.Get("Idempotency-Key") != "" {
			return cfg, errors.New("--idempotency makes a key a request, and --header has one for all")
		}
	}
	c.contentType(cfg.Header)
	return cfg, c.consistent()
}

func (c benchFlags) verb() string {
	switch {
	case c.method != "":
		return strings.ToUpper(c.method)
	case c.body != "" || c.lines != "":
		return http.MethodPost
	}
	return http.MethodGet
}

func (c benchFlags) consistent() error {
	switch {
	case c.arrivals != "constant" && c.arrivals != "poisson":
		return fmt.Errorf("--arrivals is %q, it may be constant or poisson", c.arrivals)
	case c.connections < 1 || c.connections > maxBenchConnections:
		return fmt.Errorf("--connections is %d, it goes from 1 to %d", c.connections, maxBenchConnections)
	case !httpToken.MatchString(c.verb()):
		return fmt.Errorf("--method %q is no method", c.method)
	case c.body != "" && c.lines != "":
		return errors.New("--body and --lines cannot both be the body")
	case c.batch < 1:
		return fmt.Errorf("--batch is %d, it is at least 1", c.batch)
	case c.batch > 1 && c.lines == "":
		return errors.New("--batch needs --lines")
	case c.rate == "unlimited" && c.arrivals == "poisson":
		return errors.New("--arrivals poisson needs a --rate")
	}
	return nil
}

// benchRate is zero for a load that goes as fast as it is answered.
func benchRate(text string) (float64, error) {
	rate, err := policies.ParseRate(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("--rate: %w", err)
	case rate == limiter.Unlimited:
		return 0, nil
	case rate == 0 || rate > maxBenchRate:
		return 0, fmt.Errorf("--rate %s is out of bounds: more than 0, %d/s at most, or unlimited", text, maxBenchRate)
	}
	return float64(rate), nil
}

// contentType says what lines and bodies that look like JSON are.
func (c benchFlags) contentType(h http.Header) {
	switch {
	case h.Get("Content-Type") != "" || c.body == "" && c.lines == "":
	case c.batch > 1:
		h.Set("Content-Type", "application/x-ndjson")
	default:
		h.Set("Content-Type", "application/json")
	}
}

// bodies reads the files.
func (c benchFlags) bodies() ([][]byte, error) {
	if c.body != "" {
		body, err := os.ReadFile(c.body)
		if err != nil {
			return nil, fmt.Errorf("--body: %w", err)
		}
		return [][]byte{body}, nil
	}
	if c.lines == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.lines)
	if err != nil {
		return nil, fmt.Errorf("--lines: %w", err)
	}
	var bodies [][]byte
	n := 0
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			continue
		}
		if n%c.batch == 0 {
			bodies = append(bodies, slices.Clip(line))
		} else {
			last := &bodies[len(bodies)-1]
			*last = append(append(*last, '\n'), line...)
		}
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("--lines: %s has no lines", c.lines)
	}
	return bodies, nil
}
