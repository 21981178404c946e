package drain

import (
	"testing"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// timedPolicy lets callers give messages times of their own.
func timedPolicy(s policies.Schedule) *policies.Set {
	p := set(s, wide())
	p.Routes = []policies.Route{{Name: "r", Stream: "orders", Timing: true}}
	return p
}

func (b *bench) appendTimed(after, deadline time.Duration) {
	b.t.Helper()
	m := buffer.Message{Method: "POST", Target: "/"}
	if after > 0 {
		m.DeliverAfter = time.Now().Add(after)
	}
	if deadline > 0 {
		m.Deadline = time.Now().Add(deadline)
	}
	if _, err := b.buf.Append(b.t.Context(), "orders", time.Now(), []buffer.Message{m}); err != nil {
		b.t.Fatal(err)
	}
}

// A message leaves at its time, and not before; others do not wait for it.
func TestDeliverAfter(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(timedPolicy(base(10)))
		begin := time.Now()
		b.appendTimed(time.Hour, 0)
		b.fill(5)
		b.pass(time.Minute)
		b.wantDelivered("d", 5)
		if st := b.stats("d"); st.Scheduled != 1 {
			t.Errorf("%+v, want one scheduled", st)
		}
		if at := b.drains.Status(time.Now())[0].EmptyAt; at.Sub(begin) != time.Hour {
			t.Errorf("empty after %v, want an hour", at.Sub(begin))
		}
		b.pass(2 * time.Hour)
		times := b.sinks["service"].began(begin)
		if len(times) != 6 || times[5].Sub(begin) < time.Hour || times[5].Sub(begin) > time.Hour+time.Second {
			t.Errorf("%d attempts, the last after %v", len(times), times[len(times)-1].Sub(begin))
		}
		b.wantDelivered("d", 6)
	})
}

// A message ends by its own deadline as the drain says, though nothing else does.
func TestOwnDeadline(t *testing.T) {
	for ending, want := range map[policies.Ending]buffer.DrainStats{
		"":                  {Delivered: 1, Dead: map[buffer.Reason]uint64{buffer.ReasonDeadline: 3}},
		policies.EndDead:    {Delivered: 1, Dead: map[buffer.Reason]uint64{buffer.ReasonDeadline: 3}},
		policies.EndExpire:  {Delivered: 1, Expired: 3},
		policies.EndDeliver: {Delivered: 4},
	} {
		inBubble(t, []string{"d"}, func(b *bench) {
			p := timedPolicy(nightly(t)) // opens at 00:30
			p.Drains[0].Deadline.OnExpire = ending
			b.sinks["service"].answer = func(m Delivery) Outcome {
				if m.Offset == 3 && m.Tries.Attempts == 0 {
					return Outcome{Status: 500, Error: "status 500"} // it is tried again once it is late
				}
				return Outcome{Class: Success, Status: 200}
			}
			p.Drains[0].Retry.Initial, p.Drains[0].Retry.Max = 10*time.Minute, 10*time.Minute
			b.drains.cfg.Random = func(n int64) int64 { return n - 1 }
			b.apply(p)
			b.appendTimed(0, time.Second) // late before anyone has looked
			b.appendTimed(0, 20*time.Minute)
			b.appendTimed(0, 40*time.Minute)
			b.appendTimed(0, 35*time.Minute)
			b.pass(10 * time.Second)
			if got := b.stats("d"); ending != policies.EndDeliver && got.Pending != 3 {
				t.Errorf("%s: %+v ten seconds later", ending, got)
			}
			b.pass(2 * time.Hour)
			got := b.stats("d")
			if got.Delivered != want.Delivered || got.Expired != want.Expired || got.Dead[buffer.ReasonDeadline] != want.Dead[buffer.ReasonDeadline] {
				t.Errorf("on_expire %q: %+v, want %+v", ending, got, want)
			}
		})
	}
}

// What is late is not tried any more, even where the expirer has not come by.
func TestOverdueIsNotTried(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		p := timedPolicy(nightly(t))
		p.Routes = nil // so that the expirer does not look often
		b.apply(p)
		b.pass(29*time.Minute + 50*time.Second)
		for range 20 {
			b.appendTimed(0, 10*time.Second)
		}
		b.pass(time.Minute)
		if n := len(b.sinks["service"].began(time.Time{})); n > 0 {
			t.Errorf("%d attempts, though all were late when the window opened", n)
		}
		if got := b.stats("d"); got.Dead[buffer.ReasonDeadline] != 20 {
			t.Errorf("%+v", got)
		}
	})
}
