package drain

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"forebay/limiter"
	"forebay/policies"
)

// watch lets time pass until a message expires or none is left, at most so long, and
// returns which it was and when.
func (b *bench) watch(most time.Duration) (missed, empty time.Time) {
	for end := time.Now().Add(most); time.Now().Before(end); b.pass(5 * time.Second) {
		switch s := b.stats("d"); {
		case s.Expired > 0:
			return time.Now(), time.Time{}
		case s.Pending+s.Scheduled == 0:
			return time.Time{}, time.Now()
		}
	}
	return time.Time{}, time.Time{}
}

// Forecasts are checked against what then happens: when a deadline will be missed and when
// the drain is empty, on schedules with windows, ramps, a floor, urgency and a sink that
// is slower, with messages that came in bursts.
func TestForecastsComeTrue(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	missed, kept := 0, 0
	for i := range 12 {
		s := nightly(t)
		s.Base, s.Floor = limiter.Rate(random.IntN(3))/50, limiter.Rate(random.IntN(2))/100
		s.Entries[0].Rate, s.Entries[0].Ramp = limiter.Rate(random.IntN(4))/10, time.Duration(random.IntN(3))*time.Hour
		budget := wide()
		if random.IntN(2) == 0 {
			budget.Limit = limit(limiter.Rate(1+random.IntN(8))/50, 1)
		}
		p := infeasible(s, budget, time.Duration(120+random.IntN(300))*time.Minute)
		if random.IntN(2) == 0 {
			p.Drains[0].Deadline.UrgentBefore, p.Drains[0].Deadline.UrgentRate = p.Drains[0].Deadline.MaxDelay/3, 0.1
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) { // from midnight on
				b.apply(p)
				for range 8 {
					b.fill(random.IntN(240))
					b.pass(time.Duration(random.IntN(900)) * time.Second)
				}
				now, st := time.Now(), b.drains.Status(time.Now())[0]
				late, empty := b.watch(p.Drains[0].Deadline.MaxDelay + time.Minute)
				near := func(got, foretold time.Time) bool {
					return got.Sub(foretold).Abs() <= max(time.Minute, foretold.Sub(now)/20)
				}
				switch {
				case late.IsZero() && st.Miss.IsZero() && near(empty, st.EmptyAt):
					kept++
				case !late.IsZero() && near(late, st.Miss):
					missed++
				default:
					t.Errorf("%d waiting: late after %v, foretold was %v; empty after %v, foretold was %v", st.Waiting,
						late.Sub(now), st.Miss.Sub(now), empty.Sub(now), st.EmptyAt.Sub(now))
				}
			})
		})
	}
	if missed < 3 || kept < 3 {
		t.Errorf("%d deadlines were missed and %d drains kept them: too few of one to say much", missed, kept)
	}
}

// What operators lay on counts too, and what they take off again.
func TestMissUnderHolds(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(infeasible(policies.Schedule{Base: 1}, wide(), time.Hour))
		begin := time.Now()
		b.fill(3000) // 50 minutes of it
		want := func(what string, after time.Duration) {
			t.Helper()
			got := b.drains.Status(time.Now())[0].Miss
			if after == 0 && !got.IsZero() || after > 0 && got.Sub(begin.Add(after)).Abs() > time.Second {
				t.Errorf("%s: a deadline is missed at %v after the first came, want %v", what, got.Sub(begin), after)
			}
		}
		want("at the schedule's rate", 0)
		b.must(b.drains.Override("d", 0.5, time.Now().Add(time.Hour), ""))
		want("at half of it", time.Hour)
		b.must(b.drains.ClearOverride("d"))
		want("at the schedule's again", 0)
		b.must(b.drains.Pause("d", time.Time{}, ""))
		want("paused for good", time.Hour)
		b.must(b.drains.Resume("d"))
		want("resumed", 0)
		b.must(b.drains.PauseSink("service", time.Time{}, ""))
		want("its sink paused for good", time.Hour)
	})
}
