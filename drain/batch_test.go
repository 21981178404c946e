package drain

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/limiter"
	"forebay/policies"
)

// batches returns the sizes of the batches that the sink was given since it was asked
// before.
func (s *fakeSink) batches() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	sizes := s.sizes
	s.sizes = nil
	return sizes
}

// inBatches runs a test with a sink that takes batches.
func inBatches(t *testing.T, batch Batch, test func(b *bench, s *fakeSink)) {
	t.Helper()
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		s.batch = batch
		test(b, s)
	})
}

func TestRunInBatches(t *testing.T) {
	const wait = 200 * time.Millisecond
	tests := []struct {
		name  string
		batch Batch
		rate  limiter.Rate
		fill  int
		after time.Duration
		want  []int
	}{
		{"whole ones leave at once", Batch{Messages: 20, Wait: wait}, limiter.Unlimited, 60, 0, []int{20, 20, 20}},
		{"the rest waits for more", Batch{Messages: 20, Wait: wait}, limiter.Unlimited, 50, 0, []int{20, 20}},
		{"and leaves without them", Batch{Messages: 20, Wait: wait}, limiter.Unlimited, 50, wait, []int{20, 20, 10}},
		{"without a wait it goes", Batch{Messages: 20}, limiter.Unlimited, 50, 0, []int{20, 20, 10}},
		{"by bytes", Batch{Messages: 20, Bytes: 12}, limiter.Unlimited, 5, 0, []int{2, 2, 1}},
		{"one that is too large goes alone", Batch{Messages: 20, Bytes: 4}, limiter.Unlimited, 3, 0, []int{1, 1, 1}},
		{"tokens are waited for", Batch{Messages: 20, Wait: wait}, 200, 60, 190 * time.Millisecond, []int{20}},
		{"but for no longer", Batch{Messages: 20, Wait: wait}, 50, 60, 250 * time.Millisecond, []int{11}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBatches(t, tt.batch, func(b *bench, s *fakeSink) {
				b.apply(set(base(tt.rate), wide()))
				b.bodies(slices.Repeat([]int{5}, tt.fill)...)
				b.pass(tt.after)
				got := s.batches()
				slices.SortFunc(got, func(a, b int) int { return b - a })
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("batches (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A batch holds one slot, and its messages are tokens each.
func TestBatchesKeepToTheBudget(t *testing.T) {
	inBatches(t, Batch{Messages: 50, Wait: 100 * time.Millisecond}, func(b *bench, s *fakeSink) {
		s.slow(300 * time.Millisecond)
		budget := policies.Budget{Limit: limit(400, 50), Concurrency: 2}
		b.apply(set(base(limiter.Unlimited), budget))
		from := time.Now()
		b.fill(4000)
		b.pass(10 * time.Second)
		sizes, n := s.batches(), 0
		for _, size := range sizes {
			n += size
		}
		// Two slots of 300 ms let 333/s through.
		if n < 3200 || n > 3400 || s.atOnce() != 2 {
			t.Errorf("%d messages in 10 s, %d batches at once, want about 3333 and 2", n, s.atOnce())
		}
		b.wantInside(s.began(from), 400, 50)
		for i, size := range sizes {
			if size > 50 {
				t.Errorf("batch %d has %d messages", i, size)
			}
		}
	})
}

func TestBatchesKeepTheRate(t *testing.T) {
	for _, rate := range []limiter.Rate{3, 50, 333, 20_000} {
		inBatches(t, Batch{Messages: 20, Wait: 200 * time.Millisecond}, func(b *bench, s *fakeSink) {
			n := min(10_000, int(rate*600))
			b.apply(set(base(rate), wide()))
			b.fill(n)
			from := time.Now()
			b.pass(time.Duration(float64(n)/float64(rate)*float64(time.Second)) + time.Second)
			b.wantDelivered("d", uint64(n))
			times := s.began(from)
			if took, want := times[n-1].Sub(from).Seconds(), float64(n)/float64(rate); took > want*1.01+0.2 || took < want*0.99-0.2 {
				t.Errorf("%d messages at %v took %v s, want %v s", n, rate, took, want)
			}
			b.wantInside(times, float64(rate), pace(rate, s.batch).Burst)
		})
	}
}

// What one message comes to is no other's matter, and the sink has failed if it took none.
func TestBatchIsSettledByMessage(t *testing.T) {
	inBatches(t, Batch{Messages: 10, Wait: time.Millisecond}, func(b *bench, s *fakeSink) {
		var unsent sync.Map
		s.answer = func(m Delivery) Outcome {
			_, before := unsent.LoadOrStore(m.ID, true)
			switch {
			case m.Offset%5 == 1:
				return Outcome{Class: Permanent, Status: 400, Error: "mapping conflict"}
			case m.Offset%5 == 2 && m.Tries.Attempts == 0:
				return Outcome{Class: Retry, Status: 429}
			case m.Offset%5 == 3 && !before:
				return Outcome{Unsent: true}
			default:
				return Outcome{Class: Success, Status: 201}
			}
		}
		policy := set(base(limiter.Unlimited), wide())
		policy.Sinks[0].Breaker = policies.Breaker{FailureRatio: 0.1, MinRequests: 1, Window: time.Minute, OpenFor: time.Hour}
		policy.Drains[0].Retry.Initial, policy.Drains[0].Retry.Max = 1000*time.Hour, 1000*time.Hour // they stay scheduled
		b.apply(policy)
		b.fill(100)
		b.pass(3 * time.Millisecond) // what was put back waits again for a batch that is whole
		got := b.stats("d")
		if got.Delivered != 60 || got.Dead["permanent"] != 20 || got.Scheduled != 20 {
			t.Errorf("delivered %d, dead %d, scheduled %d, want 60, 20 and 20", got.Delivered, got.Dead["permanent"], got.Scheduled)
		}
		if why, ok := b.drains.Why(time.Now(), "d"); !ok || why.Binding == Breaker {
			t.Errorf("Why = %v, %v, though most of each batch was taken", why.Binding, ok)
		}
	})
}

func TestBatchThatFailsWhole(t *testing.T) {
	inBatches(t, Batch{Messages: 10}, func(b *bench, s *fakeSink) {
		s.answer = func(Delivery) Outcome { return Outcome{Class: Retry, Status: 503, RetryAfter: 5 * time.Second} }
		budget := wide()
		budget.Concurrency = 1
		b.apply(set(base(limiter.Unlimited), budget))
		b.fill(100)
		b.pass(4 * time.Second)
		if diff := cmp.Diff([]int{10}, s.batches()); diff != "" {
			t.Errorf("batches within the pause (-want +got):\n%s", diff)
		}
	})
}

// The bytes of a batch are waited for together.
func TestBatchesOfBytes(t *testing.T) {
	inBatches(t, Batch{Messages: 100}, func(b *bench, s *fakeSink) {
		budget := wide()
		budget.Bytes = 1_000_000 // 10 ms of it are 10,000
		b.apply(set(base(limiter.Unlimited), budget))
		sizes := slices.Repeat([]int{1000}, 1000)
		b.bodies(sizes...)
		b.pass(time.Second)
		got := s.batches()
		if n := len(got); n < 90 || n > 130 {
			t.Errorf("%d batches in a second, want about 100 of 10 messages: %s", n, fmt.Sprint(got[:min(n, 20)]))
		}
	})
}

// The bytes of what is left behind a full batch, to gather, are not taken for it twice.
func TestGatheringGivesBytesBack(t *testing.T) {
	inBatches(t, Batch{Messages: 100, Wait: time.Second}, func(b *bench, s *fakeSink) {
		budget := wide()
		budget.Bytes = 30_000_000 // 300,000 may leave at once: three batches
		b.apply(set(base(limiter.Unlimited), budget))
		b.pass(time.Second)
		b.bodies(slices.Repeat([]int{1000}, 290)...)
		b.pass(time.Millisecond)
		b.bodies(slices.Repeat([]int{1000}, 10)...)
		b.pass(time.Millisecond)
		if diff := cmp.Diff([]int{100, 100, 100}, s.batches()); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
}

// Batches that gather are full all the same, where one has more bytes than may leave at
// once.
func TestGatheringBatchesOfBytes(t *testing.T) {
	for _, rate := range []limiter.Rate{limiter.Unlimited, 1000} {
		inBatches(t, Batch{Messages: 100, Wait: 200 * time.Millisecond}, func(b *bench, s *fakeSink) {
			budget := wide()
			budget.Bytes = 1_000_000
			b.apply(set(base(rate), budget))
			b.bodies(slices.Repeat([]int{1000}, 10_050)...)
			b.pass(10*time.Second + 500*time.Millisecond)
			got := s.batches()
			if n := slices.Index(got, 50); n != len(got)-1 || n < 98 || n > 102 {
				t.Errorf("rate %v: %d batches, want 100 of 100 messages, and one of 50: %v", rate, len(got), got)
			}
		})
	}
}

// A change of policy takes hold: another sink takes other batches.
func TestBatchChangesWithTheSink(t *testing.T) {
	inBatches(t, Batch{Messages: 10, Wait: time.Second}, func(b *bench, s *fakeSink) {
		policy := set(base(limiter.Unlimited), wide())
		b.apply(policy)
		b.fill(10)
		b.pass(0)
		other := set(base(limiter.Unlimited), wide())
		other.Sinks[0].Name, other.Drains[0].Sink = "other", "other"
		b.apply(other)
		b.fill(3)
		b.pass(0)
		got := [2][]int{s.batches(), b.sinks["other"].batches()}
		if diff := cmp.Diff([2][]int{{10}, {1, 1, 1}}, got); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
}

// A sink that took part of a batch, and asks for a pause for the rest, has it.
func TestBatchThatIsTakenInPart(t *testing.T) {
	inBatches(t, Batch{Messages: 10}, func(b *bench, s *fakeSink) {
		s.answer = func(m Delivery) Outcome {
			if m.Offset == 0 {
				return Outcome{Class: Success, Status: 201}
			}
			return Outcome{Status: 503, RetryAfter: 5 * time.Second}
		}
		b.apply(set(base(limiter.Unlimited), wide()))
		b.fill(10)
		b.pass(time.Second)
		b.fill(10)
		b.pass(3 * time.Second)
		if got := s.batches(); !slices.Equal(got, []int{10}) {
			t.Errorf("batches of %v within the pause, want one of 10 before it", got)
		}
	})
}

// What follows full batches has not waited: it gathers, however the take before it went.
func TestTheRestGathers(t *testing.T) {
	inBatches(t, Batch{Messages: 100, Wait: time.Second}, func(b *bench, s *fakeSink) {
		b.apply(set(base(limiter.Unlimited), wide()))
		b.pass(time.Second)
		b.fill(190)
		b.pass(999 * time.Millisecond)
		if diff := cmp.Diff([]int{100}, s.batches()); diff != "" {
			t.Errorf("batches within the wait (-want +got):\n%s", diff)
		}
		b.pass(time.Millisecond)
		if diff := cmp.Diff([]int{90}, s.batches()); diff != "" {
			t.Errorf("batches after it (-want +got):\n%s", diff)
		}
	})
}
