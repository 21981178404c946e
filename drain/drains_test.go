package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
	"forebay/buffer/buffertest"
	"forebay/limiter"
	"forebay/policies"
)

func TestRunKeepsTheRate(t *testing.T) {
	for _, rate := range []limiter.Rate{0.5, 10, 333, 20_000} {
		inBubble(t, []string{"d"}, func(b *bench) {
			n := min(20_000, max(3600, int(rate*20)))
			b.apply(set(base(rate), wide()))
			b.fill(n)
			from := time.Now()
			b.pass(time.Duration(float64(n)/float64(rate)*float64(time.Second)) + time.Second)
			b.wantDelivered("d", uint64(n))
			times := b.sinks["service"].began(from)
			took := times[n-1].Sub(from).Seconds()
			if want := float64(n) / float64(rate); math.Abs(took-want) > want/100 {
				t.Errorf("%d messages at %v took %v s, want %v s", n, rate, took, want)
			}
			b.wantInside(times, float64(rate), pace(rate, Batch{}).Burst)
		})
	}
}

// nightly is open from 00:30 to 06:30 of the bubble's clock.
func nightly(t *testing.T) policies.Schedule {
	t.Helper()
	return nightlyIn(t, "UTC")
}

func nightlyIn(t *testing.T, zone string) policies.Schedule {
	t.Helper()
	set, errs := policies.Parse([]policies.File{{Name: "p.yaml", Data: fmt.Appendf(nil, `
version: 1
time_intervals:
  - name: night
    intervals: [{ times: [{ start_time: "00:30", end_time: "06:30" }], location: %s }]
streams: [{ name: orders }]
sinks: [{ name: service, http: { urls: ["http://service"] } }]
drains:
  - name: d
    stream: orders
    sink: service
    schedule: { base: 0, entries: [{ name: night, during: [night], rate: 2/s }] }
`, zone)}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return set.Drains[0].Schedule
}

func TestRunKeepsToWindows(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		midnight := time.Now().UTC()
		schedule := nightly(t)
		schedule.Entries[0].Rate = 0.5
		b.apply(set(schedule, wide()))
		b.fill(25_000)
		// Timers wake on whole minutes at most; the edges are exact all the same.
		b.pass(48 * time.Hour)
		times := b.sinks["service"].began(midnight)
		const perNight = 6*3600/2 + 1 // the edge holds one token; the last comes with the next edge
		if n := len(times); n < 2*perNight-2 || n > 2*perNight {
			t.Errorf("%d attempts in two nights, want about %d", n, 2*perNight)
		}
		for day, at := 0, midnight; day < 2; day, at = day+1, at.AddDate(0, 0, 1) {
			opens, closes := at.Add(30*time.Minute), at.Add(390*time.Minute)
			inside := between(times, opens, closes)
			if len(inside) == 0 || inside[0].Sub(opens) > 50*time.Millisecond {
				t.Errorf("day %d: the window opened at %v, attempts: %d", day, opens, len(inside))
			}
			if out := between(times, at, opens); len(out) > 0 {
				t.Errorf("day %d: %d attempts before %v, the first at %v", day, len(out), opens, out[0])
			}
			if out := between(times, closes, at.AddDate(0, 0, 1)); len(out) > 0 {
				t.Errorf("day %d: %d attempts after %v, the first at %v", day, len(out), closes, out[0])
			}
		}
	})
}

func TestRunFeelsANewPolicy(t *testing.T) {
	tests := []struct {
		name     string
		from, to *policies.Set
		want     uint64 // delivered in the second after
	}{
		{"a higher rate", set(base(0.001), wide()), set(base(100), wide()), 100},
		{"a lower rate", set(base(100), wide()), set(base(2), wide()), 3},
		{"rate 0", set(base(100), wide()), set(base(0), wide()), 0},
		{"from rate 0", set(base(0), wide()), set(base(50), wide()), 50},
		{"to unlimited", set(base(0), wide()), set(base(limiter.Unlimited), wide()), 5000},
		{
			"a higher budget of the sink",
			set(base(100), policies.Budget{Limit: limit(0.001, 1), Concurrency: 5}),
			set(base(100), policies.Budget{Limit: limit(40, 1), Concurrency: 5}), 40,
		},
		{
			"a budget of the sink from rate 0",
			set(base(100), policies.Budget{Limit: limit(0, 1), Concurrency: 5}),
			set(base(100), policies.Budget{Limit: limit(40, 1), Concurrency: 5}), 40,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				b.apply(tt.from)
				b.fill(6000)
				b.pass(10 * time.Second)
				before := b.stats("d").Delivered
				b.apply(tt.to)
				b.pass(time.Second + time.Millisecond)
				got := b.stats("d").Delivered - before
				if tt.want == 5000 {
					tt.want = 6000 - before
				}
				if got > tt.want || got+1 < tt.want {
					t.Errorf("%d delivered in the second after the change, want %d", got, tt.want)
				}
			})
		})
	}
}

