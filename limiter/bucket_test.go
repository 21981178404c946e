package limiter_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"forebay/limiter"
)

func start() time.Time { return time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC) }

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestBucketStartsEmptyOrFull(t *testing.T) {
	limit := limiter.Limit{Rate: 10, Burst: 3}
	if b := limiter.NewEmptyBucket(start(), limit); b.Take(start(), 1) {
		t.Error("an empty bucket gave a token at once")
	}
	b := limiter.NewFullBucket(start(), limit)
	if !b.Take(start(), 3) || b.Take(start(), 1) {
		t.Errorf("a full bucket with burst 3 did not give exactly 3 tokens; level %v", b.Level(start()))
	}
}

func TestBucketWhen(t *testing.T) {
	tests := []struct {
		name  string
		limit limiter.Limit
		n     int
		want  time.Duration
		ok    bool
	}{
		{"one token", limiter.Limit{Rate: 10, Burst: 3}, 1, ms(100), true},
		{"three tokens", limiter.Limit{Rate: 10, Burst: 3}, 3, ms(300), true},
		{"nothing", limiter.Limit{Rate: 10, Burst: 3}, 0, 0, true},
		{"more than the burst", limiter.Limit{Rate: 10, Burst: 3}, 4, 0, false},
		{"a slow rate", limiter.Limit{Rate: 0.5, Burst: 1}, 1, 2 * time.Second, true},
		{"rate 0", limiter.Limit{Rate: 0, Burst: 3}, 1, 0, false},
		{"a rate below any use", limiter.Limit{Rate: 1e-12, Burst: 3}, 1, 0, false},
		{"unlimited", limiter.Limit{Rate: limiter.Unlimited, Burst: 1}, 100, 0, true},
		{"a burst below 1 counts as 1", limiter.Limit{Rate: 10}, 1, ms(100), true},
		{"not a number counts as 0", limiter.Limit{Rate: limiter.Rate(math.NaN()), Burst: 1}, 1, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := limiter.NewEmptyBucket(start(), tt.limit)
			at, ok := b.When(start(), tt.n)
			if ok != tt.ok || ok && at.Sub(start()) != tt.want {
				t.Errorf("When(%d) of %v = %v, %v; want %v, %v", tt.n, tt.limit, at.Sub(start()), ok, tt.want, tt.ok)
			}
			if ok && !b.Take(at, tt.n) {
				t.Errorf("Take(%d) of %v at the time that When gave: no tokens", tt.n, tt.limit)
			}
		})
	}
}

func TestBucketSet(t *testing.T) {
	tests := []struct {
		name     string
		from, to limiter.Limit
		want     float64
	}{
		{"a lower burst clamps", limiter.Limit{Rate: 100, Burst: 50}, limiter.Limit{Rate: 10, Burst: 5}, 5},
		{"a higher burst adds nothing", limiter.Limit{Rate: 10, Burst: 5}, limiter.Limit{Rate: 100, Burst: 50}, 5},
		{"rate 0 leaves none", limiter.Limit{Rate: 10, Burst: 5}, limiter.Limit{Rate: 0, Burst: 5}, 0},
		{"from rate 0 it starts empty", limiter.Limit{Rate: 0, Burst: 5}, limiter.Limit{Rate: 10, Burst: 5}, 0},
		{"from unlimited at most the burst", limiter.Limit{Rate: limiter.Unlimited, Burst: 1}, limiter.Limit{Rate: 10, Burst: 1}, 1},
		{"to unlimited", limiter.Limit{Rate: 10, Burst: 5}, limiter.Limit{Rate: limiter.Unlimited, Burst: 1}, math.Inf(1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := limiter.NewFullBucket(start(), tt.from)
			now := start().Add(time.Hour)
			b.Set(now, tt.to)
			if got := b.Level(now); got != tt.want {
				t.Errorf("level after %v → %v = %v, want %v", tt.from, tt.to, got, tt.want)
			}
		})
	}
}

// A rate that was 0 for an hour gives no credit for that hour.
func TestBucketNoCreditWhileClosed(t *testing.T) {
	b := limiter.NewEmptyBucket(start(), limiter.Limit{Rate: 0, Burst: 10})
	opened := start().Add(time.Hour)
	b.Set(opened, limiter.Limit{Rate: 10, Burst: 10})
	at, ok := b.When(opened, 1)
	if want := opened.Add(ms(100)); !ok || !at.Equal(want) {
		t.Errorf("first token at %v, %v; want %v", at, ok, want)
	}
}

func TestBucketHoldAndReturn(t *testing.T) {
	b := limiter.NewEmptyBucket(start(), limiter.Limit{Rate: 10, Burst: 4})
	b.Hold(start(), 1)
	if got := b.Level(start()); got != 1 {
		t.Errorf("level after Hold(1) = %v", got)
	}
	b.Hold(start(), 9)
	if got := b.Level(start()); got != 4 {
		t.Errorf("level after Hold(9) with burst 4 = %v, want 4", got)
	}
	now := start().Add(ms(50))
	b.Hold(start(), 2)
	if !b.Take(now, 2) {
		t.Fatal("no 2 tokens after Hold(2)")
	}
	b.Return(now, 1)
	if got := b.Level(now); math.Abs(got-1.5) > 1e-6 {
		t.Errorf("level after 2.5 − 2 + 1 = %v", got)
	}
	b.Return(now, 100)
	if got := b.Level(now); got != 4 {
		t.Errorf("level after returning 100 with burst 4 = %v, want 4", got)
	}
}

