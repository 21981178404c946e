package drain

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
}

// A hand on a drain is felt at once by what is queued, and comes off by itself.
func TestRunFeelsAHold(t *testing.T) {
	in := func(d time.Duration) time.Time { return time.Now().Add(d) }
	tests := []struct {
		name    string
		rate    limiter.Rate
		hold    func(d *Drains) error
		during  int // delivered in the first 10 s
		binding Constraint
		state   State
		after   int // delivered in the 10 s after a minute
	}{
		{"a pause for a minute", 10, func(d *Drains) error { return d.Pause("d", in(time.Minute), "INC-1") }, 0, Paused, Halted, 100},
		{"a pause without end", 10, func(d *Drains) error { return d.Pause("d", time.Time{}, "INC-1") }, 0, Paused, Halted, 0},
		{"a higher rate", 1, func(d *Drains) error { return d.Override("d", 50, in(time.Minute), "INC-1") }, 500, Override, Running, 10},
		{"a rate over a freeze", 0, func(d *Drains) error { return d.Override("d", 50, in(time.Minute), "INC-1") }, 500, Override, Running, 0},
		{"a lower rate", 50, func(d *Drains) error { return d.Override("d", 2, in(time.Minute), "INC-1") }, 20, Override, Running, 500},
		{"a rate of 0", 50, func(d *Drains) error { return d.Override("d", 0, in(time.Minute), "INC-1") }, 0, Override, Blocked, 500},
		{"a rate over the sink's", 1, func(d *Drains) error { return d.Override("d", limiter.Unlimited, in(time.Minute), "INC-1") }, 800, SinkBudget, Running, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, []string{"d"}, func(b *bench) {
				b.apply(set(base(tt.rate), policies.Budget{Limit: limit(80, 2), Concurrency: 9}))
				b.fill(10_000)
				b.pass(10*time.Second + 10*time.Millisecond)
				delivered := func(d time.Duration) int {
					before := b.stats("d").Delivered
					b.pass(d)
					return int(b.stats("d").Delivered - before)
				}
				b.must(tt.hold(b.drains))
				if got := delivered(10 * time.Second); got < tt.during-1 || got > tt.during+1 {
					t.Errorf("%d delivered in 10 s, want %d", got, tt.during)
				}
				status := b.drains.Status(time.Now())[0]
				if status.Binding != tt.binding || status.State != tt.state {
					t.Errorf("held by %s, %s; want %s, %s", status.Binding, status.State, tt.binding, tt.state)
				}
				if len(b.drains.Holds()) != 1 {
					t.Errorf("holds: %+v", b.drains.Holds())
				}
				b.pass(50 * time.Second)
				if got := delivered(10 * time.Second); got < tt.after-1 || got > tt.after+1 {
					t.Errorf("%d delivered in the 10 s after, want %d", got, tt.after)
				}
			})
		})
	}
}

// A hold ends on time where nothing else would wake the loop, is told, and leaves
// the drain as if it had not been.
func TestHoldsEndByThemselves(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(10), wide()))
		b.must(b.drains.Override("d", 3, time.Now().Add(20*time.Second), "INC-1"))
		b.must(b.drains.Pause("d", time.Now().Add(10*time.Second), "INC-2"))
		if got := b.drains.Status(time.Now())[0]; got.Pause.Reason != "INC-2" || got.Override.Rate != 3 || got.State != Halted {
			t.Errorf("status with both: %+v", got)
		}
		b.pass(10*time.Second + time.Millisecond)
		got := b.drains.Status(time.Now())[0]
		if got.Pause != nil || got.Override == nil || got.Permitted != 3 || got.Next.Rate != 10 || got.Next.Because != "base" {
			t.Errorf("status after the pause: %+v, next %+v", got, got.Next)
		}
		if want := [][]string{{"override"}, {"override", "paused"}, {"override"}}; !cmp.Equal(b.changes(), want) {
			t.Errorf("told %v, want %v", b.changes(), want)
		}
		b.pass(10 * time.Second)
		if got := b.drains.Status(time.Now())[0]; got.Override != nil || got.Permitted != 10 {
			t.Errorf("status after the override: %+v", got)
		}
		if told := b.changes(); b.events.Load() != 2 || len(told) != 4 || len(told[3]) != 0 {
			t.Errorf("%d events, told %v", b.events.Load(), told)
		}
	})
}