func TestRunSharesTheSinksBudget(t *testing.T) {
	inBubble(t, []string{"d", "e"}, func(b *bench) {
		s := set(base(1000), policies.Budget{Limit: limit(50, 1), Concurrency: 8})
		e := s.Drains[0]
		e.Name = "e"
		s.Drains = append(s.Drains, e)
		b.apply(s)
		b.fill(10_000)
		from := time.Now()
		b.pass(100 * time.Second)
		times := b.sinks["service"].began(from)
		if n := len(times); n < 4950 || n > 5001 {
			t.Errorf("%d attempts in 100 s at 50/s", n)
		}
		b.wantInside(times, 50, 1)
	})
}

func TestRunKeepsToTheSlots(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.sinks["service"].takes = 100 * time.Millisecond
		b.apply(set(base(limiter.Unlimited), policies.Budget{Limit: limit(limiter.Unlimited, 1), Concurrency: 3}))
		b.fill(300)
		b.pass(5 * time.Second)
		if got := b.drains.Status(time.Now())[0].Binding; got != Concurrency {
			t.Errorf("binding = %s with all slots in use", got)
		}
		b.pass(5*time.Second + time.Millisecond)
		b.wantDelivered("d", 300)
		if got := b.sinks["service"].atOnce(); got != 3 {
			t.Errorf("%d in flight at once, want 3", got)
		}
	})
}

func TestRunTakesWhatArrives(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(limiter.Unlimited), wide()))
		for i := range uint64(100) {
			b.fill(1)
			b.wantDelivered("d", i+1)
			b.pass(time.Minute)
		}
	})
}

func TestRunStopsGracefully(t *testing.T) {
	tests := []struct {
		name      string
		takes     time.Duration
		delivered uint64
		after     time.Duration
	}{
		{"what ends in time counts", 20 * time.Second, 4, 20 * time.Second},
		{"the rest is abandoned", time.Hour, 0, defaultStopTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				b.sinks["service"].takes = tt.takes
				b.apply(set(base(limiter.Unlimited), policies.Budget{Limit: limit(limiter.Unlimited, 1), Concurrency: 4}))
				b.fill(10)
				stopped := time.Now()
				b.cancel()
				err := <-b.done
				b.done <- err
				if err != nil || time.Since(stopped) != tt.after {
					t.Errorf("Run = %v after %v, want nil after %v", err, time.Since(stopped), tt.after)
				}
				s := b.stats("d")
				if s.Delivered != tt.delivered || s.Pending != 10-tt.delivered || s.InFlight != 0 || s.Scheduled != 0 {
					t.Errorf("after the stop: %+v, want %d delivered and the rest pending", s, tt.delivered)
				}
				if got := len(b.sinks["service"].began(time.Time{})); got != 4 {
					t.Errorf("%d attempts, want the 4 that were in flight", got)
				}
			})
		})
	}
}

func TestApplyRemovesAndAddsDrains(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		one := set(base(limiter.Unlimited), wide())
		none := set(base(limiter.Unlimited), wide())
		none.Drains = nil
		b.sinks["service"].takes = 10 * time.Second
		b.apply(one)
		b.fill(1)
		budget := b.drains.Budget("service")
		b.apply(none)
		b.fill(1)
		if got := len(b.drains.Status(time.Now())); got != 0 {
			t.Errorf("%d drains after the last was removed", got)
		}
		b.apply(one)
		b.pass(time.Second)
		if got := len(b.sinks["service"].began(time.Time{})); got != 2 {
			t.Errorf("%d attempts a second after the drain came back, want 2: the one in flight and the new one", got)
		}
		if b.drains.Budget("service") != budget {
			t.Error("the sink's budget did not survive the changes")
		}
		b.pass(time.Minute)
		b.wantDelivered("d", 2)
	})
}

func TestApplyChangesTheSink(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.sinks["service"].takes = time.Minute
		first := set(base(10), wide())
		b.apply(first)
		b.fill(100)
		b.pass(time.Second + time.Millisecond)
		second := set(base(10), wide())
		second.Sinks = append(second.Sinks, policies.Sink{Name: "other", Budget: wide()})
		second.Drains[0].Sink = "other"
		old := b.drains.Budget("service")
		b.apply(second)
		b.pass(2 * time.Minute)
		b.wantDelivered("d", 100)
		if a, o := len(b.sinks["service"].began(time.Time{})), len(b.sinks["other"].began(time.Time{})); a != 10 || o != 90 {
			t.Errorf("%d attempts at the old sink and %d at the new one, want 10 and 90", a, o)
		}
		if old.InFlight() != 0 || b.drains.Budget("other").InFlight() != 0 {
			t.Errorf("slots not released: old %d, new %d", old.InFlight(), b.drains.Budget("other").InFlight())
		}
	})
}

