package drain

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

// year is what a sink saw in a long run, in which attempts may overlap.
type year struct {
	mu     sync.Mutex
	random *rand.Rand        // guarded by mu
	last   map[string]uint64 // guarded by mu; by key, the newest offset that succeeded, and one
	broken []string          // guarded by mu; inversions
}

// answer fails in every way that a sink can.
func (y *year) answer(m buffer.Delivery) Outcome {
	y.mu.Lock()
	defer y.mu.Unlock()
	switch n := y.random.IntN(100); {
	case n < 5:
		return Outcome{Status: 500, Error: "status 500"}
	case n < 8:
		return Outcome{Status: 503, Error: "status 503", RetryAfter: 3 * time.Minute}
	case n < 10:
		return Outcome{Class: Timeout, Error: "timeout"}
	case n < 11:
		return Outcome{Class: Permanent, Status: 422, Error: "status 422"}
	}
	if m.Offset < y.last[m.Key] {
		y.broken = append(y.broken, fmt.Sprintf("key %s: %d after %d", m.Key, m.Offset, y.last[m.Key]-1))
	}
	y.last[m.Key] = m.Offset + 1
	return Outcome{Class: Success, Status: 200}
}

// held is a stretch in which an operator's hand was on the drain.
type held struct {
	from, to time.Time
	kind     Constraint
}

// 400 days of nights, failures, pauses, overrides and messages that expire: no
// attempt where none may be, none too many, no key out of order, and the books
// balance.
func TestRunForMoreThanAYear(t *testing.T) {
	const rate, pushed, days = 0.01, 0.02, 400
	inBubble(t, []string{"d"}, func(b *bench) {
		y := &year{random: rand.New(rand.NewPCG(1, 2)), last: make(map[string]uint64)}
		s := b.sinks["service"]
		s.answer, s.takes = y.answer, 10*time.Second
		policy := set(nightly(t), policies.Budget{Limit: limit(1, 2), Concurrency: 4})
		policy.Sinks[0].Breaker, policy.Sinks[0].SlowStart = policies.Breaker{FailureRatio: 0.5, MinRequests: 3, Window: 10 * time.Minute, OpenFor: time.Minute}, time.Minute
		policy.Streams[0].Retention, policy.Streams[0].OnRetention = 72*time.Hour, policies.EndDead
		policy.Drains[0].Schedule.Entries[0].Rate = rate
		policy.Drains[0].Deadline = policies.Deadline{MaxDelay: 50 * time.Hour, OnExpire: policies.EndExpire}
		policy.Drains[0].Retry.Max = 10 * time.Minute
		b.apply(policy)
		random := rand.New(rand.NewPCG(3, 4))
		midnight := time.Now().UTC()
		var holds []held
		for day := range days {
			if h, ok := b.meddle(random, pushed); ok {
				holds = append(holds, h)
			}
			for range 24 {
				b.append(random.IntN(17)) // 190 a day, where at most 216 may leave
				b.pass(time.Hour)
			}
			if day%50 == 0 {
				b.apply(policy)
			}
		}
		for _, broken := range y.broken {
			t.Error(broken)
		}
		wantWithin(t, s.began(midnight), midnight, holds, rate, pushed)
		d := b.stats("d")
		accepted := b.buf.Stats().Streams[0].Accepted
		if ended := d.Delivered + d.Expired + d.Dead[buffer.ReasonPermanent]; ended+d.Pending+d.InFlight+d.Scheduled != accepted {
			t.Errorf("accepted %d: %+v", accepted, d)
		}
		if d.Expired == 0 || d.Dead[buffer.ReasonPermanent] == 0 || d.Delivered < accepted/2 || len(holds) < days/8 {
			t.Errorf("accepted %d, %d holds: %+v; the test is worth nothing", accepted, len(holds), d)
		}
	})
}

// meddle lays a hand on the drain now and then, for some hours.
func (b *bench) meddle(random *rand.Rand, rate limiter.Rate) (held, bool) {
	now := time.Now()
	h := held{from: now, to: now.Add(time.Duration(1+random.IntN(40)) * 10 * time.Minute)}
	switch random.IntN(10) {
	case 0:
		h.kind = Paused
		b.must(b.drains.Pause("d", h.to, "INC-1"))
	case 1:
		h.kind = Override
		b.must(b.drains.Override("d", rate, h.to, "INC-2"))
	default:
		return held{}, false
	}
	return h, true
}

// append appends n messages of a few keys.
func (b *bench) append(n int) {
	b.t.Helper()
	if n == 0 {
		return
	}
	msgs := make([]buffer.Message, n)
	for i := range msgs {
		msgs[i] = buffer.Message{Method: "POST", Target: "/", Key: fmt.Sprint("customer-", i%7)}
	}
	if _, err := b.buf.Append(b.t.Context(), "orders", time.Now(), msgs); err != nil {
		b.t.Fatal(err)
	}
}

// wantWithin checks that each attempt lay where it may, and not too close to the
// one before: the rate's distance, but for the token that an edge holds.
func wantWithin(t *testing.T, times []time.Time, midnight time.Time, holds []held, rate, pushed float64) {
	t.Helper()
	faults := 0
	var before time.Time
	var last string
	for _, at := range times {
		where, least := "day", time.Duration(0)
		since := at.Sub(midnight) % (24 * time.Hour)
		if since >= 30*time.Minute && since < 390*time.Minute {
			where, least = "night", time.Duration(float64(time.Second)/rate)
		}
		where += fmt.Sprint(int(at.Sub(midnight).Hours() / 24))
		for _, h := range holds {
			if !at.Before(h.from) && at.Before(h.to) {
				where, least = fmt.Sprint(h.kind, h.from), time.Duration(float64(time.Second)/pushed)
				if h.kind == Paused {
					least = 0
				}
			}
		}
		tooClose := where == last && at.Sub(before) < least-maxLate
		if (least == 0 || tooClose) && faults < 10 {
			t.Errorf("an attempt at %v (%s), %v after the one before", at, where, at.Sub(before))
			faults++
		}
		before, last = at, where
	}
}
