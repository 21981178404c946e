package drain

import (
	"fmt"
	"math/rand/v2"
	"os"
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
func (y *year) answer(m Delivery) Outcome {
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

// Nights in a zone with summer time, some about each change of the clock (with
// FOREBAY_INTEGRATION 400 days), failures, pauses, overrides, restarts and messages that
// expire: no attempt where none may be, none too many,
// no key out of order, what binds is what is told, and the books balance.
func TestRunForMoreThanAYear(t *testing.T) {
	if os.Getenv("FOREBAY_INTEGRATION") != "" {
		runForDays(t, 0, 400, 17) // 190 messages a day, where at most 216 may leave
		return
	}
	runForDays(t, 84, 16, 22)  // 2 April 2000; 250 a day, so that some expire in so few
	runForDays(t, 294, 16, 22) // 29 October
}

func runForDays(t *testing.T, after, days, busy int) {
	t.Helper()
	const rate, pushed = 0.01, 0.02
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	inBubble(t, []string{"d"}, func(b *bench) {
		b.pass(time.Duration(after) * 24 * time.Hour)
		y := &year{random: rand.New(rand.NewPCG(1, 2)), last: make(map[string]uint64)}
		s := b.sinks["service"]
		s.answer, s.takes = y.answer, 10*time.Second
		policy := yearPolicy(nightlyIn(t, zone.String()), rate)
		b.apply(policy)
		random := rand.New(rand.NewPCG(3, 4))
		var holds []held
		for day := range days {
			if h, ok := b.meddle(random, pushed); ok {
				holds = append(holds, h)
			}
			for range 24 {
				b.append(random.IntN(busy))
				b.pass(time.Hour)
				b.wantTheTruth()
			}
			switch day % 20 {
			case 3:
				b.apply(policy)
			case 7:
				b.pass(8 * time.Hour) // into the night, with attempts in flight
				b.restart(policy)
				b.pass(16 * time.Hour)
			}
		}
		for _, broken := range y.broken {
			t.Error(broken)
		}
		wantWithin(t, s.began(time.Time{}), zone, holds, rate, pushed)
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

// yearPolicy has a breaker, a slow start, a deadline and a retention that all bind
// now and then.
func yearPolicy(schedule policies.Schedule, rate limiter.Rate) *policies.Set {
	p := set(schedule, policies.Budget{Limit: limit(1, 2), Concurrency: 4})
	p.Sinks[0].Breaker = policies.Breaker{FailureRatio: 0.5, MinRequests: 3, Window: 10 * time.Minute, OpenFor: time.Minute}
	p.Sinks[0].SlowStart = time.Minute
	p.Streams[0].Retention, p.Streams[0].OnRetention = 72*time.Hour, policies.EndDead
	p.Drains[0].Schedule.Entries[0].Rate = rate
	p.Drains[0].Deadline = policies.Deadline{MaxDelay: 50 * time.Hour, OnExpire: policies.EndExpire}
	p.Drains[0].Retry.Max = 10 * time.Minute
	return p
}

// wantTheTruth holds what why tells to what the last pick was held by.
func (b *bench) wantTheTruth() {
	b.t.Helper()
	d := b.drains.drain("d")
	d.mu.Lock()
	bound := d.core.bound
	d.mu.Unlock()
	w, _ := b.drains.Why(time.Now(), "d")
	if bound != "" && bound != Empty && w.Binding != bound && w.Binding != Empty && w.Binding != Ordering {
		b.t.Errorf("%v: told %s, the pick was held by %s", time.Now(), w.Binding, bound)
	}
	if w.Head == nil && b.stats("d").Pending > 0 {
		b.t.Errorf("%v: no head of %+v", time.Now(), b.stats("d"))
	}
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
func wantWithin(t *testing.T, times []time.Time, zone *time.Location, holds []held, rate, pushed float64) {
	t.Helper()
	faults := 0
	var before time.Time
	var last string
	for _, at := range times {
		where, least := "day", time.Duration(0)
		clock := at.In(zone)
		if minute := 60*clock.Hour() + clock.Minute(); minute >= 30 && minute < 390 {
			where, least = "night", time.Duration(float64(time.Second)/rate)
		}
		where += clock.Format(time.DateOnly)
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
