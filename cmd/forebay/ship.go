package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/ship"
	"forebay/policies"
)

const (
	maxShipBatch = 16 << 20
	minShipLine  = 1 << 10

	defaultShipLine = 256 << 10
)

func newShip() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ship FILE… --to URL",
		Short: "Follow log files, and post their lines in compressed batches that are stored once",
		Long: `Follow log files through rotation and truncation, and post their lines in compressed
batches. How far each file is, and where its next batch ends, is in a file: a batch that
is sent again, after a crash too, has the same bytes and the same Batch-Id, and is stored
once. Waits as long as the server asks for, and never gives up. Lines that the server
refuses are put into a file of their own. Quote wildcards, so that files that appear
later are found. SIGTERM ends it after what is under way.`,
		Example: `  forebay ship '/var/log/app/*.log' --to https://forebay.internal:8080/v1/logs --state /var/lib/forebay/ship.json
  forebay ship events.ndjson --kind ndjson --to http://127.0.0.1:8080/v1/events --once`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("FILE is missing"), "run 'forebay ship --help'"}
			}
			return nil
		},
	}
	c := shipFlags{
		batchWait: duration(time.Second), lineWait: duration(5 * time.Second), linger: duration(time.Minute),
		timeout: duration(30 * time.Second), out: formatFlag(cmd),
	}
	f := cmd.Flags()
	f.StringVar(&c.to, "to", "", "post to `URL`, a route that splits")
	f.StringVar(&c.state, "state", "forebay-ship.json", "remember in `FILE` how far each file is")
	f.StringVar(&c.rejected, "rejected", "", "put lines that are refused into `FILE` (default the state's name with .rejected)")
	f.StringVar(&c.from, "from", "beginning", "without a state, begin at the `beginning` of the files, or at their end")
	f.StringVar(&c.kind, "kind", "lines", "the route splits into `lines`, or ndjson")
	f.StringVar(&c.compression, "compression", "gzip", "of batches: `gzip`, or zstd")
	f.StringVar(&c.batchBytes, "batch-bytes", "1MiB", "send at most `SIZE` of lines at once")
	f.Var(&c.batchWait, "batch-wait", "send what is there after `DUR`")
	f.StringVar(&c.maxLine, "max-line", "", "send a line longer than `SIZE` in pieces of that size (default 256KiB, or --batch-bytes)")
	f.Var(&c.lineWait, "line-wait", "send a line without an end once it did not go on for `DUR`")
	f.Var(&c.linger, "linger", "follow a file that was renamed or deleted until nothing came for `DUR`")
	f.Var(&c.timeout, "timeout", "give up a request after `DUR`, and send it again")
	f.BoolVar(&c.once, "once", false, "end where the files end")
	f.StringArrayVar(&c.fields, "header", nil, "a field of each request, as '`NAME: VALUE`'; repeatable")
	f.StringVar(&c.keyFile, "key-file", "", "send the API key in `FILE`")
	f.StringVar(&c.keyHeader, "key-header", "X-Api-Key", "the `NAME` of the field that the key is sent in")
	f.StringVar(&c.roots, "ca", "", "trust the certificates in `FILE`, and no others, to sign the server's")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := c.config(args)
		if err != nil {
			return usageError{err, "run 'forebay ship --help'"}
		}
		if err := c.files(&cfg); err != nil {
			return err
		}
		return c.run(cmd, cfg)
	}
	return cmd
}

type shipFlags struct {
	to, state, rejected, from, kind, compression, batchBytes, maxLine, keyFile, keyHeader, roots string
	batchWait, lineWait, linger, timeout                                                         duration
	once                                                                                         bool
	fields                                                                                       []string
	out                                                                                          *format
}

// config checks the flags, all but the files.
func (c shipFlags) config(args []string) (cfg ship.Config, err error) {
	cfg = ship.Config{
		FromEnd: c.from == "end", Once: c.once, Kind: ship.Kind(c.kind), Zstd: c.compression == "zstd",
		BatchWait: time.Duration(c.batchWait), LineWait: time.Duration(c.lineWait), Linger: time.Duration(c.linger),
		Timeout: time.Duration(c.timeout), Poll: 250 * time.Millisecond, KeyFile: c.keyFile, KeyName: c.keyHeader,
	}
	if cfg.Target, err = httpTarget("--to", c.to); err != nil {
		return cfg, err
	}
	if cfg.Header, err = requestHeader(c.fields, "ship", "Batch-Id", "Content-Encoding", "Idempotency-Key"); err != nil {
		return cfg, err
	}
	if cfg.BatchSize, err = shipSize("--batch-bytes", c.batchBytes, minShipLine, maxShipBatch); err != nil {
		return cfg, err
	}
	cfg.MaxLine = min(defaultShipLine, cfg.BatchSize)
	if c.maxLine != "" {
		if cfg.MaxLine, err = shipSize("--max-line", c.maxLine, minShipLine, int64(cfg.BatchSize)); err != nil {
			return cfg, err
		}
	}
	if cfg.Patterns, err = shipPatterns(args); err != nil {
		return cfg, err
	}
	if cfg.State, err = filepath.Abs(c.state); err != nil {
		return cfg, err
	}
	if cfg.Rejected = cfg.State + ".rejected"; c.rejected != "" {
		if cfg.Rejected, err = filepath.Abs(c.rejected); err != nil {
			return cfg, err
		}
	}
	return cfg, c.consistent()
}

