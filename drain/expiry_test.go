package drain

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
	"forebay/limiter"
	"forebay/policies"
)

func TestExpiryOf(t *testing.T) {
	const hour = time.Hour
	tests := []struct {
		name     string
		stream   policies.Stream
		deadline policies.Deadline
		want     expiry
	}{
		{"neither", policies.Stream{}, policies.Deadline{}, expiry{}},
		{"retention", policies.Stream{Retention: 3 * hour, OnRetention: policies.EndDead}, policies.Deadline{}, expiry{3 * hour, buffer.ReasonRetention, true}},
		{"retention expires", policies.Stream{Retention: 3 * hour, OnRetention: policies.EndExpire}, policies.Deadline{}, expiry{3 * hour, buffer.ReasonRetention, false}},
		{"a deadline before", policies.Stream{Retention: 3 * hour}, policies.Deadline{MaxDelay: hour, OnExpire: policies.EndDead}, expiry{hour, buffer.ReasonDeadline, true}},
		{"a deadline expires", policies.Stream{Retention: 3 * hour}, policies.Deadline{MaxDelay: hour, OnExpire: policies.EndExpire}, expiry{hour, buffer.ReasonDeadline, false}},
		{"delivered late", policies.Stream{Retention: 3 * hour}, policies.Deadline{MaxDelay: hour, OnExpire: policies.EndDeliver}, expiry{3 * hour, buffer.ReasonRetention, true}},
		{"a deadline after retention", policies.Stream{Retention: hour}, policies.Deadline{MaxDelay: 3 * hour, OnExpire: policies.EndExpire}, expiry{hour, buffer.ReasonRetention, true}},
		{"both at once", policies.Stream{Retention: hour}, policies.Deadline{MaxDelay: hour, OnExpire: policies.EndDead}, expiry{hour, buffer.ReasonDeadline, true}},
		{"a deadline alone", policies.Stream{}, policies.Deadline{MaxDelay: hour, OnExpire: policies.EndDead}, expiry{hour, buffer.ReasonDeadline, true}},
	}
	for _, tt := range tests {
		got := expiryOf(tt.stream, tt.deadline)
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
		if got.dead != (got.why() != "") {
			t.Errorf("%s: dead %v, of %q", tt.name, got.dead, got.why())
		}
	}
	x := expiry{after: hour}
	if x.past(start().Add(hour-1), start()) || !x.past(start().Add(hour), start()) || (expiry{}).past(start().Add(1000*hour), start()) {
		t.Error("past is not from so long after acceptance on")
	}
}

func TestStepwatch(t *testing.T) {
	type look struct {
		wall, elapsed time.Duration
		step          time.Duration // raises doubt
		trusts        bool
	}
	m := time.Minute
	for name, looks := range map[string][]look{
		"both run alike":    {{0, 0, 0, true}, {time.Hour, time.Hour, 0, true}},
		"a small step":      {{0, 0, 0, true}, {12 * m, 2 * m, 0, true}},
		"a large step":      {{0, 0, 0, true}, {13 * m, m, 12 * m, false}, {22 * m, 10 * m, 0, false}, {23 * m, 11 * m, 0, true}},
		"two large steps":   {{0, 0, 0, true}, {13 * m, m, 12 * m, false}, {33 * m, 9 * m, 12 * m, false}, {36 * m, 12 * m, 0, false}, {43 * m, 19 * m, 0, true}},
		"a step backwards":  {{0, 0, 0, true}, {-time.Hour, m, 0, true}, {m - time.Hour, 2 * m, 0, true}},
		"the first is none": {{time.Hour, m, 0, true}},
	} {
		var w stepwatch
		for i, l := range looks {
			step := w.look(start().Add(l.wall), l.elapsed)
			if trusts := w.trusts(l.elapsed); step != l.step || trusts != l.trusts {
				t.Errorf("%s, look %d: step %v, trusts %v; want %v, %v", name, i, step, trusts, l.step, l.trusts)
			}
		}
	}
}

