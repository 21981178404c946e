package drain

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"forebay/buffer"
	"forebay/buffer/buffertest"
	"forebay/limiter"
	"forebay/policies"
)

// fakeSink answers as answer says, and remembers when attempts began.
type fakeSink struct {
	answer  func(m Delivery) Outcome // nil: success
	takes   time.Duration            // how long an attempt lasts, until slow says otherwise
	connect func() time.Duration     // how long a connect takes; nil: no time
	batch   Batch                    // what it takes at once

	mu       sync.Mutex
	times    []time.Time    // guarded by mu; of each message
	sizes    []int          // guarded by mu; of batches
	attempts map[string]int // guarded by mu; by id
	inFlight int            // guarded by mu
	most     int            // guarded by mu; the most in flight at once
	closed   int            // guarded by mu
	longest  time.Duration  // guarded by mu; the longest rest it was told
}

// Deliver implements Sink.
func (s *fakeSink) Deliver(ctx context.Context, msgs []Delivery) []Outcome {
	if s.connect != nil {
		time.Sleep(s.connect())
	}
	if Begin(ctx) != nil {
		return slices.Repeat([]Outcome{{Unsent: true}}, len(msgs))
	}
	s.begin(msgs)
	defer s.end()
	if takes := s.lasts(); takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return slices.Repeat([]Outcome{{Class: Retry, Error: "abandoned"}}, len(msgs))
		}
	}
	if s.answer == nil {
		return slices.Repeat([]Outcome{{Class: Success, Status: 200}}, len(msgs))
	}
	outcomes := make([]Outcome, len(msgs))
	for i, m := range msgs {
		outcomes[i] = s.answer(m)
	}
	return outcomes
}

// Batch is what Sink speaks of.
func (s *fakeSink) Batch() Batch { return s.batch }

// slow makes attempts last so long from now on.
func (s *fakeSink) slow(takes time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes = takes
}

func (s *fakeSink) lasts() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takes
}

func (s *fakeSink) begin(msgs []Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempts == nil {
		s.attempts = make(map[string]int)
	}
	s.sizes = append(s.sizes, len(msgs))
	for _, m := range msgs {
		s.attempts[m.ID]++
		s.times = append(s.times, time.Now())
	}
	s.inFlight++
	s.most = max(s.most, s.inFlight)
}

func (s *fakeSink) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
}

// CloseIdleConnections is what Config.NewSink speaks of.
func (s *fakeSink) CloseIdleConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
}

// LimitRest is what Config.NewSink speaks of.
func (s *fakeSink) LimitRest(longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = longest
}

// began returns when attempts began, since a time.
func (s *fakeSink) began(since time.Time) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var times []time.Time
	for _, at := range s.times {
		if !at.Before(since) {
			times = append(times, at)
		}
	}
	return times
}

// seen returns the attempts by id.
func (s *fakeSink) seen() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.attempts)
}

// atOnce returns the most attempts that were in flight at once.
func (s *fakeSink) atOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// closes returns how often connections were closed.
func (s *fakeSink) closes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// bench is a buffer, sinks by name, and drains that run in a bubble.
type bench struct {
	t      *testing.T
	buf    *buffertest.Mem
	sinks  map[string]*fakeSink
	wrap   func(*fakeSink) Sink // nil: they are as they are
	drains *Drains
	// newSink is another's than sink where a test says so.
	newSink func(policies.Sink) (Sink, error)
	reg     *prometheus.Registry
	cancel  context.CancelFunc
	done    chan error
	events  atomic.Int64 // that were told

	mu   sync.Mutex
	told [][]string // guarded by mu; the kinds of the holds each time they changed
	said []string   // guarded by mu; events of drains, as "kind object detail"
	rest []Rest     // guarded by mu; the pauses that sinks asked for
}

// inBubble runs a test with drains of a stream named orders.
func inBubble(t *testing.T, drains []string, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{
			t:     t,
			buf:   buffertest.NewMem(buffer.Stream{Name: "orders", Drains: drains}),
			sinks: map[string]*fakeSink{"service": {}, "other": {}},
			done:  make(chan error, 1),
		}
		b.newSink = b.sink
		b.start(Config{})
		test(b)
		b.stop()
	})
}

// start runs new drains on what is in the buffer.
func (b *bench) start(cfg Config) {
	cfg.Event, cfg.HoldsChanged, cfg.RestChanged, cfg.NewSink = b.hear, b.tell, b.rests, func(p policies.Sink) (Sink, error) { return b.newSink(p) }
	b.reg = prometheus.NewRegistry()
	b.drains = New(cfg, b.buf, slog.New(slog.DiscardHandler), b.reg)
	ctx, cancel := context.WithCancel(b.t.Context())
	b.cancel = cancel
	go func() { b.done <- b.drains.Run(ctx) }()
}

