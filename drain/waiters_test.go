package drain

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
	"forebay/buffer/buffertest"

	"forebay/limiter"
	"forebay/policies"
)

// crowded is a policy of n drains of one sink.
func crowded(n int, budget policies.Budget) (names []string, s *policies.Set) {
	s = set(base(limiter.Unlimited), budget)
	like := s.Drains[0]
	s.Drains = nil
	for i := range n {
		like.Name = fmt.Sprintf("d%d", i)
		names = append(names, like.Name)
		s.Drains = append(s.Drains, like)
	}
	return names, s
}

// looks is how often drains looked whether the sink takes something.
func (b *bench) looks() uint64 {
	s := b.drains.sink("service")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

// What waits for a shared budget costs nothing until it is its turn: a message takes as
// many looks among five hundred drains as among three. All of them get on, and nothing of
// the budget is lost.
func TestWaitersAreLeftAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		budget policies.Budget
		takes  time.Duration
		body   int
		rate   float64
	}{
		"tokens":       {reserving(50, 1, 64, 0), 0, 0, 50},
		"tokens, fast": {reserving(400, 8, 64, 0), 0, 0, 400},
		"slots":        {reserving(limiter.Unlimited, 1, 5, 0), 100 * time.Millisecond, 0, 50},
		"bytes":        {bytesAlone(50_000), 0, 1000, 50},
		"both":         {policies.Budget{Limit: limit(60, 2), Concurrency: 64, Bytes: 50_000}, 0, 1000, 50},
	} {
		for _, n := range []int{3, 500} {
			names, policy := crowded(n, tt.budget)
			t.Run(fmt.Sprintf("%s, %d drains", name, n), func(t *testing.T) {
				inBubble(t, names, func(b *bench) {
					b.sinks["service"].slow(tt.takes)
					b.apply(policy)
					b.bodies(repeat(int(30*tt.rate)/n+2, tt.body)...)
					b.pass(12 * time.Second) // each has its first message by then
					before := b.looks()
					had, sum, least, most := b.had(10*time.Second), 0.0, 1e9, 0.0
					for _, x := range had {
						sum, least, most = sum+x, min(least, x), max(most, x)
					}
					if sum < 10*tt.rate*0.98 || sum > 10*tt.rate*1.02+2 {
						t.Errorf("%v messages in 10 s, want %v", sum, 10*tt.rate)
					}
					if most-least > max(float64(2+24/n), tt.rate*0.04) {
						t.Errorf("somebody had %v and somebody %v", least, most)
					}
					if looks := float64(b.looks() - before); looks > 6*sum {
						t.Errorf("%v looks for %v messages", looks, sum)
					}
				})
			})
		}
	}
}

// BenchmarkWaiters is what the processors do while drains wait for one sink that takes 500
// messages a second, deliveries included.
func BenchmarkWaiters(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		b.Run(fmt.Sprintf("%d drains", n), func(b *testing.B) {
			names, policy := crowded(n, reserving(500, 5, 64, 0))
			buf := buffertest.NewMem(buffer.Stream{Name: "orders", Drains: names})
			msgs := make([]buffer.Message, b.N/n+10)
			if _, err := buf.Append(b.Context(), "orders", time.Now(), msgs); err != nil {
				b.Fatal(err)
			}
			taken := make(chan struct{}, 64)
			sink := &fakeSink{answer: func(Delivery) Outcome {
				taken <- struct{}{}
				return Outcome{Class: Success, Status: 200}
			}}
			d := New(Config{NewSink: func(policies.Sink) (Sink, error) { return sink, nil }}, buf, slog.New(slog.DiscardHandler), nil)
			ctx, stop := context.WithCancel(b.Context())
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx) }()
			if err := d.Apply(policy); err != nil {
				b.Fatal(err)
			}
			<-taken // all have looked
			b.ResetTimer()
			began := processors(b)
			for range b.N {
				<-taken
			}
			spent := processors(b) - began
			b.ReportMetric(100*spent.Seconds()/b.Elapsed().Seconds(), "%core")
			b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "cpu-µs/msg")
			stop()
			for len(done) == 0 {
				select {
				case <-taken:
				case err := <-done:
					done <- err
				}
			}
		})
	}
}

// processors is the time that they have worked for this process.
func processors(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Who is called and does not come is not waited for, and who leaves lets the next come.
func TestLineGoesOn(t *testing.T) {
	for name, tt := range map[string]struct {
		leaves bool
		within time.Duration
	}{
		"the first does not come": {false, 10*time.Millisecond + grace},
		"the first leaves":        {true, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSinkState(time.Now(), policies.Sink{Name: "service", Budget: reserving(100, 1, 64, 0)}, &fakeSink{})
			drains := make([]*core, 3)
			calls := make([]chan struct{}, 3)
			for i := range drains {
				calls[i] = make(chan struct{}, 1)
				drains[i] = newCore(time.Now(), always(limiter.Unlimited), s.budget)
				drains[i].freed = calls[i]
				if v := s.step(time.Now(), drains[i], 5); v.behind != (i > 0) || v.binding != SinkBudget {
					t.Fatalf("drain %d: %+v", i, v)
				}
			}
			if tt.leaves {
				s.quit(time.Now(), drains[0], true)
			}
			began := time.Now()
			<-calls[1]
			if took := time.Since(began); took != tt.within {
				t.Errorf("%s: the next was called after %v, want %v", name, took, tt.within)
			}
			v := s.step(time.Now(), drains[1], 5)
			if v.take == 0 {
				time.Sleep(time.Until(v.again))
				v = s.step(time.Now(), drains[1], 5)
			}
			if v.take != 1 || v.lacks != 4 {
				t.Errorf("%s: the next found %+v", name, v)
			}
			<-calls[2]
			for _, c := range drains {
				s.quit(time.Now(), c, true)
			}
			if len(s.shares.line.order)+s.shares.line.wants+len(s.shares.drains.stakes) != 0 {
				t.Errorf("%s: left behind: %+v", name, s.shares)
			}
		})
	}
}