func TestApplyRebuildsASinkOnlyWhenItDiffers(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		b.apply(set(base(10), wide()))
		b.apply(set(base(20), policies.Budget{Limit: limit(5, 1), Concurrency: 64}))
		if s.closes() != 0 {
			t.Errorf("a new rate closed the sink's connections")
		}
		other := set(base(20), wide())
		other.Sinks[0].HTTP = &policies.HTTPSink{Timeout: time.Second}
		b.apply(other)
		if s.closes() != 1 {
			t.Errorf("another time-out closed connections %d times, want once", s.closes())
		}
	})
}

func TestApplyRefusesWithoutEffect(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(10), wide()))
		unknown := set(base(1000), wide())
		unknown.Sinks = append(unknown.Sinks, policies.Sink{Name: "unbuildable"})
		missing := set(base(1000), wide())
		missing.Drains[0].Sink = "nowhere"
		for _, s := range []*policies.Set{unknown, missing} {
			if err := b.drains.Apply(s); err == nil {
				t.Errorf("Apply(%+v) = nil, want an error", s)
			}
		}
		if got := b.drains.Status(time.Now())[0].Permitted; got != 10 {
			t.Errorf("permitted rate %v after a refused policy, want the old 10/s", got)
		}
	})
}

// countingBuffer counts what it is asked.
type countingBuffer struct {
	*buffertest.Mem
	takes *atomic.Int64
}

func (b countingBuffer) Take(drain string, now time.Time, n int) ([]buffer.Delivery, time.Time, error) {
	b.takes.Add(1)
	return b.Mem.Take(drain, now, n)
}

// A drain that has nothing to do, or waits for its window, does not poll.
func TestRunRests(t *testing.T) {
	for _, rate := range []limiter.Rate{limiter.Unlimited, 10, 0} {
		synctest.Test(t, func(t *testing.T) {
			var takes atomic.Int64
			buf := countingBuffer{buffertest.NewMem(buffer.Stream{Name: "orders", Drains: []string{"d"}}), &takes}
			cfg := Config{NewSink: func(policies.Sink) (Sink, error) { return &fakeSink{}, nil }}
			d := New(cfg, buf, slog.New(slog.DiscardHandler), nil)
			if err := d.Apply(set(base(rate), wide())); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- d.Run(ctx) }()
			msgs := []buffer.Message{{Method: "POST", Target: "/"}}
			if _, err := buf.Append(ctx, "orders", time.Now(), msgs); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			before := takes.Load()
			time.Sleep(1000 * time.Hour)
			if n := takes.Load() - before; n != 0 {
				t.Errorf("%d takes in 1000 idle hours at rate %v", n, rate)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// statsBuffer counts how often all of it is counted.
type statsBuffer struct {
	*buffertest.Mem
	counts *atomic.Int64
}

func (b statsBuffer) Stats() buffer.Stats {
	b.counts.Add(1)
	return b.Mem.Stats()
}

// A count goes through all drains: a start in which each drain makes its own
// takes a second of a core for some hundred of them.
func TestStartCountsOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counts atomic.Int64
		orders, policy := buffer.Stream{Name: "orders"}, set(base(10), wide())
		one := policy.Drains[0]
		policy.Drains = nil
		for i := range 100 {
			one.Name = fmt.Sprintf("d%d", i)
			orders.Drains, policy.Drains = append(orders.Drains, one.Name), append(policy.Drains, one)
		}
		cfg := Config{NewSink: func(policies.Sink) (Sink, error) { return &fakeSink{}, nil }}
		d := New(cfg, statsBuffer{buffertest.NewMem(orders), &counts}, slog.New(slog.DiscardHandler), nil)
		if err := d.Apply(policy); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(time.Second)
		if n := counts.Load(); n > 10 {
			t.Errorf("the buffer was counted %d times at the start of 100 drains", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// brokenBuffer fails every Take.
type brokenBuffer struct{ *buffertest.Mem }

func (brokenBuffer) Take(string, time.Time, int) ([]buffer.Delivery, time.Time, error) {
	return nil, time.Time{}, buffer.ErrBroken
}

func TestRunEndsWhenTheBufferFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		buf := brokenBuffer{buffertest.NewMem(buffer.Stream{Name: "orders", Drains: []string{"d"}})}
		cfg := Config{NewSink: func(policies.Sink) (Sink, error) { return &fakeSink{}, nil }}
		d := New(cfg, buf, slog.New(slog.DiscardHandler), nil)
		if err := d.Apply(set(base(10), wide())); err != nil {
			t.Fatal(err)
		}
		if err := d.Run(context.Background()); !errors.Is(err, buffer.ErrBroken) {
			t.Errorf("Run = %v, want ErrBroken", err)
		}
	})
}

// The buffer may learn of a drain a moment later.
func TestRunWaitsForTheBufferToKnow(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.apply(set(base(limiter.Unlimited), wide()))
		b.pass(5 * time.Second)
		if err := b.buf.Configure([]buffer.Stream{{Name: "orders", Drains: []string{"d"}}}); err != nil {
			t.Fatal(err)
		}
		b.fill(1)
		b.pass(2 * time.Second)
		b.wantDelivered("d", 1)
		b.fill(1)
		b.wantDelivered("d", 2)
	})
}
