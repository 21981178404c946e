package drain

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

func adapting(least, most int) policies.Budget {
	return policies.Budget{
		Limit: limit(limiter.Unlimited, 1), Concurrency: most,
		Mode: policies.ConcurrencyAdaptive, MinConcurrency: least,
	}
}

// thrashing is a service that serves as many as its knee at once without getting
// slower. With more each takes as much longer as they are too many, squared: the more
// it is asked the less it serves.
type thrashing struct {
	knee    int
	latency time.Duration
	random  *rand.Rand
	ends    times
	began   map[time.Time][]time.Time // by end
}

func (s *thrashing) capacity() float64 { return float64(s.knee) / s.latency.Seconds() }

func (s *thrashing) begin(now time.Time) {
	over := max(1, float64(len(s.ends)+1)/float64(s.knee))
	took := float64(s.latency) * over * over * (0.9 + 0.2*s.random.Float64())
	if s.random.IntN(100) == 0 {
		took *= 3
	}
	end := now.Add(time.Duration(took))
	heap.Push(&s.ends, end)
	s.began[end] = append(s.began[end], now)
}

// end is the next one that ends.
func (s *thrashing) end() (end, began time.Time) {
	end = heap.Pop(&s.ends).(time.Time)
	all := s.began[end]
	if began = all[0]; len(all) > 1 {
		s.began[end] = all[1:]
	} else {
		delete(s.began, end)
	}
	return end, began
}

type times []time.Time

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i].Before(t[j]) }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(x any)        { *t = append(*t, x.(time.Time)) }
func (t *times) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// offer has a drain offer the service so many times its capacity, and returns what it
// served in each ten seconds, as a share of its capacity. meanwhile is called after each
// answer.
func (s *thrashing) offer(budget policies.Budget, times float64, lasts time.Duration, meanwhile func(now time.Time, sink *sinkState)) []float64 {
	now, over := start(), start().Add(lasts)
	sink := newSinkState(now, policies.Sink{Name: "service", Budget: budget}, nil)
	c := newCore(now, calendar(stretch{0, limiter.Rate(times * s.capacity())}), sink.budget)
	served := make([]float64, int(lasts/(10*time.Second)))
	for now.Before(over) {
		v := sink.step(now, c, 256)
		for range v.take {
			s.begin(now)
		}
		if v.take > 0 {
			continue
		}
		if len(s.ends) == 0 || !v.again.IsZero() && v.again.Before(s.ends[0]) {
			now = v.again
			continue
		}
		end, began := s.end()
		if now = later(now, end); !now.Before(over) {
			break
		}
		served[now.Sub(start())/(10*time.Second)] += 1 / s.capacity() / 10
		sink.timed(now, began, Outcome{Class: Success, Status: 200})
		sink.budget.Release()
		if meanwhile != nil {
			meanwhile(now, sink)
		}
	}
	return served
}

func least(shares []float64) (least, mean float64) {
	least = math.Inf(1)
	for _, x := range shares {
		least, mean = min(least, x), mean+x/float64(len(shares))
	}
	return least, mean
}

// A service that collapses above its knee never does behind an adaptive limit, though
// it is offered three times its capacity for ten minutes, and most of its capacity is
// used. Behind a fixed one it does.
func TestAdaptiveKeepsAServiceFromCollapsing(t *testing.T) {
	for _, tt := range []struct {
		knee    int
		latency time.Duration
		long    bool // ten minutes of it in any case
	}{{4, 20 * time.Millisecond, false}, {20, 50 * time.Millisecond, false}, {60, 200 * time.Millisecond, false}, {16, time.Second, true}} {
		t.Run(fmt.Sprint(tt.knee, tt.latency), func(t *testing.T) {
			service := func() *thrashing {
				return &thrashing{knee: tt.knee, latency: tt.latency, random: rand.New(rand.NewPCG(1, 2)), began: make(map[time.Time][]time.Time)}
			}
			lasts := 3 * time.Minute
			if tt.long || os.Getenv("FOREBAY_INTEGRATION") != "" {
				lasts = 10 * time.Minute
			}
			shares := service().offer(adapting(1, 128), 3, lasts, nil)
			worst, mean := least(shares[3:])
			if _, all := least(shares); all < 0.8 || mean < 0.8 || worst < 0.6 {
				t.Errorf("%.2f of the capacity in the mean, %.2f after half a minute, %.2f in the worst ten seconds: %.2f", all, mean, worst, shares)
			}
			fixed := policies.Budget{Limit: limit(limiter.Unlimited, 1), Concurrency: 128}
			if _, mean := least(service().offer(fixed, 3, lasts, nil)); mean > 0.6 {
				t.Errorf("the control served %.2f of the capacity with a fixed limit: the service does not collapse", mean)
			}
		})
	}
}

