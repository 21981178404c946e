package drain

import (
	"math"
	"sync/atomic"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

func TestBackoff(t *testing.T) {
	p := policies.Retry{Initial: time.Second, Max: 10 * time.Minute}
	for n, want := range map[int]time.Duration{
		1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 10: 512 * time.Second,
		11: 10 * time.Minute, 64: 10 * time.Minute, math.MaxInt: 10 * time.Minute,
	} {
		if got := backoff(p, n); got != want {
			t.Errorf("backoff after attempt %d = %v, want %v", n, got, want)
		}
	}
	huge := policies.Retry{Initial: time.Hour, Max: math.MaxInt64}
	if got := backoff(huge, 100); got < huge.Initial {
		t.Errorf("backoff overflowed: %v", got)
	}
	if got := backoff(policies.Retry{Max: time.Minute}, math.MaxInt); got != 0 {
		t.Errorf("backoff without an initial wait = %v", got)
	}
}

func TestAttemptDue(t *testing.T) {
	p := policies.Retry{Initial: 4 * time.Second, Max: time.Minute, HonourRetryAfter: time.Hour}
	most := func(n int64) int64 { return n - 1 }
	least := func(int64) int64 { return 0 }
	tests := []struct {
		name       string
		before     int
		retryAfter time.Duration
		random     func(int64) int64
		want       time.Duration
	}{
		{"the most jitter", 0, 0, most, 4 * time.Second},
		{"the least", 0, 0, least, 0},
		{"a third attempt", 2, 0, most, 16 * time.Second},
		{"not before the pause", 0, 30 * time.Second, most, 30 * time.Second},
		{"a pause shorter than the wait", 2, time.Second, most, 16 * time.Second},
		{"a pause below a second", 0, 1, least, time.Second},
		{"a pause over what is honoured", 0, 48 * time.Hour, least, time.Hour},
	}
	for _, tt := range tests {
		a := attempt{before: buffer.Tries{Attempts: tt.before}, now: start(), outcome: Outcome{RetryAfter: tt.retryAfter}}
		if got := a.due(p, tt.random).Sub(start()); got != tt.want {
			t.Errorf("%s: due after %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestAttemptBuried(t *testing.T) {
	p := policies.Retry{MaxAttempts: 3, MaxAge: time.Hour}
	tried := func(attempts, answers int, ago time.Duration) buffer.Tries {
		return buffer.Tries{Attempts: attempts, Answers: answers, FirstAt: start().Add(-ago)}
	}
	tests := []struct {
		name    string
		before  buffer.Tries
		outcome Outcome
		want    buffer.Reason // "": not buried
	}{
		{"permanent at once", buffer.Tries{}, Outcome{Class: Permanent, Status: 422}, buffer.ReasonPermanent},
		{"permanent without a status", buffer.Tries{}, Outcome{Class: Permanent}, buffer.ReasonPermanent},
		{"a first failure", buffer.Tries{}, Outcome{Status: 500}, ""},
		{"the third answer", tried(2, 2, time.Minute), Outcome{Status: 500}, buffer.ReasonMaxAttempts},
		{"a redirect is an answer", tried(2, 2, time.Minute), Outcome{Status: 302}, buffer.ReasonMaxAttempts},
		{"refused is none", tried(9, 2, time.Minute), Outcome{}, ""},
		{"429 is none", tried(9, 2, time.Minute), Outcome{Status: 429}, ""},
		{"502 is none", tried(9, 2, time.Minute), Outcome{Status: 502}, ""},
		{"503 is none", tried(9, 2, time.Minute), Outcome{Status: 503}, ""},
		{"504 is none", tried(9, 2, time.Minute), Outcome{Status: 504}, ""},
		{"a time-out is none", tried(9, 2, time.Minute), Outcome{Class: Timeout}, ""},
		{"a third answer after many failures of the sink", tried(9, 2, time.Minute), Outcome{Status: 500}, buffer.ReasonMaxAttempts},
		{"too old", tried(1, 1, time.Hour), Outcome{Status: 500}, buffer.ReasonMaxAge},
		{"not too old yet", tried(1, 1, time.Hour-1), Outcome{Status: 500}, ""},
		{"too old, and the sink is down", tried(1, 1, 48*time.Hour), Outcome{}, ""},
		{"the first answer after a long time down", tried(99, 0, 48*time.Hour), Outcome{Status: 500}, ""},
	}
	for _, tt := range tests {
		a := attempt{before: tt.before, began: start(), now: start(), outcome: tt.outcome}
		if got, buried := a.buried(p); got != tt.want || buried != (tt.want != "") {
			t.Errorf("%s: buried = %q, %v; want %q", tt.name, got, buried, tt.want)
		}
	}
}

func TestRunRetriesUntilBuried(t *testing.T) {
	tests := []struct {
		name     string
		outcome  Outcome
		reason   buffer.Reason
		attempts int
	}{
		{"permanent", Outcome{Class: Permanent, Status: 422, Error: "status 422"}, buffer.ReasonPermanent, 1},
		{"answers use up max_attempts", Outcome{Status: 500, Error: "status 500"}, buffer.ReasonMaxAttempts, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				b.sinks["service"].answer = func(Delivery) Outcome { return tt.outcome }
				b.apply(set(base(100), wide()))
				b.fill(20)
				b.pass(10 * time.Minute)
				if got := b.stats("d").Dead[tt.reason]; got != 20 {
					t.Errorf("stats = %+v, want 20 dead of %s", b.stats("d"), tt.reason)
				}
				began := b.sinks["service"].began(time.Time{})
				letters, _, err := b.buf.Dead("d", ^uint64(0), 1)
				b.must(err)
				if !letters[0].FirstAt.Equal(began[0]) {
					t.Errorf("the first attempt began at %v, it is told as %v", began[0], letters[0].FirstAt)
				}
				for id, n := range b.sinks["service"].seen() {
					if n != tt.attempts {
						t.Errorf("%d attempts at %s, want %d", n, id, tt.attempts)
					}
				}
			})
		})
	}
}

// A sink that is down for days buries nothing, and what waits leaves when it
// is up again.
func TestRunOutlastsASinkThatIsDown(t *testing.T) {
	for _, outcome := range []Outcome{{Error: "connection refused"}, {Class: Timeout, Error: "timeout"}, {Status: 503}, {Status: 502}} {
		inBubble(t, []string{"d"}, func(b *bench) {
			s := b.sinks["service"]
			up := time.Now().Add(72 * time.Hour)
			s.answer = func(Delivery) Outcome {
				if time.Now().Before(up) {
					return outcome
				}
				return Outcome{Class: Success, Status: 200}
			}
			policy := set(base(100), wide())
			policy.Drains[0].Retry.Max = time.Hour
			b.apply(policy)
			b.fill(10)
			b.pass(72 * time.Hour)
			if got := b.stats("d"); got.Scheduled+got.Pending+got.InFlight != 10 {
				t.Errorf("%+v: after three days: %+v, want 10 waiting", outcome, got)
			}
			b.pass(61 * time.Minute)
			b.wantDelivered("d", 10)
		})
	}
}

func TestRunPausesTheSink(t *testing.T) {
	inBubble(t, []string{"d", "e"}, func(b *bench) {
		s := b.sinks["service"]
		var asked atomic.Bool
		s.answer = func(Delivery) Outcome {
			if !asked.Swap(true) {
				return Outcome{Status: 429, RetryAfter: 90 * time.Second}
			}
			return Outcome{Class: Success, Status: 200}
		}
		policy := set(base(10), wide())
		e := policy.Drains[0]
		e.Name = "e"
		policy.Drains = append(policy.Drains, e)
		b.apply(policy)
		b.fill(50)
		from := time.Now()
		b.pass(60 * time.Second)
		if n := len(s.began(from.Add(101 * time.Millisecond))); n != 0 {
			t.Errorf("%d attempts while the sink is paused", n)
		}
		for _, status := range b.drains.Status(time.Now()) {
			if status.Binding != RetryAfter || status.State != Blocked || status.Permitted != 0 {
				t.Errorf("status while the sink is paused = %+v", status)
			}
		}
		b.pass(60 * time.Second)
		b.wantDelivered("d", 50)
		b.wantDelivered("e", 50)
		b.wantInside(s.began(from), 20, 2) // both at 10/s: no burst after the pause
	})
}

// A sink that fails is not shown the whole backlog.
func TestRunBoundsWhatIsScheduled(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		var up atomic.Bool
		s.answer = func(Delivery) Outcome {
			if !up.Load() {
				return Outcome{Error: "connection refused"}
			}
			return Outcome{Class: Success, Status: 200}
		}
		policy := set(base(limiter.Unlimited), wide())
		policy.Drains[0].Retry.Initial, policy.Drains[0].Retry.Max = 10*time.Hour, 10*time.Hour
		const bound, n = 500, 2000
		b.drains.bound = bound
		b.apply(policy)
		b.fill(n)
		b.pass(10 * time.Second)
		b.fill(10) // wakes the loop
		b.pass(10 * time.Second)
		if got := len(s.seen()); got < bound || got > bound+64 {
			t.Errorf("the sink that is down saw %d messages of %d, want about %d", got, n, bound)
		}
		up.Store(true)
		b.pass(20 * time.Hour)
		b.wantDelivered("d", n+10)
	})
}

// A sink is told the longest Retry-After that a drain to it honours.
func TestApplyTellsTheSinkWhatIsHonoured(t *testing.T) {
	inBubble(t, []string{"d", "e"}, func(b *bench) {
		policy := set(base(10), wide())
		e := policy.Drains[0]
		e.Name, e.Retry.HonourRetryAfter = "e", 5*time.Minute
		policy.Drains[0].Retry.HonourRetryAfter = time.Minute
		policy.Drains = append(policy.Drains, e)
		for _, want := range []time.Duration{5 * time.Minute, time.Minute} {
			b.apply(policy)
			s := b.sinks["service"]
			s.mu.Lock()
			if s.longest != want {
				t.Errorf("the sink was told %v, want %v", s.longest, want)
			}
			s.mu.Unlock()
			policy.Drains = policy.Drains[:1]
		}
	})
}
