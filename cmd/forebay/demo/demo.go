package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"forebay/cmd/forebay/app"
	"forebay/cmd/forebay/config"
)

const (
	// DefaultOrders is how many real orders there are.
	DefaultOrders = 512
	// MaxOrders bounds what is remembered of each order to check it.
	MaxOrders = 1_000_000
	// MaxSpeed is how much faster than usual the service can be.
	MaxSpeed = 10

	minWidth = 64 // columns that the widest redrawn line needs

	baseLimit  = 120.0 // orders a second that the service can take
	policyRate = 100.0 // orders a second that the policy lets out
)

// Options say how to run.
type Options struct {
	Orders   int     // 1 … MaxOrders
	Speed    float64 // multiplies the service's limit and the policy's rate; over 0, up to MaxSpeed
	Keep     bool    // keep data, policy and log, and say where they are
	Out      io.Writer
	Terminal bool // draw in place
	Color    bool
	Width    int // columns of the terminal; 0: 80
	Build    app.Build
}

// ErrSheet means that the run went through and its sheet does not hold.
var ErrSheet = errors.New("the balance sheet does not hold")

// Run plays the demo and prints it. It returns [ErrSheet] unless the books
// balance and every order reached the service byte for byte. It takes about as
// long as the orders do at the policy's rate, and stops early when ctx is done.
func Run(ctx context.Context, o Options) error {
	d, err := newDemo(o)
	if err != nil {
		return err
	}
	defer d.cleanUp()
	d.screen.cursor(false)
	defer d.screen.cursor(true)
	d.intro()
	without, err := d.straight(ctx)
	if err != nil {
		return err
	}
	with, err := d.through(ctx)
	if err != nil {
		return err
	}
	s := newSheet(d.orders, with, without)
	s.print(d.screen)
	if !s.holds() {
		return ErrSheet
	}
	return nil
}

// errStopped ends a run that was interrupted.
var errStopped = errors.New("stopped before the end")

// demo is one run.
type demo struct {
	Options
	orders  orders
	screen  *screen
	dir     string
	log     *slog.Logger
	logFile *os.File
}

func newDemo(o Options) (*demo, error) {
	if o.Width <= 0 {
		o.Width = 80
	}
	if o.Width < minWidth {
		o.Terminal = false // a line that wraps cannot be drawn again in place
	}
	dir, err := os.MkdirTemp("", "forebay-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the demo: %w", err)
	}
	logFile, err := os.Create(filepath.Join(dir, "forebay.log"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a log for the demo: %w", err), os.RemoveAll(dir))
	}
	return &demo{
		Options: o,
		orders:  newOrders(o.Orders),
		screen:  &screen{w: o.Out, terminal: o.Terminal, color: o.Color, width: o.Width},
		dir:     dir,
		log:     slog.New(slog.NewTextHandler(logFile, nil)),
		logFile: logFile,
	}, nil
}

func (d *demo) cleanUp() {
	_ = d.logFile.Close() // only ever read by people
	if d.Keep {
		d.screen.say("  Kept in %s: data, policy.yaml, forebay.log.\n", d.dir)
		return
	}
	if err := os.RemoveAll(d.dir); err != nil {
		d.screen.say("  The demo's folder stays: %v", err)
	}
}

func (d *demo) limit() float64 { return baseLimit * d.Speed }
func (d *demo) rate() float64  { return policyRate * d.Speed }

// callers is how many connections make the burst: more than the service has
// places for, however fast it is.
func (d *demo) callers() int { return int(32 * max(1, d.Speed)) }

func (d *demo) intro() {
	s := d.screen
	s.say("\n  %s", s.bold("Forebay: take the flood, let through what the turbine can take"))
	kind := "real orders"
	if d.orders.repeated() {
		kind = "orders"
	}
	s.say("\n  %s %s, %s, arrive in one burst over %d connections.", thousands(d.orders.n), kind, kilobytes(d.orders.bytes()), d.callers())
	if d.orders.repeated() {
		s.say("  They are %s real ones, repeated with fresh ids.", thousands(DefaultOrders))
	}
	s.say("  The order service can take %s and answers 503 beyond that.", perSecond(d.limit()))
}

// outcome is what one way of sending the burst came to.
type outcome struct {
	took     time.Duration // of the burst
	answered int           // orders answered as they should be
	failed   int
	why      string // of the first failure
	saw      record // the service's side
	limit    float64

	books    books         // of the run through Forebay
	released time.Duration // from the first order to the last delivery
}

