package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	// idleStreams is how many streams, each with a drain, a policy may have beside
	// one sink and one route.
	idleStreams = 999
	// scrapeEvery is how often Prometheus is taken to scrape, and scrapes how many
	// are measured.
	scrapeEvery = 15 * time.Second
	scrapes     = 10
	// clockTick is the unit of processor time in /proc, on every Linux there is.
	clockTick = 10 * time.Millisecond
)

// idleCase is a program that has nothing to do.
type idleCase struct {
	name     string
	streams  int
	schedule string
}

// idle measures what programs cost that have nothing to do.
func idle(ctx context.Context, o options) error {
	const night = "{ base: 50/s, entries: [{ name: night, during: [night], rate: 100/s }] }"
	cases := []idleCase{
		{"one stream", 1, "{ base: 100/s }"},
		{"open", idleStreams, "{ base: 100/s }"},
		{"closed", idleStreams, "{ base: 0 }"},
		{"by schedule", idleStreams, night},
	}
	fmt.Printf("nothing comes; %v of each; %d streams with a drain each, beside a program with one\n", o.measure, idleStreams)
	fmt.Printf("cpu is the share of one core; scraped: with a scrape each %v, compressed as Prometheus asks for it\n\n", scrapeEvery)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tcpu\tscraped\tscrape\tKiB\tseries\tresident MiB\tgoroutines\tready\treload\t")
	for _, c := range cases {
		r, err := c.measure(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		scraped := r.cpu + r.scrape.cpu.Seconds()/scrapeEvery.Seconds()
		fmt.Fprintf(t, "%s\t%.2f %%\t%.2f %%\t%v\t%d\t%d\t%d\t%d\t%v\t%v\t\n", c.name, 100*r.cpu, 100*scraped,
			r.scrape.cpu.Round(time.Millisecond), r.scrape.bytes>>10, r.scrape.series, r.resident>>20, r.scrape.goroutines,
			r.ready.Round(time.Millisecond), r.reload.Round(time.Millisecond))
	}
	return t.Flush()
}

// idleResult is what one case cost.
type idleResult struct {
	cpu           float64 // of a core
	resident      int64   // bytes
	ready, reload time.Duration
	scrape        scrape
}

// scrape is one look at /metrics: processor time and bytes on the wire are means.
type scrape struct {
	cpu                       time.Duration
	bytes, series, goroutines int
}

func (c idleCase) measure(ctx context.Context, o options) (r idleResult, err error) {
	dir := filepath.Join(o.dir, fmt.Sprintf("data-%d", os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	began := time.Now()
	p, err := startIdle(o.forebay, dir, c.policy())
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	r.ready = time.Since(began)
	if err := rest(ctx, 3*time.Second); err != nil { // what a start leaves to be done
		return r, err
	}
	if r.cpu, err = p.busy(ctx, o.measure); err != nil {
		return r, err
	}
	if r.scrape, err = p.scrapes(ctx); err != nil {
		return r, err
	}
	if r.resident, err = p.resident(); err != nil {
		return r, err
	}
	began = time.Now()
	_, err = p.ask(ctx, http.MethodPost, "/api/v1/reload")
	r.reload = time.Since(began)
	return r, err
}

// policy has so many streams, and one route.
func (c idleCase) policy() string {
	var b strings.Builder
	b.WriteString(`version: 1
time_intervals:
  - name: night
    intervals: [{ times: [{ start_time: "00:30", end_time: "06:30" }], location: Asia/Shanghai }]
sinks: [{ name: nowhere, http: { urls: ["http://127.0.0.1:9"] }, budget: { rate: 1000/s } }]
routes: [{ name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders-0 }]
streams:
`)
	for i := range c.streams {
		fmt.Fprintf(&b, "  - { name: orders-%d, max_bytes: 1GiB }\n", i)
	}
	b.WriteString("drains:\n")
	for i := range c.streams {
		fmt.Fprintf(&b, "  - { name: drain-%[1]d, stream: orders-%[1]d, sink: nowhere, schedule: %s }\n", i, c.schedule)
	}
	return b.String()
}

func startIdle(program, dir, policy string) (*process, error) {
	file, config := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "forebay.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, []byte("version: 1\nshutdown: { delay: 0s }\n"), 0o600); err != nil {
		return nil, err
	}
	return start(exec.Command(program, "serve", "--config", config, "--policies", file,
		"--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"))
}

// rest waits, or fails with ctx.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// busy is the share of a core that the process takes over a time.
func (p *process) busy(ctx context.Context, over time.Duration) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := rest(ctx, over); err != nil {
		return 0, err
	}
	after, err := p.cpu()
	return (after - before).Seconds() / time.Since(began).Seconds(), err
}

// cpu is the processor time that the process took so far.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc says %q", text)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// resident is the memory that the process has, in bytes.
func (p *process) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		return 0, errors.New("/proc says nothing of memory")
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	return kib << 10, err
}

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)

// scrapes measures several looks at /metrics, the first of which warms up, and
// reads one more.
func (p *process) scrapes(ctx context.Context) (s scrape, err error) {
	var before time.Duration
	for i := range scrapes + 1 {
		body, err := p.ask(ctx, http.MethodGet, "/metrics", "Accept-Encoding", "gzip")
		if err != nil {
			return s, err
		}
		if s.bytes = len(body); i == 0 {
			if before, err = p.cpu(); err != nil {
				return s, err
			}
		}
	}
	after, err := p.cpu()
	if err != nil {
		return s, err
	}
	s.cpu = (after - before) / scrapes
	text, err := p.ask(ctx, http.MethodGet, "/metrics")
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			s.series++
		}
	}
	if m := goroutines.FindSubmatch(text); m != nil {
		s.goroutines, err = strconv.Atoi(string(m[1]))
	}
	return s, err
}

// ask sends a request with header fields to the admin address and returns the
// body of a 200, as it is on the wire where the fields say how.
func (p *process) ask(ctx context.Context, method, path string, fields ...string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.admin+path, nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return io.ReadAll(resp.Body)
}
