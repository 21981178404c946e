package drain

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"forebay/limiter"
	"forebay/policies"
)

// rampFor is a schedule with an entry from one minute to another after midnight.
func rampFor(t interface{ Fatal(args ...any) }, from, to int) policies.Schedule {
	set, errs := policies.Parse([]policies.File{{Name: "p.yaml", Data: fmt.Appendf(nil, `
version: 1
time_intervals:
  - name: busy
    intervals: [{ times: [{ start_time: "%02d:%02d", end_time: "%02d:%02d" }] }]
streams: [{ name: orders }]
sinks: [{ name: service, http: { urls: ["http://service"] } }]
drains:
  - name: d
    stream: orders
    sink: service
    schedule: { base: 1, entries: [{ name: busy, during: [busy], rate: 2 }] }
`, from/60, from%60, to/60, to%60)}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return set.Drains[0].Schedule
}

// drawRamp is two minutes in the middle of four that have a ramp.
func drawRamp(t *rapid.T) policies.Schedule {
	s := rampFor(t, 1, 3)
	rates := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.5, 20), rapid.Float64Range(20, 150))
	floors := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.1, 10))
	s.Base, s.Floor = limiter.Rate(rates.Draw(t, "base")), limiter.Rate(floors.Draw(t, "floor"))
	s.Entries[0].Rate = limiter.Rate(rates.Draw(t, "rate"))
	s.Entries[0].Ramp = time.Duration(rapid.IntRange(0, 150).Draw(t, "ramp")) * time.Second
	return s
}

// drawn is a schedule as lines.
type drawn []struct {
	from time.Time
	policies.Line
}

func draw(s *policies.Schedule, from, to time.Time) (lines drawn) {
	for at, w := range s.Windows(from, to) {
		for begin, l := range s.Lines(at, w) {
			lines = append(lines, struct {
				from time.Time
				policies.Line
			}{begin, l})
		}
	}
	return lines
}

// fit is how many messages fit between two times.
func (d drawn) fit(from, to time.Time) (n float64) {
	for _, l := range d {
		begin, end := later(from, l.from), earlier(to, l.Until)
		if begin.Before(end) {
			slope := float64(l.To-l.From) / l.Until.Sub(l.from).Seconds()
			middle := begin.Sub(l.from).Seconds() + end.Sub(begin).Seconds()/2
			n += (float64(l.From) + slope*middle) * end.Sub(begin).Seconds()
		}
	}
	return n
}

// A drain keeps to the integral of its ramps, in any stretch of a window, and loses
// less than 1 % of it, however late its timers are.
func TestCoreFollowsRamps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawRamp(t)
		c := newCore(start(), s.At, unlimitedBudget())
		late := time.Duration(rapid.IntRange(0, 20).Draw(t, "late")) * 100 * time.Microsecond
		var times []time.Time
		lines := draw(&s, start(), start().Add(4*time.Minute))
		run(c, 4*time.Minute, func(i int) time.Duration { return late * time.Duration(i%3) }, func(now time.Time, n int) {
			for range n {
				times = append(times, now)
			}
		})
		for at, w := range s.Windows(start(), start().Add(4*time.Minute)) {
			inside, burst := between(times, at, w.Until), float64(pace(w.Rate, Batch{}).Burst)
			slack := burst + 1 + float64(w.Rate)*maxLate.Seconds()
			ahead, most := 0.0, 0.0 // of the integral, since the window began and since the worst moment before
			for i, x := range inside {
				ahead = float64(i) - lines.fit(at, x)
				most = min(most, ahead)
				if ahead+1-most > slack {
					t.Fatalf("%s from %v: attempt %d at %v is %v ahead of the ramp, at most %v", w.Because, at, i, x.Sub(at), ahead+1-most, slack)
				}
			}
			whole := lines.fit(at, w.Until)
			if got := float64(len(inside)); got < 0.99*whole-2 {
				t.Fatalf("%s from %v: %v attempts, %v fit", w.Because, at, got, whole)
			}
		}
	})
}

