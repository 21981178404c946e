package drain

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

// bodies appends messages with bodies of these sizes.
func (b *bench) bodies(sizes ...int) {
	b.t.Helper()
	var msgs []buffer.Message
	for _, n := range sizes {
		msgs = append(msgs, buffer.Message{Method: "POST", Target: "/", Body: make([]byte, n)})
	}
	_, err := b.buf.Append(b.t.Context(), "orders", time.Now(), msgs)
	b.must(err)
}

func repeat(n, size int) (sizes []int) {
	for range n {
		sizes = append(sizes, size)
	}
	return sizes
}

// bytesAlone is a budget of nothing but bytes.
func bytesAlone(rate int64) policies.Budget {
	budget := wide()
	budget.Bytes = rate
	return budget
}

// A drain keeps to the bytes a second, whatever the sizes; a body that is larger than
// what may leave at once leaves too, and what comes after waits for it.
func TestBytes(t *testing.T) {
	for name, tt := range map[string]struct {
		sizes []int
		want  float64 // messages in 4 s
	}{
		"small":             {repeat(5_000, 1000), 4_000},
		"above the burst":   {repeat(20, 400_000), 10},
		"about the burst":   {repeat(500, 10_000), 400},
		"first a large one": {append([]int{900_000}, repeat(5_000, 1000)...), 3101},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				b.apply(set(base(limiter.Unlimited), bytesAlone(1_000_000)))
				b.bodies(tt.sizes...)
				had := b.had(4 * time.Second)
				b.wantHad("in 4 s", had, map[string]float64{"d": tt.want}, 0.02)
				w, _ := b.drains.Why(time.Now(), "d")
				if w.Binding != SinkBudget || !strings.Contains(showWhy(w, time.Now()), "bytes: 1000000 of bodies a second") {
					t.Errorf("why: %s", showWhy(w, time.Now()))
				}
			})
		})
	}
}

// A large body is not kept waiting by small ones that others send all the time, live
// requests count, and what is without a body waits for nothing.
func TestBytesOfSeveral(t *testing.T) {
	inBubble(t, []string{"a", "b", "c"}, func(b *bench) {
		policy := weighing(bytesAlone(1_000_000), map[string]int{"a": 1, "b": 1})
		policy.Streams = append(policy.Streams, policies.Stream{Name: "large"})
		b.apply(policy)
		b.bodies(append(repeat(2000, 1000), 800_000)...)
		began := time.Now()
		enter := func(size int64, wait time.Duration) error {
			turn, err := b.drains.Enter(b.t.Context(), "service", size, wait)
			if err == nil {
				turn.Context(b.t.Context())
				turn.End()
			}
			return err
		}
		if err := enter(1_000_000, 5*time.Second); err != nil {
			t.Errorf("a large live request beside drains that take all: %v", err)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("a large live request waited %v, want 10 ms of the rate and a moment", took)
		}
		if err := enter(1000, 0); err == nil {
			t.Error("a small one right after it passed")
		}
		for _, none := range []int64{0, -1} {
			if err := enter(none, 0); err != nil {
				t.Errorf("a request of %d bytes: %v", none, err)
			}
		}
		b.pass(time.Second)
		had := b.had(2 * time.Second)
		if sum := had["a"] + had["b"]; sum < 1900 || sum > 2050 || had["a"] < 500 || had["b"] < 500 {
			t.Errorf("in 2 s after the large one drains had %v, want 2000 together", had)
		}
		b.pass(10 * time.Second)
		if a, bb := b.stats("a").Delivered, b.stats("b").Delivered; a != 2001 || bb != 2001 {
			t.Errorf("delivered %d and %d, want all", a, bb)
		}
	})
}

// A turn that was not used has not used bytes either.
func TestBytesAreGivenBack(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(0), bytesAlone(100_000)))
		b.pass(time.Second)
		for range 3 {
			turn, err := b.drains.Enter(b.t.Context(), "service", 1000, 0)
			if err != nil {
				t.Fatalf("Enter: %v", err)
			}
			turn.End()
		}
	})
}

// Whatever sizes come when, the bytes that leave are inside rate × t and the burst, but
// for what the last body has above the burst.
func TestBytesEnvelope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(100, 1e6).Draw(t, "rate")
		var b bandwidth
		now := start()
		b.set(now, rate, Batch{})
		type sent struct {
			at   time.Time
			size float64
		}
		var all []sent
		for range rapid.IntRange(1, 100).Draw(t, "bodies") {
			size := rapid.Int64Range(1, int64(rate/20)).Draw(t, "size")
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "µs")) * time.Microsecond)
			if !b.take(now, "who", nil, size).After(now) {
				all = append(all, sent{now, float64(size)})
			}
		}
		for i := range all {
			sum := 0.0
			for _, s := range all[i:] {
				sum += s.size
				most := rate*s.at.Sub(all[i].at).Seconds() + rate*burstSeconds + max(0, s.size-rate*burstSeconds) + 1e-3
				if sum > most {
					t.Fatalf("%v bytes in %v, at most %v", sum, s.at.Sub(all[i].at), most)
				}
			}
		}
	})
}
