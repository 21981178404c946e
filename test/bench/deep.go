package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"
)

// deep fills a buffer with a backlog and measures what it costs: accepting at its
// end, memory, disk, a start after kill -9, look-ups, and the disk given back when
// the last message is finished. The engine is filled in a process of its own, by
// single appends; `forebay serve` then starts on what that left.
func deep(ctx context.Context, o options) (err error) {
	dir := filepath.Join(o.dir, fmt.Sprintf("deep-%d", os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Printf("%d messages, each appended by itself with an ordering key and an idempotency key, by %d callers; one drain finishes, one is stalled\n\n", o.messages, o.callers)
	d := &deepRun{options: o, data: filepath.Join(dir, "data")}
	for _, step := range []func(context.Context) error{d.fill, d.serve, d.empty} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if !o.hold {
		return nil
	}
	return errors.Join(d.broken...)
}

type deepRun struct {
	options
	data   string
	ids    []string
	broken []error
}

// Bounds that a run with -hold fails for.
const (
	mostMemory = 512 << 20
	mostReady  = 10 * time.Second
	mostLookUp = 5 * time.Millisecond
	mostLeft   = 0.05
)

func (d *deepRun) bound(kept bool, format string, args ...any) {
	if !kept {
		d.broken = append(d.broken, fmt.Errorf(format, args...))
	}
}

func (d *deepRun) child(ctx context.Context, arg string) (*exec.Cmd, io.Reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, self, arg, "-dir", d.data, "-orders", d.orders,
		"-messages", strconv.Itoa(d.messages), "-callers", strconv.Itoa(d.callers), "-profiles", d.profiles)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	return cmd, out, cmd.Start()
}

// fill runs the filling process up to its end, and kills it.
func (d *deepRun) fill(ctx context.Context) error {
	cmd, out, err := d.child(ctx, fillArg)
	if err != nil {
		return err
	}
	var marks []deepMark
	t := tabwriter.NewWriter(os.Stdout, 11, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "messages\tmessages/s\tprocessor\tof it GC\twritten\tread\tanonymous\tpeak\tmapped\tdisk\t")
	err = readMarks(out, func(m deepMark) {
		kinds, _ := diskByKind(d.data) // a file that went meanwhile is none
		if m.Messages == 0 {
			return
		}
		d.bound(m.Peak <= mostMemory, "%s of anonymous memory while filling, the most is %s", mib(m.Peak), mib(mostMemory))
		last := deepMark{}
		if len(marks) > 0 {
			last = marks[len(marks)-1]
		}
		marks = append(marks, m)
		n, c := float64(m.Messages-last.Messages), m.Cost.less(last.Cost)
		fmt.Fprintf(t, "%d\t%.0f\t%.2f µs\t%.2f µs\t%.0f B\t%.0f B\t%s\t%s\t%s\t%s\t\n", m.Messages, n/(m.Seconds-last.Seconds),
			c.CPU/n*1e6, c.GC/n*1e6, float64(c.Written)/n, float64(c.Read)/n,
			mib(m.Memory.Anonymous), mib(m.Peak), mib(m.Memory.Mapped), mib(total(kinds)))
		_ = t.Flush()
	})
	_ = cmd.Process.Signal(syscall.SIGKILL) // that it ended by itself is err
	_ = cmd.Wait()
	if err != nil {
		return err
	}
	first, last, before := marks[0], marks[len(marks)-1], marks[len(marks)-2]
	d.ids = last.IDs
	fmt.Printf("\nrate of the last tenth / of the first: %.2f\n\n", first.Seconds/(last.Seconds-before.Seconds))
	return d.table(last)
}

// table says what a million messages cost, by structure.
func (d *deepRun) table(m deepMark) error {
	kinds, err := diskByKind(d.data)
	if err != nil {
		return err
	}
	per := float64(m.Messages) / 1e6
	fmt.Printf("MiB a million messages, and in all\n")
	t := tabwriter.NewWriter(os.Stdout, 11, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what, name string, bytes float64) {
		fmt.Fprintf(t, "%s\t%s\t%.3f\t%.1f\t\n", what, name, bytes/(1<<20)/per, bytes/(1<<20))
	}
	held := 0.0
	for _, name := range sortedBy(m.Heap) {
		if held += m.Heap[name]; m.Heap[name] >= 1<<20 {
			row("heap", name, m.Heap[name])
		}
	}
	row("heap", "all of it", held)
	row("anonymous", "all of it", float64(m.Memory.Anonymous))
	row("mapped", "resident", float64(m.Memory.Mapped))
	for _, name := range sortedBy(kinds) {
		row("disk", name, float64(kinds[name]))
	}
	row("disk", "all of it", float64(total(kinds)))
	_ = t.Flush()
	fmt.Println()
	return nil
}

const deepPolicy = `version: 1
sinks:
  - name: nowhere
    http: { urls: ["http://127.0.0.1:9"] }
streams:
  - name: orders
    ordering_key: ["header:X-Customer"]
drains:
  - { name: finished, stream: orders, sink: nowhere, schedule: { base: 0 } }
  - { name: stalled, stream: orders, sink: nowhere, schedule: { base: 50/s } }
routes:
  - name: create-order
    match: { methods: [POST], path: /v1/orders }
    mode: buffer
    stream: orders
    idempotency: { header: Idempotency-Key, ttl: 24h }
`

// serve starts the program on the directory, and looks things up.
func (d *deepRun) serve(ctx context.Context) error {
	policy := filepath.Join(filepath.Dir(d.data), "policy.yaml")
	if err := os.WriteFile(policy, []byte(deepPolicy), 0o600); err != nil {
		return err
	}
	begin := time.Now()
	p, err := start(exec.CommandContext(ctx, d.forebay, "serve", "--policies", policy, "--data", d.data,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"))
	if err != nil {
		return err
	}
	ready := time.Since(begin)
	fmt.Printf("ready after kill -9: %.2f s\n", ready.Seconds())
	d.bound(ready <= mostReady, "ready after %v, the most is %v", ready, mostReady)
	err = d.lookUps(ctx, p)
	if m, errMem := memoryOf(strconv.Itoa(p.cmd.Process.Pid)); errMem == nil {
		fmt.Printf("forebay serve: %s anonymous, %s mapped\n\n", mib(m.Anonymous), mib(m.Mapped))
		d.bound(m.Anonymous <= mostMemory, "forebay serve has %s of anonymous memory, the most is %s", mib(m.Anonymous), mib(mostMemory))
	}
	return errors.Join(err, p.stop())
}

func (d *deepRun) lookUps(ctx context.Context, p *process) error {
	t := tabwriter.NewWriter(os.Stdout, 11, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "over HTTP\tp50\tp99\tmost\t")
	find := "http://" + p.admin + "/api/v1/streams/orders/messages?key="
	for _, what := range []struct {
		name string
		url  func(i int) string
		want int
	}{
		{"receipt with position and eta", func(i int) string { return "http://" + p.public + "/.forebay/receipts/" + d.ids[i] }, 200},
		{"messages of a key", func(i int) string { return find + url.QueryEscape(deepKey(i*(d.messages/1000), d.messages)) }, 200},
		{"a key without messages", func(i int) string { return find + "nobody-" + strconv.Itoa(i) }, 200},
	} {
		times := make([]time.Duration, len(d.ids))
		for i := range times {
			begin := time.Now()
			if err := fetch(ctx, what.url(i), what.want); err != nil {
				return fmt.Errorf("%s: %w", what.name, err)
			}
			times[i] = time.Since(begin)
		}
		slices.Sort(times)
		d.bound(times[len(times)/2] <= mostLookUp, "%s takes %v in the median, the most is %v", what.name, times[len(times)/2], mostLookUp)
		fmt.Fprintf(t, "%s\t%v\t%v\t%v\t\n", what.name, times[len(times)/2].Round(time.Microsecond),
			times[len(times)*99/100].Round(time.Microsecond), times[len(times)-1].Round(time.Microsecond))
	}
	return t.Flush()
}

func fetch(ctx context.Context, url string, want int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != want || !json.Valid(body)) {
		err = fmt.Errorf("GET %s: %s, %.200s", url, resp.Status, body)
	}
	return err
}

// empty finishes the stalled drain and watches the disk.
func (d *deepRun) empty(ctx context.Context) error {
	before, err := diskByKind(d.data)
	if err != nil {
		return err
	}
	cmd, out, err := d.child(ctx, emptyArg)
	if err != nil {
		return err
	}
	var seconds float64
	if _, err := fmt.Fscan(out, &seconds); err != nil {
		return errors.Join(errors.New("the emptying process ended early"), err, cmd.Wait())
	}
	fmt.Printf("the stalled drain finished in %.1f s, %.0f messages/s\n", seconds, float64(d.messages)/seconds)
	for range 12 {
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	running, err := diskByKind(d.data)
	if err != nil {
		return err
	}
	// Both without what a process reserves while it runs.
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
		return err
	}
	after, err := diskByKind(d.data)
	if err != nil {
		return err
	}
	return d.given(before, running, after)
}

// given says how much of the disk came back.
func (d *deepRun) given(before, running, after map[string]int64) error {
	fmt.Println("disk, before, a minute after, and stopped then:")
	t := tabwriter.NewWriter(os.Stdout, 11, 0, 2, ' ', tabwriter.AlignRight)
	for _, name := range sortedBy(before) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", name, mib(before[name]), mib(running[name]), mib(after[name]))
	}
	kept := after["idempotency records"] + after["filters"] + after["outcomes"]
	empty := before["ballast"]
	left := float64(total(after)-kept-empty) / float64(total(before)-empty)
	d.bound(left <= mostLeft, "%.1f %% of the disk did not come back, the most is %.0f %%", 100*left, 100*mostLeft)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Printf("of what the messages had added %.1f %% are left, besides %s of records that are kept for their time\n", 100*left, mib(kept))
	return nil
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func total(kinds map[string]int64) (sum int64) {
	for _, n := range kinds {
		sum += n
	}
	return sum
}

// sortedBy is the names of what is measured, the largest first.
func sortedBy[N int64 | float64](values map[string]N) (names []string) {
	for name := range values {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(min(1, max(-1, values[b]-values[a]))) })
	return names
}
