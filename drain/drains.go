package drain

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

// defaultStopTimeout is what attempts in flight get to end after a stop.
const defaultStopTimeout = 30 * time.Second

// Buffer is what drains need of an engine.
type Buffer interface {
	buffer.Buffer
	// ID returns the handle of a message, as buffer.Receipts has it.
	ID(ref buffer.Ref) string
	// Stats counts without touching the disk.
	Stats() buffer.Stats
}

// mixer is what a buffer has that can hold retries back: Take, but at most so
// many messages that were tried before while there are untried ones to give, and
// into the memory of ds.
type mixer interface {
	TakeMix(ds []buffer.Delivery, drain string, now time.Time, max, retries int) (taken []buffer.Delivery, next time.Time, err error)
}

// pender is what a buffer has that knows how many messages of a drain wait for their
// first attempt.
type pender interface{ Pending(drain string) uint64 }

// Config is what drains are made of.
type Config struct {
	// NewSink builds the sink that a policy describes; required. It must not
	// connect to anything. A sink that has a method CloseIdleConnections() is
	// told when a policy replaces it; one that has LimitRest(time.Duration) is told
	// the longest Retry-After that the drains to it honour.
	NewSink func(policies.Sink) (Sink, error)
	// StopTimeout is how long attempts in flight may go on after a stop; what
	// has not ended then is abandoned and repeated later. 0: 30 s.
	StopTimeout time.Duration
	// Random returns a uniform number in 0 … n−1 and is safe for concurrent
	// use; nil: math/rand/v2.
	Random func(n int64) int64
	// Event is told what an operator should know of: breaker-open,
	// breaker-closed and sink-resume, when a pause has ended (object: the sink), paused-ended and override-ended (the
	// drain), orphaned (a drain that is not in the policy and is held), clock-jump.
	// It must not block; nil: they are logged alone.
	Event func(kind, object, detail string)
	// HoldsChanged is told all holds after one was laid on, lifted or has ended,
	// before the call that did it returns; calls do not overlap. It must not lay
	// on or lift holds itself; nil: holds do not survive a restart.
	HoldsChanged func([]Hold)
	// SinkHoldsChanged is told in the same way of the pauses of sinks.
	SinkHoldsChanged func([]SinkHold)
	// RestChanged is told of a pause that a sink asked for and that ends later than the
	// one before. It must neither block nor call Drains; nil: pauses do not survive a restart.
	RestChanged func(Rest)
}

// Drains are all drains of the policy, and the state of their sinks. All
// methods are safe for concurrent use.
type Drains struct {
	cfg       Config
	buf       Buffer
	log       *slog.Logger
	metrics   *metrics
	expirer   *expirer                            // nil: nothing expires in such a buffer
	promiser  *promiser                           // nil: such a buffer cannot say where messages stand
	canceller *canceller                          // nil: in such a buffer nothing can be found by key
	doors     atomic.Pointer[map[string][]*drain] // by stream; those that Feasible asks
	bound     int64                               // of the messages of a drain that wait for another attempt
	changed   chan struct{}                       // one slot; the set of drains changed
	lags      chan struct{}                       // one slot; a lag is to be read

	applying sync.Mutex // held while a policy is applied
	holding  sync.Mutex // held while holds change and that is told; comes before mu

	mu     sync.Mutex
	order  []string              // guarded by mu; names in the order of the policy
	drains map[string]*drain     // guarded by mu
	sinks  map[string]*sinkState // guarded by mu
	hands  map[string]hands      // guarded by mu; by drain

	sinkHolds map[string]SinkHold // guarded by mu; by sink
	rests     map[string]Rest     // guarded by mu; of sinks that are not in the policy, some of them over
}

// New returns drains without a policy. It starts nothing. A nil registerer
// leaves the metrics unregistered.
func New(cfg Config, buf Buffer, log *slog.Logger, reg prometheus.Registerer) *Drains {
	if cfg.StopTimeout <= 0 {
		cfg.StopTimeout = defaultStopTimeout
	}
	if cfg.Random == nil {
		cfg.Random = rand.Int64N
	}
	d := &Drains{
		cfg:     cfg,
		buf:     buf,
		log:     log,
		metrics: newMetrics(reg),
		bound:   maxScheduled,
		changed: make(chan struct{}, 1),
		lags:    make(chan struct{}, 1),
		drains:  make(map[string]*drain),
		sinks:   make(map[string]*sinkState),
		hands:   make(map[string]hands),

		sinkHolds: make(map[string]SinkHold),
		rests:     make(map[string]Rest),
	}
	d.doors.Store(&map[string][]*drain{})
	d.expirer = newExpirer(d)
	d.promiser = newPromiser(d)
	d.canceller = newCanceller(buf, log)
	if reg != nil {
		reg.MustRegister(collector{d})
	}
	return d
}

