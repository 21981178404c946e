package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
	"forebay/cmd/forebay/config"
	"forebay/cmd/forebay/kafkaclient"
	"forebay/drain"
	"forebay/drain/sink/elasticsearch"
	sinkhttp "forebay/drain/sink/http"
	sinkkafka "forebay/drain/sink/kafka"
	"forebay/drain/sink/webhdfs"
	"forebay/ingress"
	"forebay/ingress/kafka"
	"forebay/policies"
)

// App is one running program: listeners, buffer, drains and the admin API.
type App struct {
	cfg     config.Config
	log     *slog.Logger
	reg     *prometheus.Registry
	version string

	ready chan struct{} // closed once /readyz is 200
	hurry chan struct{} // closed by Hurry
	once  sync.Once     // of hurry

	admin  string   // the real address; set before anything is served there
	public []string // the real addresses; set before ready is closed
	live   atomic.Pointer[live]
}

// live are the parts once they are all there.
type live struct {
	engine   *buffer.Engine
	drains   *drain.Drains
	handler  *ingress.Handler
	fills    *fills
	sources  *kafka.Sources
	reloader *reloader
	*operator
	stopping atomic.Bool
}

// New returns an App that is not started.
func New(cfg config.Config, build Build, log *slog.Logger) *App {
	return &App{
		cfg: cfg, log: log, reg: newRegistry(build), version: build.Version, ready: make(chan struct{}), hurry: make(chan struct{}),
	}
}

// Ready is closed once requests are taken.
func (a *App) Ready() <-chan struct{} { return a.ready }

// Public is where requests are taken, "host:port" each. It is known once Ready
// is closed.
func (a *App) Public() []string { return a.public }

// Admin is where the admin API is, "host:port". It is known once Ready is closed.
func (a *App) Admin() string { return a.admin }

// Hurry makes a stop, also one under way, skip shutdown.delay.
func (a *App) Hurry() { a.once.Do(func() { close(a.hurry) }) }

// Reload reads the policy files again; the operator log keeps for whom. An error, [admin.Refused] where the
// policy is at fault, means that the running policy stays.
func (a *App) Reload(actor string) (hash string, err error) {
	l, err := a.parts()
	if err != nil {
		return "", err
	}
	return l.reloader.reload(actor)
}

// parts are the live parts, or [admin.ErrNotReady] while there are none.
func (a *App) parts() (*live, error) {
	l := a.live.Load()
	if l == nil {
		return nil, fmt.Errorf("recovering the buffer: %w", admin.ErrNotReady)
	}
	return l, nil
}