// straight sends the burst to the service itself.
func (d *demo) straight(ctx context.Context) (outcome, error) {
	s := d.screen
	s.say("\n  %s", s.bold("1  Straight at the service, without Forebay"))
	svc := newService(d.limit())
	url, stop, err := svc.listen(d.log)
	if err != nil {
		return outcome{}, err
	}
	defer stop()
	b := &burst{orders: d.orders, callers: d.callers(), url: url + "/v1/orders", good: http.StatusCreated}
	took := d.watchBurst(ctx, b, func() frame { return d.straightFrame(b) })
	if ctx.Err() != nil {
		return outcome{}, errStopped
	}
	return d.outcomeOf(b, svc, took), nil
}

func (d *demo) outcomeOf(b *burst, svc *service, took time.Duration) outcome {
	out := outcome{took: took, answered: int(b.ok.Load()), failed: int(b.failed.Load()), saw: svc.record(), limit: d.limit()}
	if first := b.firstError.Load(); first != nil {
		out.why = *first
	}
	return out
}

// watchBurst runs the burst and draws it until it has ended.
func (d *demo) watchBurst(ctx context.Context, b *burst, draw func() frame) time.Duration {
	done := make(chan time.Duration, 1)
	go func() { done <- b.run(ctx) }()
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	for {
		select {
		case took := <-done:
			d.screen.finish(draw())
			return took
		case now := <-tick.C:
			d.screen.draw(now, draw())
		}
	}
}

// through sends the burst through Forebay, and waits until it has drained.
func (d *demo) through(ctx context.Context) (outcome, error) {
	svc := newService(d.limit())
	url, stopService, err := svc.listen(d.log)
	if err != nil {
		return outcome{}, err
	}
	defer stopService()
	cfg, err := d.configure(url)
	if err != nil {
		return outcome{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := app.New(cfg, d.Build, d.log)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	select {
	case <-a.Ready():
	case err := <-ended:
		return outcome{}, fmt.Errorf("start Forebay: %w", err)
	}
	out, err := d.drive(ctx, a, svc)
	cancel()
	if stopErr := <-ended; err == nil && stopErr != nil {
		err = fmt.Errorf("stop Forebay: %w", stopErr)
	}
	return out, err
}

// configure writes the policy and returns the process configuration.
func (d *demo) configure(serviceURL string) (config.Config, error) {
	path := filepath.Join(d.dir, "policy.yaml")
	rate := strconv.FormatFloat(d.rate(), 'f', -1, 64)
	policy := fmt.Sprintf(`version: 1
sinks:
  - name: order-service
    http: { urls: ["%s"] }
    budget: { rate: %s/s, concurrency: { mode: fixed, max: %d } }
streams:
  - name: orders
drains:
  - { name: orders, stream: orders, sink: order-service, schedule: { base: %s/s } }
routes:
  - name: create-order
    match: { methods: [POST], path: /v1/orders }
    mode: buffer
    stream: orders
`, serviceURL, rate, d.callers(), rate)
	if err := os.WriteFile(path, []byte(policy), 0o600); err != nil {
		return config.Config{}, fmt.Errorf("write the demo's policy: %w", err)
	}
	return config.Load(config.Sources{Flags: []config.Flag{
		{Name: "demo", Setting: "listen.public", Value: "127.0.0.1:0"},
		{Name: "demo", Setting: "listen.admin.address", Value: "127.0.0.1:0"},
		{Name: "demo", Setting: "buffer.dir", Value: filepath.Join(d.dir, "data")},
		{Name: "demo", Setting: "buffer.segment_bytes", Value: "16MiB"},
		{Name: "demo", Setting: "policies.paths", Value: []string{path}},
		{Name: "demo", Setting: "shutdown.delay", Value: "0s"},
	}})
}

// drive posts the burst, follows the drain and closes the books.
func (d *demo) drive(ctx context.Context, a *app.App, svc *service) (outcome, error) {
	s := d.screen
	s.say("\n  %s%s", s.bold("2  Through Forebay"), s.dim(", which answers 202 once an order is on disk"))
	b := &burst{orders: d.orders, callers: d.callers(), url: "http://" + a.Public()[0] + "/v1/orders", good: http.StatusAccepted}
	p := newProgress("http://"+a.Admin(), b)
	start := time.Now()
	took := make(chan time.Duration, 1)
	go func() { took <- b.run(ctx) }()
	followErr := d.follow(ctx, p)
	out := d.outcomeOf(b, svc, <-took)
	if followErr != nil {
		return out, followErr
	}
	out.released = time.Since(start)
	var err error
	if out.books, err = p.audit(ctx); err != nil {
		return out, err
	}
	out.saw = svc.record()
	return out, nil
}

// follow draws the drain until all that was accepted has ended.
func (d *demo) follow(ctx context.Context, p *progress) error {
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	for {
		view, err := p.look(ctx, time.Now())
		if ctx.Err() != nil {
			return errStopped
		}
		if err != nil {
			return err
		}
		if view.done() {
			d.screen.finish(d.drainFrame(view))
			return nil
		}
		d.screen.draw(view.at, d.drainFrame(view))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errStopped
		}
	}
}