// The limit follows a service that takes less for a while, and one that becomes slower
// for good: its latency without load is measured anew.
func TestAdaptiveFollowsAService(t *testing.T) {
	s := &thrashing{knee: 20, latency: 50 * time.Millisecond, random: rand.New(rand.NewPCG(3, 4)), began: make(map[time.Time][]time.Time)}
	shares := s.offer(adapting(1, 128), 3, 10*time.Minute, func(now time.Time, _ *sinkState) {
		s.knee, s.latency = 20, 50*time.Millisecond
		switch now.Sub(start()) / time.Minute {
		case 2, 3:
			s.knee = 5
		case 6, 7, 8, 9:
			s.latency = 150 * time.Millisecond
		}
	})
	if worst, mean := least(shares[1:]); mean < 0.8 || worst < 0.5 {
		t.Errorf("%.2f of the capacity in the mean, %.2f in the worst ten seconds: %.2f", mean, worst, shares)
	}
}

// A service that refuses gets half as much, until it refuses less than a tenth.
func TestAdaptiveHalvesWhatFails(t *testing.T) {
	for _, tt := range []struct {
		every int // one in so many fails
		want  int
	}{{2, 4}, {9, 4}, {11, 64}} {
		a := adaptive{}
		a.set(start(), adapting(4, 64))
		now := start()
		for i := range 5000 {
			now = now.Add(time.Millisecond)
			a.ended(now, now, 10*time.Millisecond, i > 2000 && i%tt.every == 0, a.slots(64))
		}
		if got := a.slots(64); got != tt.want {
			t.Errorf("%d slots where one in %d fails, want %d", got, tt.every, tt.want)
		}
	}
}

// A changed policy bounds the limit from then on, and what was found stays.
func TestAdaptiveFollowsThePolicy(t *testing.T) {
	a := adaptive{}
	a.set(start(), adapting(4, 64))
	a.limit, a.probing, a.floor = 40, false, time.Millisecond
	for _, tt := range []struct {
		budget policies.Budget
		want   int
	}{{adapting(4, 100), 40}, {adapting(4, 30), 30}, {adapting(50, 100), 50}, {wide(), 64}, {adapting(3, 64), 1 + 2}} {
		a.set(start(), tt.budget)
		if got := a.slots(tt.budget.Concurrency); got != tt.want {
			t.Errorf("%d slots, want %d", got, tt.want)
		}
	}
}

// Of an adaptive limit why, metric and status say the same, and live requests count.
func TestRunAdapts(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		s.takes = 50 * time.Millisecond
		b.apply(set(base(limiter.Unlimited), adapting(2, 32)))
		c := b.callers()
		c.start(1, 0)
		c.group.Wait()
		b.fill(12_000)
		says := func(want int, detail string) {
			t.Helper()
			w, _ := b.drains.Why(time.Now(), "d")
			st, _ := b.drains.SinkStatus(time.Now(), "service")
			said := showWhy(w, start())
			if !strings.Contains(said, fmt.Sprintf("of %d slots in use; adaptive, up to 32: %s", want, detail)) || st.Slots != want {
				t.Errorf("%d slots, want %d and %q: %s", st.Slots, want, detail, said)
			}
			if got := b.metric("forebay_sink_concurrency_limit", "service"); got != float64(want) {
				t.Errorf("forebay_sink_concurrency_limit is %v, want %d", got, want)
			}
			if got := b.drains.Status(time.Now())[0]; got.Binding != Concurrency || w.Binding != Concurrency {
				t.Errorf("binding %s, status %s", w.Binding, got.Binding)
			}
		}
		b.pass(10 * time.Second)
		says(32, "the sink's latency is 50ms, 50ms without load")
		if most := s.atOnce(); most != 32 {
			t.Errorf("%d in flight at most", most)
		}
		s.slow(2 * time.Second)
		b.pass(5 * time.Second)
		says(8, "the sink's latency is 2s, 50ms without load")
	})
}

// A change of mode keeps the sink and its connections.
func TestAdaptiveKeepsTheSink(t *testing.T) {
	s := newSinkState(start(), policies.Sink{Name: "service", Budget: wide()}, nil)
	if !s.fits(policies.Sink{Name: "service", Budget: adapting(3, 64)}) {
		t.Error("a change of mode asks for another sink")
	}
	s.update(start(), policies.Sink{Name: "service", Budget: adapting(3, 64)}, nil)
	if got := s.budget.Slots(); got != 3 {
		t.Errorf("%d slots, want as few as there may be", got)
	}
}