// Run starts everything, in an order in which each part has what it needs, and
// serves until ctx is done or a part fails. It returns once everything has
// ended and what was accepted is on disk; nil after a stop that was asked for.
// It may be called once.
//
// It is one straight line on purpose: each thing that is started has its end
// pushed at once, and whatever happens, ends run in reverse.
func (a *App) Run(ctx context.Context) (err error) {
	var down teardown
	group, failed := errgroup.WithContext(context.Background())
	defer func() { err = a.unwind(err, &down, group) }()

	set, err := policies.Load(a.cfg.Policies.Paths)
	if err != nil {
		return err // a bad policy touches neither ports nor disk
	}
	masters, err := a.masterKeys()
	if err != nil {
		return err
	}
	if err := a.startAdmin(group, &down); err != nil {
		return err
	}
	began := time.Now()
	engine, err := buffer.Open(ctx, buffer.Config{
		Dir: a.cfg.Buffer.Dir, SegmentBytes: a.cfg.Buffer.SegmentBytes, MinFree: a.cfg.Buffer.MinFree,
		MaxBytes: a.cfg.Buffer.MaxBytes, MasterKeys: masters, Log: a.log, Registerer: a.reg,
	})
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // asked to stop while it recovered
	}
	if err != nil {
		return err
	}
	down.push("buffer", func(context.Context) error { return engine.Close() })

	op, err := a.startOperator(engine, group, &down)
	if err != nil {
		return err
	}
	rests := newRests(engine, a.log)
	drains := drain.New(drain.Config{
		NewSink: newSink(a.log), StopTimeout: a.cfg.Shutdown.Timeout, HoldsChanged: op.keeper.drains, SinkHoldsChanged: op.keeper.sinks, RestChanged: rests.changed,
		Event: func(kind, object, detail string) {
			op.events.later(time.Now(), admin.Event{Kind: kind, Object: object, Actor: actorProgram, Detail: detail})
		},
	}, engine, a.log, a.reg)
	if err := drains.Restore(op.keeper.last.Drains); err != nil {
		return fmt.Errorf("%s: %w", controlFile, err)
	}
	if err := drains.RestoreSinks(op.keeper.last.Sinks); err != nil {
		return fmt.Errorf("%s: %w", controlFile, err)
	}
	now := time.Now()
	drains.RestoreRests(now, rests.known(now))
	startRests(rests, group, &down)
	op.hands = drains
	l := &live{engine: engine, drains: drains, fills: &fills{}, sources: a.newSources(engine, op), operator: op}
	l.reloader = &reloader{
		paths: a.cfg.Policies.Paths, engine: engine, apply: drains.Apply, log: a.log, metrics: newPolicyMetrics(a.reg), events: op.events.add,
		follow: func(s *policies.Set) {
			l.sources.Apply(s)
			if l.handler == nil {
				return // at the start, New does
			}
			l.handler.Apply(s)
			if wait := longestWait(s); wait > longestWait(set) {
				a.log.Warn("a longer wait_max takes a restart", "wait_max", wait, "served", longestWait(set))
			}
		},
	}
	if err := l.reloader.start(set); err != nil {
		return err
	}
	wait := longestWait(set)
	l.handler = ingress.New(ingress.Config{
		Buffer: engine, Live: liveSinks{drains}, Policy: l.reloader.policy, ETA: drains.ETA, Feasible: drains.Feasible, Closed: op.gate.closed, WaitMax: wait,
		TrustedProxies: a.cfg.HTTP.Proxies(),
	}, a.log, a.reg)
	a.reg.MustRegister(newStateCollector(stateSources{
		stats: engine.Stats, policy: l.reloader.policy, gate: op.gate, fills: l.fills, ledger: &ledger{audit: engine.Audit},
	}))

	startFills(l, group, &down)
	stopDrains := a.startDrains(drains, group, &down)
	if err := a.startPublic(l.handler, wait, group, &down); err != nil {
		return err
	}
	stopSources := startSources(l.sources, group, &down)
	a.startWatch(l.reloader, group, &down)
	op.events.add(time.Now(), startEvent(engine.Recovery())) // before whatever an operator does
	a.live.Store(l)
	close(a.ready)
	a.logReady(engine.Recovery(), time.Since(began))

	select {
	case <-ctx.Done():
		a.log.Info("stopping", "delay", a.cfg.Shutdown.Delay, "timeout", a.cfg.Shutdown.Timeout)
		l.stopping.Store(true)
		l.handler.Stop()
		stopSources()
		stopDrains()
		a.delay(failed, engine.Failed())
	case <-failed.Done():
	case <-engine.Failed():
	}
	if err := engine.Err(); err != nil {
		return err // whatever else failed did so because of it
	}
	return context.Cause(failed)
}

// leastWait is the longest wait of receipts where no route allows a longer one.
const leastWait = 30 * time.Second

// longestWait is the longest wait that a route allows. Connections are served
// with time-outs that fit it, so that it is fixed at the start.
func longestWait(set *policies.Set) time.Duration {
	longest := leastWait
	for _, r := range set.Routes {
		longest = max(longest, r.WaitMax)
	}
	return longest
}