func (b *bench) sink(p policies.Sink) (Sink, error) {
	if s, ok := b.sinks[p.Name]; ok && b.wrap != nil {
		return b.wrap(s), nil
	} else if ok {
		return s, nil
	}
	return nil, fmt.Errorf("no fake for %s", p.Name)
}

func (b *bench) stop() {
	b.t.Helper()
	b.cancel()
	if err := <-b.done; err != nil {
		b.t.Errorf("Run = %v after its context was done", err)
	}
}

// restart abandons what is in flight and starts anew with the holds there were.
func (b *bench) restart(policy *policies.Set) {
	b.t.Helper()
	holds, err := json.Marshal(b.drains.Holds())
	b.must(err)
	b.stop()
	var kept []Hold
	b.must(json.Unmarshal(holds, &kept))
	b.start(Config{StopTimeout: time.Millisecond})
	b.must(b.drains.Restore(kept))
	b.drains.RestoreRests(time.Now(), b.rested())
	b.apply(policy)
}

// hear remembers an event.
func (b *bench) hear(kind, object, detail string) {
	b.events.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, kind+" "+object+" "+detail)
}

// heard returns what hear was told since it was asked before.
func (b *bench) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := b.said
	b.said = nil
	return said
}

// tell remembers.
func (b *bench) tell(holds []Hold) {
	kinds := []string{}
	for _, h := range holds {
		kinds = append(kinds, string(h.Kind))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, kinds)
}

// rests remembers, as a store would: without the monotonic clock.
func (b *bench) rests(r Rest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r.Until = r.Until.Round(0)
	b.rest = append(b.rest, r)
}

func (b *bench) rested() []Rest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.rest)
}

// changes returns what tell was told.
func (b *bench) changes() [][]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.told)
}

// retry is generous, and its waits are short.
func retry() policies.Retry {
	return policies.Retry{MaxAttempts: 5, MaxAge: 24 * time.Hour, Initial: time.Second, Max: time.Minute, HonourRetryAfter: time.Hour}
}

// set is a policy with one drain to the sink named service.
func set(schedule policies.Schedule, budget policies.Budget) *policies.Set {
	return &policies.Set{
		Streams: []policies.Stream{{Name: "orders"}},
		Sinks:   []policies.Sink{{Name: "service", Budget: budget}},
		Drains:  []policies.Drain{{Name: "d", Stream: "orders", Sink: "service", Schedule: schedule, Retry: retry()}},
	}
}

func base(rate limiter.Rate) policies.Schedule { return policies.Schedule{Base: rate} }

func wide() policies.Budget {
	return policies.Budget{Limit: limit(limiter.Unlimited, 1), Concurrency: 64}
}

func (b *bench) apply(s *policies.Set) {
	b.t.Helper()
	if err := b.drains.Apply(s); err != nil {
		b.t.Fatalf("Apply: %v", err)
	}
	synctest.Wait()
}

// fill appends n messages.
func (b *bench) fill(n int) {
	b.t.Helper()
	if n == 0 {
		return
	}
	msgs := make([]buffer.Message, n)
	for i := range msgs {
		msgs[i] = buffer.Message{Method: "POST", Target: "/"}
	}
	if _, err := b.buf.Append(b.t.Context(), "orders", time.Now(), msgs); err != nil {
		b.t.Fatalf("Append: %v", err)
	}
	synctest.Wait()
}

// pass lets time pass.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) stats(drain string) buffer.DrainStats {
	for _, s := range b.buf.Stats().Drains {
		if s.Drain == drain {
			return s
		}
	}
	b.t.Fatalf("no stats of %s", drain)
	return buffer.DrainStats{}
}

func (b *bench) wantDelivered(drain string, want uint64) {
	b.t.Helper()
	if got := b.stats(drain).Delivered; got != want {
		b.t.Errorf("%v: %s delivered %d, want %d", time.Now().Format(time.TimeOnly), drain, got, want)
	}
}

// wantInside checks windows from 0.1 to 5 s against the envelope.
func (b *bench) wantInside(times []time.Time, rate float64, burst int) {
	b.t.Helper()
	for _, window := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second} {
		most, first := int(rate*window.Seconds())+burst, 0
		for i, at := range times {
			for at.Sub(times[first]) > window {
				first++
			}
			if n := i - first + 1; n > most {
				b.t.Errorf("%d attempts in %v, at most %d at %v/s", n, window, most, rate)
				return
			}
		}
	}
}
