package drain

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
	"forebay/policies"
)

// without is a policy that leaves the drain out, and its stream.
func without() *policies.Set { return &policies.Set{} }

// leave takes drain d out of policy and buffer, as a reload does. What waits in it
// stays there.
func (b *bench) leave() {
	b.t.Helper()
	b.apply(without())
	b.must(b.buf.Configure(nil))
}

// back is the opposite of leave.
func (b *bench) back(policy *policies.Set) {
	b.t.Helper()
	b.must(b.buf.Configure([]buffer.Stream{{Name: "orders", Drains: []string{"d"}}}))
	b.apply(policy)
}

// What operators hold back stays held back while policies leave its drain out, over
// a restart too.
func TestHoldsOutliveTheirDrain(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(10), wide()))
		b.must(b.drains.Pause("d", time.Time{}, "INC-1"))
		b.must(b.drains.Override("d", 2, time.Now().Add(time.Hour), "INC-2"))
		b.fill(100)
		b.heard()
		want := b.drains.Holds()
		wantHolds := func(when string) {
			t.Helper()
			if diff := cmp.Diff(want, b.drains.Holds()); diff != "" {
				t.Errorf("holds %s (-want +got):\n%s", when, diff)
			}
		}

		b.leave()
		wantHolds("without the drain")
		wantSaid := []string{
			"orphaned d the drain is not in the policy; it comes back paused (INC-1), unless that is ended: forebay drains drop d --reason WHY",
			"orphaned d the drain is not in the policy; it comes back at 2/s (INC-2), unless that is ended: forebay drains drop d --reason WHY",
		}
		if diff := cmp.Diff(wantSaid, b.heard()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		b.restart(without())
		wantHolds("after a restart without the drain")
		b.pass(time.Minute)
		b.back(set(base(10), wide()))
		wantHolds("with the drain again")
		b.pass(time.Minute)
		b.wantDelivered("d", 0)
		b.must(b.drains.Resume("d"))
		b.pass(10*time.Second + time.Millisecond)
		b.wantDelivered("d", 20)
	})
}

// A hold ends on time where no drain's loop looks after it.
func TestHoldsEndWithoutTheirDrain(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(10), wide()))
		b.fill(1)
		b.pass(time.Second)
		b.must(b.drains.Pause("d", time.Now().Add(10*time.Minute), "INC-1"))
		b.leave()
		b.must(b.drains.Override("d", 2, time.Now().Add(time.Minute), "INC-2")) // it is held still
		b.heard()
		b.pass(time.Minute + time.Millisecond)
		if diff := cmp.Diff([]string{"override-ended d INC-2, until 2000-01-01T00:01:01Z"}, b.heard()); diff != "" {
			t.Errorf("after the first ended (-want +got):\n%s", diff)
		}
		b.pass(9 * time.Minute)
		if diff := cmp.Diff([]string{"paused-ended d INC-1, until 2000-01-01T00:10:01Z"}, b.heard()); diff != "" {
			t.Errorf("after the second ended (-want +got):\n%s", diff)
		}
		told := b.changes()
		if last := told[len(told)-1]; len(last) != 0 {
			t.Errorf("told %v, want nothing held at the end", told)
		}
	})
}

// Forget is for drains that no policy has.
func TestForget(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(10), wide()))
		b.must(b.drains.Pause("d", time.Time{}, "INC-1"))
		if got := b.drains.Forget("d"); got != nil || len(b.drains.Holds()) != 1 {
			t.Errorf("Forget of a drain in the policy = %v, left %v", got, b.drains.Holds())
		}
		b.leave()
		if got := b.drains.Forget("d"); len(got) != 1 || got[0].Reason != "INC-1" || len(b.drains.Holds()) != 0 {
			t.Errorf("Forget = %v, left %v", got, b.drains.Holds())
		}
		told := b.changes()
		if last := told[len(told)-1]; len(told) != 2 || len(last) != 0 {
			t.Errorf("told %v, want that nothing is held any more", told)
		}
		if got := b.drains.Forget("d"); got != nil || len(b.changes()) != 2 {
			t.Errorf("Forget of nothing = %v", got)
		}
	})
}

// A drain with messages that no policy has can be asked about, and held for when
// it comes back.
func TestWhyOfADrainThatIsLeftOut(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		b.apply(set(base(0), wide()))
		b.fill(3)
		from := time.Now()
		b.leave()
		b.must(b.drains.Pause("d", time.Now().Add(time.Minute), "INC-1"))
		w, ok := b.drains.Why(time.Now(), "d")
		want := "\n0/s by \npaused 0/s until 1m0s: INC-1"
		if diff := cmp.Diff(want, showWhy(w, from)); !ok || diff != "" {
			t.Errorf("why (-want +got):\n%s", diff)
		}
		if w.Head == nil || w.Head.State != buffer.Queued || w.Head.WaitsFor != "a policy that has the drain" {
			t.Errorf("head = %+v", w.Head)
		}
		b.back(set(base(10), wide()))
		b.pass(59 * time.Second)
		b.wantDelivered("d", 0)
		b.pass(2 * time.Second)
		b.wantDelivered("d", 3)
	})
}
