package drain

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"forebay/limiter"
	"forebay/policies"
)

func halfOf(least int) policies.Breaker {
	return policies.Breaker{FailureRatio: 0.5, MinRequests: least, Window: 30 * time.Second, OpenFor: 15 * time.Second}
}

// The breaker opens when the plain count over the same window says so, lets
// nothing through for so long, then one probe at a time, and never counts what
// began before it opened.
func TestBreakerAgainstModel(t *testing.T) {
	type ended struct {
		part   int64
		failed bool
	}
	rapid.Check(t, func(t *rapid.T) {
		p := halfOf(rapid.IntRange(1, 12).Draw(t, "least"))
		p.FailureRatio = rapid.Float64Range(0.1, 1).Draw(t, "ratio")
		var b breaker
		b.set(p)
		var seen []ended
		var under []uint64 // terms of what is under way
		probes := 0
		now := start()
		for range 150 {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			state := b.state(now)
			if may := state == BreakerClosed || state == BreakerHalfOpen && !b.probing; may && rapid.Bool().Draw(t, "begin") {
				under = append(under, b.began(1))
			}
			if len(under) == 0 {
				continue
			}
			i := rapid.IntRange(0, len(under)-1).Draw(t, "which")
			term := under[i]
			under = append(under[:i], under[i+1:]...)
			failed := rapid.Bool().Draw(t, "failed")
			current := term == b.term
			changed := b.ended(now, term, failed)
			if !current {
				if changed {
					t.Fatalf("an attempt of term %d changed the breaker in term %d", term, b.term)
				}
				continue
			}
			if state != BreakerClosed { // it was the probe
				if probes++; !changed || (b.state(now) == BreakerClosed) == failed {
					t.Fatalf("after a probe that failed = %v: %v", failed, b.state(now))
				}
				seen = nil
				continue
			}
			part := now.UnixNano() / int64(p.Window/tallies)
			seen = append(seen, ended{part, failed})
			all, failures := 0, 0
			for _, e := range seen {
				if e.part > part-tallies {
					all++
					if e.failed {
						failures++
					}
				}
			}
			want := failed && all >= p.MinRequests && float64(failures) >= p.FailureRatio*float64(all)
			if changed != want {
				t.Fatalf("%d of %d failed, least %d, ratio %v: opened = %v", failures, all, p.MinRequests, p.FailureRatio, changed)
			}
			if changed {
				seen = nil
				if b.state(now.Add(p.OpenFor-1)) != BreakerOpen || b.state(now.Add(p.OpenFor)) != BreakerHalfOpen {
					t.Fatalf("not open for %v", p.OpenFor)
				}
			}
		}
	})
}

func TestBreakerProbe(t *testing.T) {
	var b breaker
	b.set(halfOf(1))
	b.ended(start(), b.began(1), true)
	now := start().Add(15 * time.Second)
	probe := b.began(1)
	if b.state(now) != BreakerHalfOpen || !b.probing {
		t.Fatalf("with a probe under way: %v, probing %v", b.state(now), b.probing)
	}
	b.withdraw(probe)
	if b.probing {
		t.Error("a probe that was withdrawn still keeps others away")
	}
	b.ended(now, b.began(1), true)
	if b.state(now.Add(14*time.Second)) != BreakerOpen {
		t.Error("a probe that failed did not open it again")
	}
	b.set(policies.Breaker{})
	if b.state(now) != BreakerClosed || b.ended(now, b.term, true) {
		t.Error("a breaker that was switched off still opens")
	}
}

func TestRamp(t *testing.T) {
	r := ramp{from: start(), lasts: 30 * time.Second}
	last := 0.0
	for now := start(); ; {
		share := r.share(now)
		line := firstShare + (1-firstShare)*now.Sub(start()).Seconds()/30
		if share <= last || share > line+1e-9 {
			t.Fatalf("share %v after %v, before it %v; the line is at %v", share, now.Sub(start()), last, line)
		}
		last = share
		next, more := r.next(now)
		if !more {
			break
		}
		if r.share(next.Add(-1)) != share || !next.After(now) {
			t.Fatalf("the share grows before %v", next)
		}
		now = next
	}
	if last != 1 || (ramp{}).share(start()) != 1 {
		t.Errorf("it ends at %v, and none is %v; want 1", last, (ramp{}).share(start()))
	}
	unlimited := policies.Budget{Limit: limit(limiter.Unlimited, 1), Concurrency: 60}
	if l, slots := portion(unlimited, 0.5); l.Rate != limiter.Unlimited || slots != 30 {
		t.Errorf("half of an unlimited budget: %v and %d slots of 60", l.Rate, slots)
	}
	if l, slots := portion(policies.Budget{Limit: limit(80, 3), Concurrency: 60}, 0.05); l != limit(4, 1) || slots != 60 {
		t.Errorf("a twentieth of 80/s: %v, %d slots", l, slots)
	}
}

// What was counted leaves the window too after the clock was set back.
func TestBreakerWhoseClockIsSetBack(t *testing.T) {
	var b breaker
	b.set(halfOf(4))
	now := start()
	for range 3 {
		b.ended(now, b.began(1), true)
	}
	now = now.Add(-time.Hour)
	for range 3 {
		if b.ended(now, b.began(1), true) {
			t.Fatal("it opened for what came before its clock was set back")
		}
	}
	if b.ended(now.Add(31*time.Second), b.began(1), true) {
		t.Fatal("it opened for what had left the window")
	}
	for range 2 {
		b.ended(now.Add(32*time.Second), b.began(1), true)
	}
	if !b.ended(now.Add(33*time.Second), b.began(1), true) {
		t.Error("it did not open for four failures in its window")
	}
}
