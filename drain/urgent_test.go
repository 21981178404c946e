package drain

import (
	"testing"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// urgentPolicy has messages urgent at an age of 8 h, late at 10 h.
func urgentPolicy(s policies.Schedule, rate limiter.Rate) *policies.Set {
	p := set(s, wide())
	p.Drains[0].Deadline = policies.Deadline{MaxDelay: 10 * time.Hour, OnExpire: policies.EndDead, UrgentBefore: 2 * time.Hour, UrgentRate: rate}
	p.Streams[0].Retention, p.Streams[0].OnRetention = 72*time.Hour, policies.EndDead
	return p
}

// What is nearly late leaves at urgent_rate, from the second on at which it is.
func TestUrgentLeaves(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(urgentPolicy(base(0.25), 10))
		begin := time.Now()
		b.fill(15_000)
		b.pass(8*time.Hour - time.Second)
		if got := len(b.sinks["service"].began(begin)); got < 7_175 || got > 7_200 {
			t.Errorf("%d attempts in 8 h at 0.25/s", got)
		}
		if w, _ := b.drains.Why(time.Now(), "d"); w.Binding != Schedule || w.Rate != 0.25 {
			t.Errorf("before anything is urgent: %+v", w)
		}
		b.pass(time.Minute)
		w, _ := b.drains.Why(time.Now(), "d")
		if w.Binding != Deadline || w.Rate != 10 || w.Constraints[0].Name != Deadline || w.Constraints[1].Name != Schedule || w.Constraints[1].Rate != 0.25 {
			t.Errorf("when it is: %+v", w)
		}
		urgent := begin.Add(8 * time.Hour)
		times := b.sinks["service"].began(urgent)
		if n := len(times); n < 570 || n > 592 {
			t.Errorf("%d attempts in a minute at 10/s", n)
		}
		b.pass(2 * time.Hour)
		b.wantDelivered("d", 15_000)
		if w, _ := b.drains.Why(time.Now(), "d"); w.Binding != Empty || w.Rate != 0.25 {
			t.Errorf("when all have left: %+v", w)
		}
	})
}

// What is not nearly late does not leave with what is, and waits for the schedule; a
// message that cannot leave makes nothing urgent.
func TestUrgentIsNotForTheYoung(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.sinks["service"].answer = func(m Delivery) Outcome {
			if m.Offset == 0 && m.Tries.Attempts < 8 { // until it is late
				return Outcome{Status: 500, Error: "status 500", RetryAfter: 0}
			}
			return Outcome{Class: Success, Status: 200}
		}
		const hourly = limiter.Rate(1.0 / 3600)
		p := urgentPolicy(base(hourly), 10)
		p.Drains[0].Retry.Initial, p.Drains[0].Retry.Max, p.Drains[0].Retry.MaxAttempts = time.Hour, time.Hour, 100
		b.drains.cfg.Random = func(n int64) int64 { return n - 1 }
		b.apply(p)
		begin := time.Now()
		b.fill(100)
		b.pass(3 * time.Hour)
		b.fill(1000)
		b.pass(5*time.Hour + time.Minute)
		if got := b.stats("d").Delivered; got < 99 || got > 110 {
			t.Errorf("%d delivered after 8 h: want the old 100, but perhaps one that failed", got)
		}
		old := time.Now()
		b.pass(2*time.Hour + 50*time.Minute)
		if got := len(b.sinks["service"].began(old)); got > 8 {
			t.Errorf("%d attempts in 3 h at 1/h, though nothing is urgent but one that fails", got)
		}
		b.pass(time.Until(begin.Add(11*time.Hour + 5*time.Minute)))
		if got := b.stats("d").Pending; got > 0 {
			t.Errorf("%d still wait that are nearly late", got)
		}
	})
}