// expiring is a policy whose messages end after a minute.
func expiring(rate limiter.Rate, on policies.Ending) *policies.Set {
	s := set(base(rate), wide())
	s.Streams[0].Retention = time.Hour
	s.Streams[0].OnRetention = policies.EndExpire
	s.Drains[0].Deadline = policies.Deadline{MaxDelay: time.Minute, OnExpire: on}
	return s
}

func TestRunExpires(t *testing.T) {
	type counts struct{ Delivered, Expired, Dead, Left uint64 }
	tests := []struct {
		on   policies.Ending
		wait time.Duration
		want counts
	}{
		{policies.EndDead, 59 * time.Second, counts{Delivered: 59, Left: 41}},
		{policies.EndDead, 63 * time.Second, counts{Delivered: 60, Dead: 40}},
		{policies.EndExpire, 63 * time.Second, counts{Delivered: 60, Expired: 40}},
		{policies.EndDeliver, 63 * time.Second, counts{Delivered: 63, Left: 37}},
		{policies.EndDeliver, 2 * time.Minute, counts{Delivered: 100}},
	}
	for _, tt := range tests {
		inBubble(t, []string{"d"}, func(b *bench) {
			b.apply(expiring(1, tt.on))
			b.pass(10*time.Hour + 300*time.Millisecond) // the loop slept for long
			b.fill(100)
			b.pass(tt.wait)
			s := b.stats("d")
			got := counts{s.Delivered, s.Expired, s.Dead[buffer.ReasonDeadline], s.Pending + s.Scheduled + s.InFlight}
			// The first leaves within a second: there may be one more.
			if got.Delivered == tt.want.Delivered+1 {
				got.Delivered--
				if tt.want.Left > 0 {
					got.Left++
				} else if tt.on == policies.EndDead {
					got.Dead++
				} else {
					got.Expired++
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s after %v (-want +got):\n%s", tt.on, tt.wait, diff)
			}
		})
	}
}

// The log says which limit messages were over, those too that expire.
func TestExpiryIsLoggedWithItsReason(t *testing.T) {
	for want, deadline := range map[string]policies.Deadline{
		"messages=3 after=1m0s reason=deadline dead=false":    {MaxDelay: time.Minute, OnExpire: policies.EndExpire},
		"messages=3 after=1m0s reason=deadline dead=true":     {MaxDelay: time.Minute, OnExpire: policies.EndDead},
		"messages=3 after=1h0m0s reason=retention dead=false": {},
	} {
		inBubble(t, []string{"d"}, func(b *bench) {
			var out bytes.Buffer // written by the expirer alone, which waits when it is read
			b.drains.log = slog.New(slog.NewTextHandler(&out, nil))
			policy := expiring(0, "")
			policy.Drains[0].Deadline = deadline
			b.apply(policy)
			b.fill(3)
			b.pass(61 * time.Minute)
			if !strings.Contains(out.String(), want) {
				t.Errorf("log:\n%s\nwant one line with %q", out.String(), want)
			}
		})
	}
}

// Retention ends what no deadline does, whatever keeps the drain.
func TestRunExpiresWhilePaused(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		policy := expiring(1, policies.EndDeliver)
		b.apply(policy)
		if err := b.drains.Pause("d", time.Time{}, "INC-1"); err != nil {
			t.Fatal(err)
		}
		b.fill(10)
		b.pass(59 * time.Minute)
		if s := b.stats("d"); s.Pending != 10 {
			t.Errorf("before retention: %+v", s)
		}
		b.pass(2 * time.Minute)
		if s := b.stats("d"); s.Expired != 10 {
			t.Errorf("after retention: %+v", s)
		}
		b.fill(10)
		b.pass(time.Minute)
		policy = expiring(1, policies.EndDead)
		policy.Drains[0].Deadline.MaxDelay = 30 * time.Second
		b.apply(policy) // a shorter deadline is felt at once
		b.pass(2 * time.Second)
		if s := b.stats("d"); s.Dead[buffer.ReasonDeadline] != 10 {
			t.Errorf("after a policy with a shorter deadline: %+v", s)
		}
	})
}