// What is predicted over ramps is what is done, inside a sink's budget too.
func TestCoreETAOverRamps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawRamp(t)
		sinkRate := limiter.Rate(rapid.Float64Range(1, 150).Draw(t, "sink rate"))
		c := newCore(start(), s.At, limiter.NewBudget(start(), pace(sinkRate, Batch{}), 1000))
		whole := int(draw(&s, start(), start().Add(4*time.Minute)).fit(start(), start().Add(4*time.Minute)))
		ahead := rapid.IntRange(0, whole).Draw(t, "ahead")
		eta, ok := c.eta(start(), float64(ahead)+1, outlook{}, crowd{})
		if !ok {
			return // a day has more of it, unless there is none
		}
		n, left := 0, time.Time{}
		run(c, 4*time.Minute, func(int) time.Duration { return 0 }, func(now time.Time, k int) {
			if n <= ahead && ahead < n+k {
				left = now
			}
			n += k
		})
		if left.IsZero() {
			return // the sink holds it back for longer than was looked at
		}
		rate := max(0.05, float64(s.At(left).RateAt(left)))
		off, wait := left.Sub(eta).Abs(), left.Sub(start())
		if most := max(50*time.Millisecond, wait/50, time.Duration(2/rate*float64(time.Second))); off > most {
			t.Fatalf("message %d of %d: eta %v, left after %v; at most %v off", ahead, whole, eta.Sub(start()), wait, most)
		}
	})
}

// A ramp ahead makes an estimate no more than a few times as dear.
func BenchmarkETAOverRamps(b *testing.B) {
	s := rampFor(b, 30, 390)
	s.Base, s.Entries[0].Rate = 10, 600
	for _, ramp := range []time.Duration{0, time.Hour} {
		s.Entries[0].Ramp = ramp
		c := newCore(start(), s.At, limiter.NewBudget(start(), limit(500, 5), 64))
		b.Run(ramp.String(), func(b *testing.B) {
			for b.Loop() {
				c.eta(start(), 30e6, outlook{}, crowd{})
			}
		})
	}
}

// suspended is a time after a machine slept: the wall clock went on, the monotonic one
// stood still, which is what makes the wait of a timer too long.
func suspended(t time.Time, d time.Duration) time.Time {
	const seconds = 1 << 30 // package time keeps wall seconds above so many bits
	slept := t
	*(*uint64)(unsafe.Pointer(&slept)) += uint64(d/time.Second) * seconds
	return slept
}

// A machine that slept over an edge, or into a ramp, finds itself where the wall clock
// says, and gets nothing for the time it slept.
func TestCoreAfterASuspend(t *testing.T) {
	now := time.Now()
	if got := suspended(now, time.Hour); got.Sub(now) != 0 || got.Round(0).Sub(now.Round(0)) != time.Hour {
		t.Fatalf("an hour asleep is %v by the monotonic clock, %v by the wall clock", got.Sub(now), got.Round(0).Sub(now.Round(0)))
	}
	midnight := now.Round(0)
	s := func(at time.Time) policies.Window {
		if at.Round(0).Before(midnight.Add(time.Hour)) {
			return policies.Window{Rate: 10, Because: "evening", Until: midnight.Add(time.Hour)}
		}
		return policies.Window{Rate: 100, Because: "night", Until: midnight.Add(2 * time.Hour)}
	}
	c := newCore(now, s, limiter.NewBudget(now, limit(limiter.Unlimited, 1), 1000))
	if v := c.step(now, 9, outlook{}); v.take != 0 || v.again.Sub(now) != ms(100) {
		t.Fatalf("before: %+v", v)
	}
	asleep := suspended(now, 90*time.Minute)
	v := c.step(asleep, 9, outlook{})
	if v.take != 1 || c.beat.rate != 100 || c.window.Because != "night" {
		t.Errorf("after: %+v, %+v", v, c.beat)
	}
	// The timer that was set before sleep rings by the monotonic clock, at most maxSleep late.
	if wait := time.Until(c.window.Until); wait > 2*time.Hour {
		t.Errorf("the next edge is %v away", wait)
	}
	// A clock that is set back is noticed within recheck.
	back := asleep.Add(recheck)
	c.step(suspended(back, -80*time.Minute), 9, outlook{})
	if c.beat.rate != 10 {
		t.Errorf("set back into the evening: %+v", c.beat)
	}
}