// A freeze, a pause and an operator's rate stop it; base: 0 does not.
func TestUrgentIsStopped(t *testing.T) {
	for name, tt := range map[string]struct {
		schedule func(s *policies.Schedule)
		hold     func(b *bench) error
		binding  Constraint
		rate     limiter.Rate
	}{
		"base": {func(s *policies.Schedule) { s.Base = 0 }, nil, Deadline, 10},
		"freeze": {func(s *policies.Schedule) {
			s.Base, s.Floor, s.Entries[0].Rate = 0.1, 0.1, 0
			s.Entries[0].During, s.Entries[0].Except = s.Entries[0].Except, nil
		}, nil, Schedule, 0},
		"pause":    {nil, func(b *bench) error { return b.drains.Pause("d", time.Time{}, "INC-1") }, Paused, 0},
		"override": {nil, func(b *bench) error { return b.drains.Override("d", 2, time.Now().Add(time.Hour), "INC-2") }, Override, 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) { // it is looked at soon after eight
				s := rampFor(t, 8*60, 12*60)
				s.Base, s.Entries[0].Rate, s.Entries[0].Except, s.Entries[0].During = 0.1, 0.1, s.Entries[0].During, nil
				if tt.schedule != nil {
					tt.schedule(&s)
				}
				b.apply(urgentPolicy(s, 10))
				b.fill(8_000)
				b.pass(8*time.Hour + 2*time.Minute)
				if tt.hold != nil {
					b.must(tt.hold(b))
				}
				b.pass(time.Second)
				from := time.Now()
				b.pass(3 * time.Minute)
				if w, _ := b.drains.Why(time.Now(), "d"); w.Binding != tt.binding || w.Rate != tt.rate {
					t.Errorf("%+v", w)
				}
				n, want := float64(len(b.sinks["service"].began(from))), float64(tt.rate)*180
				if n < want*0.98-1 || n > want*1.01+1 {
					t.Errorf("%v attempts in three minutes, want %v", n, want)
				}
			})
		})
	}
}

// Looking for what is urgent gives the schedule nothing, and takes nothing from it.
func TestCoreUrgencyHasItsOwnTokens(t *testing.T) {
	budget := unlimitedBudget()
	c := newCore(start(), always(1), budget)
	for i := range 100 { // a probe a second for what turns out young
		now := start().Add(time.Duration(i) * time.Second)
		c.setUrgency(now, urgency{100, now})
		now = now.Add(ms(10))
		v := c.step(now, 1, outlook{})
		if v.take != 1 || !v.urgent {
			t.Fatalf("probe %d: %+v", i, v)
		}
		c.giveBack(now, budget, v, 1, 1)
		c.setUrgency(now, urgency{100, now.Add(time.Hour)})
		took := 0
		for v := c.step(now, 1, outlook{}); v.take > 0; v = c.step(now, 1, outlook{}) {
			took += v.take
		}
		if want := min(i, 1); took != want {
			t.Fatalf("after probe %d the schedule let %d through, want %d", i, took, want)
		}
	}
	if budget.InFlight() != 99 {
		t.Errorf("%d slots in use", budget.InFlight())
	}
}

// A sink's budget binds what is urgent too.
func TestUrgentInsideTheBudget(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		p := urgentPolicy(base(0.1), limiter.Unlimited)
		p.Sinks[0].Budget.Limit = limit(5, 1)
		b.apply(p)
		b.fill(4_000)
		b.pass(8*time.Hour + time.Minute)
		from := time.Now()
		b.pass(time.Minute)
		if got := len(b.sinks["service"].began(from)); got < 298 || got > 302 {
			t.Errorf("%d attempts in a minute, the sink takes 5/s", got)
		}
		if w, _ := b.drains.Why(time.Now(), "d"); w.Binding != SinkBudget || w.Rate != 5 {
			t.Errorf("%+v", w)
		}
	})
}

// An eta counts on it from when what came last is urgent, and is right where all came
// together.
func TestETACountsOnUrgency(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(urgentPolicy(base(0.1), 10))
		begin := time.Now()
		b.fill(10_000)
		eta, _, note := b.drains.ETA("d", begin, time.Time{}, 9_999)
		want := begin.Add(8*time.Hour + (10_000-8*360)/10*time.Second)
		if note != "" || eta.Sub(want).Abs() > 5*time.Second {
			t.Errorf("eta %v, %q; want %v", eta.Sub(begin), note, want.Sub(begin))
		}
		b.pass(12 * time.Hour)
		times := b.sinks["service"].began(begin)
		if last := times[len(times)-1]; last.Sub(eta).Abs() > 5*time.Second {
			t.Errorf("the last left after %v, eta was %v", last.Sub(begin), eta.Sub(begin))
		}
		b.wantDelivered("d", 10_000)
	})
}