func (c shipFlags) consistent() error {
	for _, one := range []struct {
		flag, value string
		may         [2]string
	}{
		{"--from", c.from, [2]string{"beginning", "end"}},
		{"--kind", c.kind, [2]string{"lines", "ndjson"}},
		{"--compression", c.compression, [2]string{"gzip", "zstd"}},
	} {
		if !slices.Contains(one.may[:], one.value) {
			return fmt.Errorf("%s is %q, it may be %s or %s", one.flag, one.value, one.may[0], one.may[1])
		}
	}
	if c.state == "" {
		return errors.New("--state is empty")
	}
	if !httpToken.MatchString(c.keyHeader) {
		return fmt.Errorf("--key-header %q is no name of a field", c.keyHeader)
	}
	return nil
}

func shipSize(flag, text string, least, most int64) (int, error) {
	n, err := policies.ParseSize(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", flag, err)
	}
	if n < least || n > most {
		return 0, fmt.Errorf("%s is %s, it goes from %s to %s", flag, text, bytesText(least), bytesText(most))
	}
	return int(n), nil
}

// shipPatterns makes the names absolute: the state has to mean the same elsewhere.
func shipPatterns(args []string) (patterns []string, err error) {
	for _, arg := range args {
		if _, err := filepath.Match(arg, ""); err != nil || arg == "" {
			return nil, fmt.Errorf("%q is no name of a file, and no pattern of names", arg)
		}
		path, err := filepath.Abs(arg)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, path)
	}
	return patterns, nil
}

// files looks at the files beside those that are shipped.
func (c shipFlags) files(cfg *ship.Config) (err error) {
	if cfg.Roots, err = trustedRoots(c.roots); err != nil {
		return err
	}
	if c.keyFile != "" {
		if _, err := ship.ReadKey(c.keyFile); err != nil {
			return hinted{err, "'forebay keys new' makes a key"}
		}
	}
	for _, p := range cfg.Patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			return err
		}
		if len(found) == 0 && cfg.Once {
			return hinted{fmt.Errorf("there is no file %s", p), "without --once ship waits for it"}
		}
	}
	return nil
}

// run ships. The first signal ends it, the second one kills.
func (c shipFlags) run(cmd *cobra.Command, cfg ship.Config) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop()
	}()
	stderr := cmd.ErrOrStderr()
	clear := ""
	if ok, _ := terminal(stderr); ok {
		clear = "\r\x1b[K"
	}
	cfg.Say = func(text string) { fmt.Fprintf(stderr, "%swarning: %s\n", clear, text) }
	if c.keyFile != "" && inTheClear(cfg.Target) {
		cfg.Say("the key is sent in the clear: --to https://… would keep it to the server")
	}
	s, err := ship.Open(cfg)
	switch {
	case errors.Is(err, ship.ErrInUse):
		return hinted{err, "give each its own --state, and its own files"}
	case errors.Is(err, ship.ErrState):
		return hinted{err, "move it away to begin anew; --from says where"}
	case err != nil:
		return err
	}
	defer s.Close()
	p := startProgressOf(stderr, "ship", func(time.Duration) string { return shipped(s.Counts()) })
	sum, err := s.Run(ctx)
	p.end()
	if perr := c.print(cmd.OutOrStdout(), sum); err == nil {
		err = perr
	}
	if err != nil {
		return err
	}
	return c.verdict(sum)
}

// verdict says no where something of the files was not taken.
func (c shipFlags) verdict(sum ship.Summary) error {
	if c.once && (sum.Rejected > 0 || sum.LostBytes > 0) {
		return errNo
	}
	return nil
}

func (c shipFlags) print(w io.Writer, sum ship.Summary) error {
	if *c.out == "json" {
		return printJSON(w, sum)
	}
	_, err := fmt.Fprintln(w, shipped(sum))
	return err
}

func shipped(sum ship.Summary) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d lines (%s) of %d files in %d batches", sum.Lines, bytesText(sum.Bytes), sum.Files, sum.Batches)
	for _, more := range []struct {
		n    int64
		what string
	}{{sum.Duplicates, "batches were there already"}, {sum.Rejected, "lines rejected"}, {sum.LostBytes, "bytes lost"}, {sum.Retries, "retries"}} {
		if more.n > 0 {
			fmt.Fprintf(&b, ", %d %s", more.n, more.what)
		}
	}
	return b.String()
}

// inTheClear reports whether others than this machine could read along.
func inTheClear(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
}