// newSink returns what makes the sinks of policies.
func newSink(log *slog.Logger) func(policies.Sink) (drain.Sink, error) {
	return func(p policies.Sink) (drain.Sink, error) {
		switch {
		case p.Kafka != nil:
			return newKafkaSink(p, log)
		case p.Elasticsearch != nil:
			return elasticsearch.New(p)
		case p.WebHDFS != nil:
			return webhdfs.New(p)
		}
		s, err := sinkhttp.New(p)
		if err != nil {
			return nil, err
		}
		return s.Drained(), nil
	}
}

func newKafkaSink(p policies.Sink, log *slog.Logger) (drain.Sink, error) {
	opts, err := kafkaclient.Options(p.Kafka.KafkaConnection, p.Kafka.ConnectTimeout, log.With("sink", p.Name))
	if err != nil {
		return nil, err
	}
	s, err := sinkkafka.New(p, opts)
	if err != nil {
		return nil, err // not a nil *Sink in an interface
	}
	return s, nil
}

// delay goes on accepting for shutdown.delay, so that whoever balances load
// has seen /readyz before the listener is gone.
func (a *App) delay(failed context.Context, broken <-chan struct{}) {
	t := time.NewTimer(a.cfg.Shutdown.Delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.hurry:
	case <-failed.Done():
	case <-broken:
	}
}

// unwind ends what was started and returns why the run ended: nil where that
// was asked for and went well.
func (a *App) unwind(cause error, down *teardown, group *errgroup.Group) error {
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Shutdown.Timeout)
	defer cancel()
	err := down.unwind(ctx)
	served := group.Wait()
	switch {
	case cause != nil:
		return cause // what came after it came from it
	case err != nil:
		return err
	default:
		return served
	}
}

// masterKeys reads what the buffer is encrypted with, if it is.
func (a *App) masterKeys() ([]buffer.MasterKey, error) {
	if a.cfg.Buffer.EncryptionKeyFile == "" {
		return nil, nil
	}
	keys, warning, err := buffer.ReadMasterKeys(a.cfg.Buffer.EncryptionKeyFile)
	if err != nil {
		return nil, fmt.Errorf("buffer.encryption_key_file: %w", err)
	}
	if warning != "" {
		a.log.Warn("encryption key file", "warning", warning)
	}
	return keys, nil
}

// startAdmin serves the admin API. It is there before the buffer is recovered.
func (a *App) startAdmin(group *errgroup.Group, down *teardown) error {
	var tokens []admin.Token
	if file := a.cfg.Listen.Admin.TokenFile; file != "" {
		var err error
		if tokens, err = admin.ReadTokens(file); err != nil {
			return err
		}
	}
	ln, err := listen(a.cfg.Listen.Admin.Address)
	if err != nil {
		return err
	}
	a.admin = ln.Addr().String()
	metrics := promhttp.HandlerFor(a.reg, promhttp.HandlerOpts{Registry: a.reg, MaxRequestsInFlight: 4, Timeout: 30 * time.Second})
	srv := admin.NewServer(admin.Handler(a.backend(metrics), tokens, a.log), a.log)
	group.Go(func() error { return serve(srv, ln) })
	down.push("admin listener", func(ctx context.Context) error { return shutdown(ctx, srv, a.log) })
	return nil
}

// startOperator opens what operators do and did: the operator log, and what they
// hold back.
func (a *App) startOperator(engine *buffer.Engine, group *errgroup.Group, down *teardown) (*operator, error) {
	last, err := readControl(a.cfg.Buffer.Dir)
	if err != nil {
		return nil, err
	}
	events, err := openEvents(a.cfg.Buffer.Dir, a.log)
	if err != nil {
		return nil, err
	}
	down.push("operator log", func(context.Context) error { return events.close() })
	op := &operator{
		buf: engine, gate: newGate(), events: events,
		keeper: &keeper{dir: a.cfg.Buffer.Dir, log: a.log, last: last},
	}
	op.gate.close(last.Streams...)
	running, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	group.Go(func() error {
		defer close(ended)
		return op.gate.run(running, op.opened)
	})
	down.push("gate", func(context.Context) error {
		cancel()
		<-ended // it tells the operator log
		return nil
	})
	return op, nil
}

