package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"forebay/cmd/forebay/admin"
	"forebay/cmd/forebay/app"
	"forebay/cmd/forebay/config"
)

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Take requests, buffer them, and deliver at the policy's pace",
		Long: `Take requests, buffer them, and deliver at the policy's pace.

Flags override FOREBAY_… variables (FOREBAY_SHUTDOWN__DELAY=2s), which override the
file, which overrides defaults. Port 0 picks a free port. One line with msg=ready
says where it listens. SIGHUP reloads the policies, SIGTERM stops gracefully, and
SIGINT does so without shutdown.delay; the second one of these two kills.`,
		Example: `  forebay serve --policies 'policies/*.yaml' --data /var/lib/forebay
  forebay serve --config /etc/forebay/forebay.yaml
  forebay serve --policies shop.yaml --data ./data --listen 127.0.0.1:8080 --admin 127.0.0.1:9080`,
		Args: exactly(),
	}
	flags := cmd.Flags()
	file := flags.String("config", "", "read the process configuration in `F`")
	globs := flags.StringArray("policies", nil, "read the policy files that match `GLOB`; may be repeated")
	flags.String("data", "", "keep the buffer in `DIR`")
	flags.String("listen", "", "take requests on `ADDR`, host:port")
	flags.String("admin", "", "serve the admin API on `ADDR`, host:port")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		src := config.Sources{File: *file, Environ: os.Environ()}
		if flags.Changed("policies") {
			src.Flags = append(src.Flags, config.Flag{Name: "--policies", Setting: "policies.paths", Value: *globs})
		}
		for flag, setting := range map[string]string{
			"data": "buffer.dir", "listen": "listen.public", "admin": "listen.admin.address",
		} {
			if f := flags.Lookup(flag); f.Changed {
				src.Flags = append(src.Flags, config.Flag{Name: "--" + flag, Setting: setting, Value: f.Value.String()})
			}
		}
		return serve(cmd.Context(), src, cmd.ErrOrStderr())
	}
	return cmd
}

// memoryLimit is what the collector keeps the heap below as long as it can, in bytes:
// a buffer of a hundred million messages needs about half of it.
const memoryLimit = 448 << 20

// serve runs until a signal or ctx ends it. What goes wrong before it is ready
// is told as any command's failure is; after that it is a log line.
func serve(ctx context.Context, src config.Sources, stderr io.Writer) error {
	cfg, err := config.Load(src)
	if err != nil {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	spareProcessor()
	log := newLogger(stderr, cfg.Telemetry.Log)
	a := app.New(cfg, build(), log)
	ctx, release := obeySignals(ctx, a, log)
	defer release()
	err = a.Run(ctx)
	select {
	case <-a.Ready():
	default:
		return err
	}
	if err != nil {
		log.Error("stopped", "err", err)
		return errReported
	}
	log.Info("stopped")
	return nil
}

// spareProcessor has Go schedule on one processor more than there are. While the
// committer waits for the disk Go leaves it the one that it had, mostly until the sync
// ends: on a machine with one, everybody would wait for the disk.
func spareProcessor() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS() // one more than there are, not than an earlier call had
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}

func newLogger(w io.Writer, c config.Log) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.SlogLevel()}
	if c.Format == "json" {
		opts.ReplaceAttr = durationsInSeconds
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// durationsInSeconds writes a duration as every JSON of the program does, not
// as a count of nanoseconds.
func durationsInSeconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindDuration {
		return a
	}
	return slog.Float64(a.Key+"_seconds", a.Value.Duration().Seconds())
}

// obeySignals returns a context that a signal ends. From then on a second one
// has its usual effect, which is to kill.
func obeySignals(ctx context.Context, a *app.App, log *slog.Logger) (stopped context.Context, release func()) {
	stopped, cancel := context.WithCancel(ctx)
	got := make(chan os.Signal, 4)
	signal.Notify(got, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	released, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case s := <-got:
				obey(s, a, log, cancel)
			case <-released:
				return
			}
		}
	}()
	return stopped, func() {
		signal.Stop(got)
		close(released)
		<-done
		cancel()
	}
}

func obey(s os.Signal, a *app.App, log *slog.Logger, stop func()) {
	switch s {
	case syscall.SIGHUP:
		if _, err := a.Reload("signal"); errors.Is(err, admin.ErrNotReady) {
			log.Warn("not reloaded", "err", err) // any other reason is logged by the reload
		}
	case syscall.SIGINT:
		a.Hurry()
		fallthrough
	default:
		signal.Reset(syscall.SIGINT, syscall.SIGTERM)
		stop()
	}
}