func TestLift(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(10), wide()))
		b.fill(1000)
		if eta, _, _ := b.drains.ETA("d", time.Now(), time.Time{}, 3); eta.IsZero() {
			t.Error("no eta before the pause")
		}
		b.must(b.drains.Pause("d", time.Time{}, ""))
		if _, _, note := b.drains.ETA("d", time.Now(), time.Time{}, 3); note != "the drain is paused" {
			t.Errorf("note %q as soon as it is paused", note)
		}
		b.pass(time.Hour)
		if _, _, note := b.drains.ETA("d", time.Now(), time.Time{}, 3); note != "the drain is paused" {
			t.Errorf("note %q", note)
		}
		b.must(b.drains.Resume("d"))
		b.must(b.drains.Resume("d")) // it is none to lift what is not there
		b.pass(10*time.Second + time.Millisecond)
		b.wantDelivered("d", 100)
		b.must(b.drains.Override("d", 50, time.Now().Add(time.Hour), ""))
		b.pass(2 * time.Second)
		b.must(b.drains.ClearOverride("d"))
		b.pass(10 * time.Second)
		b.wantDelivered("d", 300)
		if len(b.changes()) != 4 {
			t.Errorf("told %v, want four changes", b.changes())
		}
	})
}

func TestHoldRefuses(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(10), wide()))
		soon := time.Now().Add(time.Minute)
		for want, err := range map[string]error{
			"no such drain":      b.drains.Pause("x", soon, ""),
			"would have ended":   b.drains.Pause("d", time.Now(), ""),
			"a time to end":      b.drains.Override("d", 1, time.Time{}, ""),
			"rate of -1":         b.drains.Override("d", -1, soon, ""),
			"rate of NaN":        b.drains.Override("d", limiter.Rate(math.NaN()), soon, ""),
			"over 1024 bytes":    b.drains.Pause("d", soon, strings.Repeat("x", 1025)),
			`unknown kind "foo"`: b.drains.Restore([]Hold{{Drain: "d", Kind: "foo"}}),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want one with %q", err, want)
			}
		}
		if err := b.drains.Resume("x"); !errors.Is(err, buffer.ErrNoDrain) {
			t.Errorf("Resume of no drain = %v", err)
		}
		if len(b.drains.Holds())+len(b.changes()) != 0 {
			t.Errorf("after refusals: %v, told %v", b.drains.Holds(), b.changes())
		}
	})
}

// Holds survive a restart by way of JSON; those that ended meanwhile are told.
func TestRestore(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		now := time.Now()
		holds := []Hold{
			{Drain: "d", Kind: Override, Rate: limiter.Unlimited, Since: now, Until: now.Add(time.Hour), Reason: "INC-1"},
			{Drain: "d", Kind: Paused, Since: now, Until: now.Add(time.Minute), Reason: "INC-2"},
		}
		data, err := json.Marshal(append(holds,
			Hold{Drain: "late", Kind: Paused, Until: now.Add(-time.Second), Reason: "INC-3"},
			Hold{Drain: "e", Kind: Override, Rate: 1, Until: now.Add(-time.Minute), Reason: "INC-4"}))
		b.must(err)
		var read []Hold
		b.must(json.Unmarshal(data, &read))
		b.must(b.drains.Restore(read))
		policy := set(base(1), wide())
		policy.Drains = append(policy.Drains, policies.Drain{Name: "e", Stream: "orders", Sink: "service", Schedule: base(1), Retry: retry()})
		b.apply(policy)
		if diff := cmp.Diff(holds, b.drains.Holds()); diff != "" {
			t.Errorf("restored (-want +got):\n%s", diff)
		}
		want := []string{"override-ended e INC-4, until 1999-12-31T23:59:00Z", "paused-ended late INC-3, until 1999-12-31T23:59:59Z"}
		if diff := cmp.Diff(want, slices.Sorted(slices.Values(b.heard()))); diff != "" {
			t.Errorf("events of what ended before the start (-want +got):\n%s", diff)
		}
		b.fill(10)
		b.pass(59 * time.Second)
		b.wantDelivered("d", 0)
		b.pass(2 * time.Second)
		b.wantDelivered("d", 10)
	})
}

// Hands on a schedule never change what holds once they are off, and tell
// exactly when that is.
func TestHandsOverASchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schedule := calendar(stretch{0, 5}, stretch{time.Minute, 0}, stretch{3 * time.Minute, 70})
		until := func(name string) time.Time {
			return start().Add(time.Duration(rapid.IntRange(1, 300).Draw(t, name)) * time.Second)
		}
		h := hands{}.with(Hold{Kind: Paused, Until: until("pause")}).with(Hold{Kind: Override, Rate: 9, Until: until("override")})
		if rapid.Bool().Draw(t, "no pause") {
			h = h.without(Paused)
		}
		at := h.over(schedule)
		now := start()
		for range 10 {
			w := at(now)
			want := schedule(now)
			switch {
			case h.pause.Kind != "" && now.Before(h.pause.Until):
				want.Rate = 0
			case now.Before(h.rate.Until):
				want.Rate = 9
			}
			if w.Rate != want.Rate {
				t.Fatalf("rate %v at %v, want %v", w.Rate, now.Sub(start()), want.Rate)
			}
			if w.Until.IsZero() {
				return
			}
			if before := at(w.Until.Add(-1)); before.Rate != w.Rate {
				t.Fatalf("rate %v before %v, want %v", before.Rate, w.Until.Sub(start()), w.Rate)
			}
			now = w.Until
		}
		t.Fatal("no end of windows")
	})
}