// Time that runs backwards is never credited twice.
func TestBucketClampsTime(t *testing.T) {
	b := limiter.NewEmptyBucket(start(), limiter.Limit{Rate: 10, Burst: 10})
	later := start().Add(time.Second)
	if !b.Take(later, 10) {
		t.Fatal("no 10 tokens after a second")
	}
	if b.Take(start(), 1) {
		t.Error("a token for a time before the last one")
	}
	if b.Take(later, 1) {
		t.Error("a second token for the second that was spent")
	}
}

// model is a bucket in exact arithmetic. One token is a rational 1.
type model struct {
	rate  *big.Rat // tokens a nanosecond
	burst *big.Rat
	level *big.Rat
	last  time.Time
}

func newModel(rate float64, burst int) *model {
	perNano := new(big.Rat).SetFloat64(rate)
	perNano.Quo(perNano, big.NewRat(int64(time.Second), 1))
	return &model{rate: perNano, burst: big.NewRat(int64(burst), 1), level: new(big.Rat), last: start()}
}

func (m *model) advance(now time.Time) {
	if !now.After(m.last) {
		return
	}
	elapsed := big.NewRat(int64(now.Sub(m.last)), 1)
	m.level.Add(m.level, elapsed.Mul(elapsed, m.rate))
	m.last = now
	m.clamp()
}

func (m *model) add(n int) {
	m.level.Add(m.level, big.NewRat(int64(n), 1))
	m.clamp()
}

func (m *model) clamp() {
	if m.level.Cmp(m.burst) > 0 {
		m.level.Set(m.burst)
	}
}

func (m *model) float() float64 { f, _ := m.level.Float64(); return f }

// Whatever is called at whatever times, backwards too, the bucket agrees with
// the exact one but for what floating point and nanoseconds cannot hold.
func TestBucketAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.01, 50_000).Draw(t, "rate")
		burst := rapid.IntRange(1, 500).Draw(t, "burst")
		b := limiter.NewEmptyBucket(start(), limiter.Limit{Rate: limiter.Rate(rate), Burst: burst})
		m := newModel(rate, burst)
		now := start()
		tolerance := 1e-6
		for i := range rapid.IntRange(1, 200).Draw(t, "operations") {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Second), int64(3*time.Second)).Draw(t, "step")))
			m.advance(now)
			n := rapid.IntRange(1, burst+1).Draw(t, "n")
			switch rapid.IntRange(0, 3).Draw(t, "operation") {
			case 0, 1:
				had := m.float()
				ok := b.Take(now, n)
				if ok && had < float64(n)-tolerance || !ok && n <= burst && had > float64(n)+tolerance {
					t.Fatalf("operation %d: Take(%d) = %v where the exact level is %v", i, n, ok, had)
				}
				if ok {
					m.add(-n)
				}
			case 2:
				b.Return(now, n)
				m.add(n)
			case 3:
				at, ok := b.When(now, n)
				if ok != (n <= burst) {
					t.Fatalf("operation %d: When(%d) ok = %v with burst %d", i, n, ok, burst)
				}
				if ok && at.Before(now) {
					t.Fatalf("operation %d: When(%d) = %v before %v", i, n, at, now)
				}
			}
			tolerance += 1e-9 * rate // a Return cuts a fraction of a nanosecond
			if got, want := b.Level(now), m.float(); math.Abs(got-want) > tolerance {
				t.Fatalf("operation %d: level %v, exact %v", i, got, want)
			}
		}
	})
}

// In any window, what was taken is at most rate × t + burst.
func TestBucketEnvelope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.01, 50_000).Draw(t, "rate")
		burst := rapid.IntRange(1, 500).Draw(t, "burst")
		b := limiter.NewEmptyBucket(start(), limiter.Limit{Rate: limiter.Rate(rate), Burst: burst})
		type take struct {
			at time.Time
			n  int
		}
		var takes []take
		now := start()
		for range rapid.IntRange(1, 150).Draw(t, "operations") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(200*time.Millisecond)).Draw(t, "step")))
			at := now.Add(-time.Duration(rapid.Int64Range(0, int64(5*time.Millisecond)).Draw(t, "late")))
			n := rapid.IntRange(1, burst).Draw(t, "n")
			if b.Take(at, n) {
				takes = append(takes, take{now, n})
			}
		}
		for i := range takes {
			sum := 0
			for _, x := range takes[i:] {
				sum += x.n
				window := x.at.Sub(takes[i].at) + 5*time.Millisecond // what the accounting may lie in the past
				if most := rate*window.Seconds() + float64(burst); float64(sum) > most+1e-6 {
					t.Fatalf("%d taken in %v, at most %v", sum, window, most)
				}
			}
		}
	})
}

// Who takes whenever When says so gets the whole rate.
func TestBucketLongRunRate(t *testing.T) {
	for _, rate := range []float64{0.5, 3, 7.3, 100, 999, 20_000} {
		b := limiter.NewEmptyBucket(start(), limiter.Limit{Rate: limiter.Rate(rate), Burst: max(1, int(rate/100))})
		now, n := start(), 20_000
		for range n {
			at, ok := b.When(now, 1)
			if !ok || !b.Take(at, 1) {
				t.Fatalf("rate %v: no token at the time that When gave", rate)
			}
			now = at
		}
		want := float64(n) / rate
		if got := now.Sub(start()).Seconds(); math.Abs(got-want) > want/1000 {
			t.Errorf("rate %v: %d tokens took %v s, want %v s", rate, n, got, want)
		}
	}
}

func TestRateString(t *testing.T) {
	for rate, want := range map[limiter.Rate]string{50: "50/s", 0.5: "0.5/s", 0: "0/s", limiter.Unlimited: "unlimited"} {
		if got := rate.String(); got != want {
			t.Errorf("String of %v = %q, want %q", float64(rate), got, want)
		}
	}
}