func startFills(l *live, group *errgroup.Group, down *teardown) {
	ctx, cancel := context.WithCancel(context.Background())
	group.Go(func() error { return l.fills.run(ctx, l.engine.Stats) })
	down.push("forecast", func(context.Context) error { cancel(); return nil })
}

// startDrains runs the drains and returns what makes them start no delivery
// any more.
func (a *App) startDrains(drains *drain.Drains, group *errgroup.Group, down *teardown) (stop func()) {
	running, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	group.Go(func() error {
		defer close(ended)
		if err := drains.Run(running); err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("run drains: %w", err)
		}
		return nil
	})
	down.push("drains", func(ctx context.Context) error {
		cancel()
		select {
		case <-ended:
		case <-ctx.Done():
			a.log.Warn("deliveries in flight are cut off and will be repeated")
		}
		return nil
	})
	return cancel
}

// startPublic serves the routes of the policy.
func (a *App) startPublic(h *ingress.Handler, wait time.Duration, group *errgroup.Group, down *teardown) error {
	var listeners []net.Listener
	for _, p := range a.cfg.Listen.Public {
		ln, err := listen(p.Address)
		if err != nil {
			for _, open := range listeners {
				_ = open.Close() // nothing was served there
			}
			return err
		}
		listeners = append(listeners, ln)
	}
	c := a.cfg.HTTP
	srv := ingress.NewServer(h, ingress.ServerConfig{
		ReadHeaderTimeout: c.ReadHeaderTimeout, ReadTimeout: c.ReadTimeout,
		IdleTimeout: c.IdleTimeout, WaitMax: wait, MaxHeaderBytes: int(c.MaxHeaderBytes),
	}, a.log)
	for _, ln := range listeners {
		a.public = append(a.public, ln.Addr().String())
		group.Go(func() error { return serve(srv, ingress.LimitListener(ln, c.MaxConnections)) })
	}
	down.push("public listeners", func(ctx context.Context) error {
		h.Stop() // whoever waits gets the receipt as it stands
		return shutdown(ctx, srv, a.log)
	})
	return nil
}

func (a *App) startWatch(r *reloader, group *errgroup.Group, down *teardown) {
	paths := slices.Clone(r.paths)
	if files, err := policies.Files(r.paths); err == nil {
		paths = append(paths, files...) // calendars may lie in folders of their own
	}
	ctx, cancel := context.WithCancel(context.Background())
	group.Go(func() error { return watch(ctx, paths, a.log, r.reloadChanged) })
	down.push("policy watch", func(context.Context) error { cancel(); return nil })
}

// startEvent says what a start found.
func startEvent(r buffer.Recovery) admin.Event {
	detail := fmt.Sprintf("%s unfinished", messages(r.Messages))
	if r.Scanned > 0 {
		detail += fmt.Sprintf(", %d segments read that a crash had left open", r.Scanned)
	}
	if r.Damaged > 0 {
		detail += fmt.Sprintf(", %d damaged", r.Damaged)
	}
	return admin.Event{Kind: "start", Object: "forebay", Actor: actorProgram, Detail: detail}
}

func (a *App) logReady(r buffer.Recovery, took time.Duration) {
	a.log.Info("ready", "public", strings.Join(a.public, ","), "admin", a.admin,
		"took", took.Round(time.Millisecond), "recovery", slog.GroupValue(
			slog.Int("segments", r.Segments), slog.Int("scanned", r.Scanned), slog.Int("blocks", r.Blocks),
			slog.Uint64("messages", r.Messages), slog.Int("damaged", r.Damaged), slog.Duration("duration", r.Duration)))
}