// Run delivers until ctx is done, then starts nothing any more, gives what is
// in flight the stop time-out, and returns nil. It returns an error as soon as
// the buffer has failed. Call it once.
func (d *Drains) Run(ctx context.Context) error {
	attempts, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	g, ctx := errgroup.WithContext(ctx)
	loops := loops{
		running:   make(map[string]loop),
		scheduled: d.scheduled,
		start: func(dr *drain, after <-chan struct{}) context.CancelFunc {
			ctx, cancel := context.WithCancel(ctx)
			g.Go(func() error {
				defer cancel()
				<-after // the buffer has one receiver of wake-ups a drain
				return dr.run(ctx, attempts)
			})
			return cancel
		},
	}
	if d.expirer != nil {
		g.Go(func() error { return d.expirer.run(ctx) })
	}
	if d.promiser != nil {
		g.Go(func() error { return d.promiser.run(ctx) })
	}
	g.Go(func() error { return d.watchLags(ctx) })
	timer := time.NewTimer(maxSleep)
	defer timer.Stop()
	for ctx.Err() == nil {
		loops.match(d.list())
		select {
		case <-ctx.Done():
		case <-d.changed:
		case <-after(timer, d.tidyHolds(time.Now())):
		}
	}
	defer time.AfterFunc(d.cfg.StopTimeout, abandon).Stop()
	return g.Wait()
}

// tidyHolds does for what has no loop of its own what drains do for themselves,
// and returns when to do so again; zero: never.
func (d *Drains) tidyHolds(now time.Time) time.Time {
	return soonest(d.tidyAbsent(now), d.tidySinks(now))
}

// loops are those that run. Only Run uses it.
type loops struct {
	running   map[string]loop
	scheduled func() map[string]uint64
	start     func(dr *drain, after <-chan struct{}) context.CancelFunc
}

type loop struct {
	drain  *drain
	cancel context.CancelFunc
}

// match stops the loops of drains that are gone and starts those of new ones. A
// name that went and came back starts when its former loop takes no more.
func (l loops) match(want []*drain) {
	wanted := make(map[string]*drain, len(want))
	for _, dr := range want {
		wanted[dr.name] = dr
	}
	former := make(map[string]<-chan struct{})
	for name, lp := range l.running {
		if wanted[name] != lp.drain {
			lp.cancel()
			former[name] = lp.drain.done
			delete(l.running, name)
		}
	}
	nothing := make(chan struct{})
	close(nothing)
	var scheduled map[string]uint64 // counted once, however many start
	for _, dr := range want {
		if _, ok := l.running[dr.name]; ok {
			continue
		}
		if scheduled == nil {
			scheduled = l.scheduled()
		}
		dr.scheduled.Store(int64(scheduled[dr.name]))
		after := former[dr.name]
		if after == nil {
			after = nothing
		}
		l.running[dr.name] = loop{drain: dr, cancel: l.start(dr, after)}
	}
}

// scheduled counts the messages of each drain that wait for another attempt.
func (d *Drains) scheduled() map[string]uint64 {
	counts := make(map[string]uint64)
	for _, s := range d.buf.Stats().Drains {
		counts[s.Drain] = s.Scheduled
	}
	return counts
}

// Budget returns the budget of a sink, for live traffic to take from, or nil.
// It stays the same for as long as policies name the sink.
func (d *Drains) Budget(sink string) *limiter.Budget {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.sinks[sink]; ok {
		return s.budget
	}
	return nil
}

// event tells an operator.
func (d *Drains) event(kind, object, detail string) {
	d.log.Info("event", "kind", kind, "object", object, "detail", detail)
	if d.cfg.Event != nil {
		d.cfg.Event(kind, object, detail)
	}
}

// list returns the drains in the order of the policy.
func (d *Drains) list() []*drain {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*drain, 0, len(d.order))
	for _, name := range d.order {
		list = append(list, d.drains[name])
	}
	return list
}

func (d *Drains) drain(name string) *drain {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.drains[name]
}

func (d *Drains) sinkList() []*sinkState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.sinks))
}
