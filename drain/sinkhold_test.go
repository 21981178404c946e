package drain

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"forebay/policies"
)

// A paused sink gets nothing, from drains and live requests, until the pause ends
// by itself or is lifted; why and eta say so.
func TestPauseSink(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		s := b.sinks["service"]
		b.apply(set(base(10), policies.Budget{Limit: limit(100, 1), Concurrency: 64}))
		b.fill(1000)
		b.pass(10 * time.Second)
		c := b.callers()

		must := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		must(b.drains.PauseSink("service", time.Now().Add(10*time.Second), "INC-1"))
		from := time.Now()
		b.pass(time.Second)
		c.start(1, 0)
		c.start(1, time.Second)
		c.start(1, 20*time.Second)
		if n := len(c.refused); n != 2 || c.refused[0].By != Paused || c.refused[1].By != Paused || c.refused[1].Until != from.Add(10*time.Second) {
			t.Errorf("%d refused, want those who cannot wait for the end of the pause", n)
		}
		status := b.drains.Status(time.Now())[0]
		if status.Binding != Paused || status.State != Halted || status.Permitted != 0 || status.EmptyAt.Before(from.Add(10*time.Second)) {
			t.Errorf("status %+v", status)
		}
		if w, _ := b.drains.Why(time.Now(), "d"); w.Binding != Paused || !slices.ContainsFunc(w.Constraints, func(t Term) bool {
			return t.Name == Paused && strings.Contains(t.Detail, "INC-1") && t.Until.Equal(from.Add(10*time.Second))
		}) {
			t.Errorf("why %+v", w)
		}
		if eta, _, note := b.drains.ETA("d", time.Now(), time.Time{}, 0); eta.Before(from.Add(10 * time.Second)) {
			t.Errorf("eta %v, %q: in the pause", eta, note)
		}
		b.pass(8 * time.Second)
		if n := len(s.began(from.Add(time.Millisecond))); n != 0 {
			t.Errorf("%d attempts at a paused sink", n)
		}
		b.pass(2 * time.Second)
		c.group.Wait()
		if sent, _ := c.counts(); sent != 1 {
			t.Error("who could wait for the end of the pause was not sent")
		}
		if n := len(s.began(from)); n < 5 {
			t.Errorf("%d attempts in the second after the pause", n)
		}
		if said := b.heard(); len(said) != 1 || !strings.HasPrefix(said[0], "sink-resume service INC-1") {
			t.Errorf("events %q", said)
		}

		must(b.drains.PauseSink("service", time.Time{}, "INC-2"))
		if _, _, note := b.drains.ETA("d", time.Now(), time.Time{}, 0); note != "the sink is paused" {
			t.Errorf("no eta because %q", note)
		}
		c.start(1, time.Hour)
		if _, refused := c.counts(); refused != 3 {
			t.Error("a request waits for a pause without an end")
		}
		b.pass(time.Minute)
		from = time.Now()
		must(b.drains.ResumeSink("service"))
		b.pass(time.Second)
		if n := len(s.began(from)); n < 5 {
			t.Errorf("%d attempts in the second after the pause was lifted", n)
		}
		if err := b.drains.PauseSink("none", time.Time{}, "x"); !errors.Is(err, ErrNoSink) {
			t.Errorf("PauseSink of no sink: %v", err)
		}
		if err := b.drains.PauseSink("service", time.Now().Add(-time.Second), "x"); err == nil {
			t.Error("a pause that has ended is laid on")
		}
	})
}

// Pauses outlive a restart, and their sink's absence from the policy.
func TestSinkHoldsStay(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		policy := set(base(10), wide())
		b.apply(policy)
		if err := b.drains.PauseSink("service", time.Time{}, "INC-1"); err != nil {
			t.Error(err)
		}
		holds := b.drains.SinkHolds()
		b.stop()
		b.start(Config{})
		if err := b.drains.RestoreSinks(holds); err != nil {
			t.Error(err)
		}
		b.apply(policy)
		b.apply(&policies.Set{})
		b.apply(policy)
		b.fill(10)
		b.pass(time.Minute)
		b.wantDelivered("d", 0)
		if st, ok := b.drains.SinkStatus(time.Now(), "service"); !ok || st.Pause == nil || st.Pause.Reason != "INC-1" {
			t.Errorf("status %+v, %v", st, ok)
		}
		if err := b.drains.ResumeSink("service"); err != nil {
			t.Error(err)
		}
		b.pass(time.Minute)
		b.wantDelivered("d", 10)
		if err := b.drains.RestoreSinks([]SinkHold{{}}); err == nil {
			t.Error("a pause of no sink is restored")
		}
	})
}
