package drain

import (
	"syscall"
	"testing"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// coreRun is the scheduler of one drain, with time that is virtual: it never waits.
type coreRun struct {
	now  time.Time
	sink *sinkState
	core *core
}

func newCoreRun(paced, budget limiter.Rate, reserveForLive float64) *coreRun {
	now := time.Unix(1_800_000_000, 0)
	s := newSinkState(now, policies.Sink{
		Name:    "orders",
		Breaker: policies.Breaker{MinRequests: 50, FailureRatio: 0.5, Window: 30 * time.Second, OpenFor: 15 * time.Second},
		Budget:  policies.Budget{Limit: pace(budget, Batch{}), Concurrency: 64, ReserveForLive: reserveForLive},
	}, nil)
	return &coreRun{now, s, newCore(now, func(time.Time) policies.Window { return policies.Window{Rate: paced} }, s.budget)}
}

// run has n messages or a few more go through the step that lets one start, the last
// look before it is written, its outcome and its slot.
func (r *coreRun) run(tb testing.TB, n int) {
	for n > 0 {
		v := r.sink.step(r.now, r.core, maxTake)
		if v.take == 0 {
			if !v.again.After(r.now) {
				tb.Fatalf("nothing to take at %v, again at %v: %s", r.now, v.again, v.binding)
			}
			r.now = v.again
			continue
		}
		for range v.take {
			if at, err := r.sink.mayWrite(r.now, r.core.wire, 1); err != nil || at.After(r.now) {
				tb.Fatalf("held at %v until %v: %v", r.now, at, err)
			}
			r.sink.ended(r.now, v.term, Outcome{Class: Success, Status: 200})
			r.sink.budget.Release()
		}
		n -= v.take
	}
}

// BenchmarkCore is what a message costs in the scheduler. The processor's time is what
// counts where others use the machine.
func BenchmarkCore(b *testing.B) {
	for _, bb := range []struct {
		name           string
		paced, budget  limiter.Rate
		reserveForLive float64
	}{
		{"unlimited", limiter.Unlimited, limiter.Unlimited, 0},
		{"schedule=20000", 20_000, limiter.Unlimited, 0},
		{"budget=20000", limiter.Unlimited, 20_000, 0},
		{"both=20000", 20_000, 20_000, 0},
		{"both=20000,reserve", 20_000, 20_000, 0.5},
		{"both=200", 200, 200, 0},
		{"both=10", 10, 10, 0},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			r := newCoreRun(bb.paced, bb.budget, bb.reserveForLive)
			began := processor(b)
			r.run(b, b.N)
			b.ReportMetric(float64(processor(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestCoreAllocates: a message costs the scheduler at most one allocation.
func TestCoreAllocates(t *testing.T) {
	for _, rate := range []limiter.Rate{10, 200, 20_000, limiter.Unlimited} {
		r := newCoreRun(rate, rate, 0)
		r.run(t, 500)
		const messages = 500
		if all := testing.AllocsPerRun(2, func() { r.run(t, messages) }); all > messages {
			t.Errorf("%.0f allocations for %d messages at %v", all, messages, rate)
		}
	}
}