// What is late in flight is delivered if it succeeds, and not tried again if not.
func TestRunEndsWhatIsLateInFlight(t *testing.T) {
	for _, on := range []policies.Ending{policies.EndDead, policies.EndExpire} {
		inBubble(t, []string{"d"}, func(b *bench) {
			s := b.sinks["service"]
			s.takes = 2 * time.Minute
			s.answer = func(m Delivery) Outcome {
				if m.Offset%2 == 0 {
					return Outcome{Class: Success, Status: 200}
				}
				return Outcome{Status: 503}
			}
			policy := expiring(limiter.Unlimited, on)
			policy.Drains[0].Retry.Initial, policy.Drains[0].Retry.Max = 0, 0
			b.apply(policy)
			b.fill(10)
			b.pass(3 * time.Minute)
			got := b.stats("d")
			if ended := got.Dead[buffer.ReasonDeadline] + got.Expired; got.Delivered != 5 || ended != 5 || (got.Expired == 5) != (on == policies.EndExpire) {
				t.Errorf("%s: %+v, want 5 delivered and 5 ended", on, got)
			}
			for id, n := range s.seen() {
				if n != 1 {
					t.Errorf("%s: %d attempts at %s", on, n, id)
				}
			}
		})
	}
}

// After a clock was set forward, nothing ends for ten minutes.
func TestRunDoubtsAClockThatJumped(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(expiring(0, policies.EndDead))
		b.fill(10)
		b.pass(50 * time.Second)
		b.drains.expirer.back(time.Hour)
		b.pass(9 * time.Minute)
		if s := b.stats("d"); s.Pending != 10 || b.events.Load() != 1 {
			t.Errorf("%+v after the jump, %d events; want all pending and one", s, b.events.Load())
		}
		b.pass(3 * time.Minute)
		if s := b.stats("d"); s.Dead[buffer.ReasonDeadline] != 10 {
			t.Errorf("%+v ten minutes after the jump", s)
		}
	})
}

// back makes the clock seem to have been set forward since the last look.
func (e *expirer) back(by time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watch.wall = e.watch.wall.Add(-by)
}

// A late message that a reload gives more time is tried again.
func TestRunKeepsWhatIsNoLongerLate(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		var up atomic.Bool
		s := b.sinks["service"]
		s.answer = func(Delivery) Outcome {
			if up.Load() {
				return Outcome{Class: Success, Status: 200}
			}
			return Outcome{Status: 503}
		}
		b.apply(expiring(1, policies.EndExpire))
		b.fill(3)
		b.pass(30 * time.Second)
		policy := expiring(1, policies.EndExpire)
		policy.Drains[0].Deadline.MaxDelay = 10 * time.Minute
		b.apply(policy)
		b.pass(2 * time.Minute)
		up.Store(true)
		b.pass(2 * time.Minute)
		b.wantDelivered("d", 3)
	})
}

// A clock that goes forward by more than ten minutes at once ends nothing for ten
// minutes, and says so.
func TestRunSuspendsExpiryWhenTheClockJumps(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(expiring(0, policies.EndExpire))
		b.fill(10)
		b.pass(time.Second)
		x := b.drains.expirer
		if x.trustsAt(time.Now().Round(0).Add(time.Hour), time.Since(x.started)) {
			t.Error("a clock that went forward by an hour is trusted")
		}
		b.mu.Lock()
		said := strings.Join(b.said, "\n")
		b.mu.Unlock()
		if want := "clock-jump clock the clock went forward by 1h0m0s at once; nothing expires for 10m0s"; !strings.Contains(said, want) {
			t.Errorf("events:\n%s\nwant %q", said, want)
		}
		b.pass(9 * time.Minute)
		if s := b.stats("d"); s.Pending != 10 {
			t.Errorf("nine minutes after it went forward: %+v, want 10 pending", s)
		}
		b.pass(3 * time.Minute)
		if s := b.stats("d"); s.Expired != 10 {
			t.Errorf("twelve minutes after it went forward: %+v, want 10 expired", s)
		}
	})
}