// A reload in the middle of a ramp goes on with the new one at once.
func TestCoreReloadInARamp(t *testing.T) {
	s := rampFor(t, 1, 3)
	s.Base, s.Entries[0].Rate, s.Entries[0].Ramp = 0, 60, time.Minute
	c := newCore(start(), s.At, unlimitedBudget())
	now := start().Add(90 * time.Second)
	if c.roll(now); c.beat.rate < 29 || c.beat.rate > 31 {
		t.Errorf("half up: %v", c.beat.rate)
	}
	s.Entries[0].Rate = 600
	if c.setSchedule(now, s.At); c.beat.rate < 290 || c.beat.rate > 310 {
		t.Errorf("half up a ramp of ten times as much: %v", c.beat.rate)
	}
	if got := c.pacer.Level(now); got > 1.001 {
		t.Errorf("%v tokens for nothing", got)
	}
}

// What a floor holds is told as the floor, and what an entry stops is not.
func TestWhyFloor(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) { // from midnight on
		s := nightly(t)
		s.Base, s.Floor, s.Entries[0].Rate = 0, 5, 0
		b.apply(set(s, wide()))
		b.fill(10_000)
		b.pass(10 * time.Minute)
		w, _ := b.drains.Why(time.Now(), "d")
		if w.Binding != Floor || w.Rate != 5 || w.Next == nil || w.Next.Rate != 0 || w.Next.Because != "night" {
			t.Errorf("by day: %+v", w)
		}
		if got := w.Constraints[0]; got.Name != Floor || got.Rate != 5 {
			t.Errorf("first of the constraints %+v", got)
		}
		if got := w.Constraints[1]; got.Name != Schedule || got.Rate != 0 || got.Detail != "base" {
			t.Errorf("second of the constraints %+v", got)
		}
		if got := len(b.sinks["service"].began(time.Time{})); got < 2_950 || got > 3_010 {
			t.Errorf("%d attempts in ten minutes at 5/s", got)
		}
		b.pass(25 * time.Minute)
		frozen := time.Now()
		w, _ = b.drains.Why(frozen, "d")
		if w.Binding != Schedule || w.Rate != 0 || w.Next == nil || w.Next.Rate != 5 {
			t.Errorf("in the freeze: %+v", w)
		}
		b.pass(5 * time.Hour)
		if n := len(b.sinks["service"].began(frozen)); n > 0 {
			t.Errorf("%d attempts in a freeze", n)
		}
	})
}

// The loop follows a ramp, whose rate is told as it is.
func TestRunFollowsARamp(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := nightly(t)
		s.Base, s.Entries[0].Rate, s.Entries[0].Ramp = 0.25, 2.75, time.Hour
		b.apply(set(s, wide()))
		b.fill(25_000)
		midnight := time.Now()
		b.pass(time.Hour)
		if st := b.drains.Status(time.Now())[0]; st.Permitted < 1.475 || st.Permitted > 1.525 || st.Binding != Schedule {
			t.Errorf("half an hour up a ramp from 0.25/s to 2.75/s: %+v", st)
		}
		eta, _, _ := b.drains.ETA("d", time.Now(), time.Time{}, 5_000)
		b.pass(2 * time.Hour)
		times := b.sinks["service"].began(midnight)
		for from, n := range map[int]float64{0: 450, 30: 450 * 3.5, 60: 450 * 8.5, 120: 450 * 11} {
			at := midnight.Add(time.Duration(from) * time.Minute)
			if got := float64(len(between(times, at, at.Add(30*time.Minute)))); got < 0.99*n-2 || got > 1.01*n+2 {
				t.Errorf("%v attempts in half an hour from minute %d on, want %v", got, from, n)
			}
		}
		done := len(b.sinks["service"].began(midnight.Add(0))) - len(b.sinks["service"].began(midnight.Add(time.Hour)))
		if left := times[done+5_000]; left.Sub(eta).Abs() > time.Second {
			t.Errorf("left at %v, eta was %v", left, eta)
		}
	})
}
