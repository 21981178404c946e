package drain

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"forebay/buffer"
)

// Holds on a drain that the policy leaves out stay until they end, and come back
// with it: what someone held back is not delivered because a policy was without its
// drain for a while.

// Forget ends the holds on a drain that is not in the policy, and returns them.
func (d *Drains) Forget(drain string) []Hold {
	d.holding.Lock()
	defer d.holding.Unlock()
	now := time.Now()
	d.mu.Lock()
	h, held := d.hands[drain]
	if d.drains[drain] != nil || !held {
		d.mu.Unlock()
		return nil
	}
	delete(d.hands, drain)
	holds := d.holdsAt(now)
	d.mu.Unlock()
	d.tell(holds)
	return h.list(now)
}

// absent returns the hands on drains that are not in the policy, by the drains'
// names. It requires that mu is held.
func (d *Drains) absent() map[string]hands {
	absent := maps.Clone(d.hands)
	maps.DeleteFunc(absent, func(name string, _ hands) bool { return d.drains[name] != nil })
	return absent
}

// tidyAbsent does for drains that are not in the policy what the others' loops do,
// and returns when to do so again; zero: never.
func (d *Drains) tidyAbsent(now time.Time) (next time.Time) {
	d.mu.Lock()
	absent := d.absent()
	d.mu.Unlock()
	for name, h := range absent {
		if len(h.ended(now)) > 0 {
			d.tidy(name, now)
		}
		for _, hold := range h.list(now) {
			if !hold.Until.IsZero() && (next.IsZero() || hold.Until.Before(next)) {
				next = hold.Until
			}
		}
	}
	return next
}

// tellAbsent says which holds wait for their drains.
func (d *Drains) tellAbsent(now time.Time, absent map[string]hands) {
	for _, name := range slices.Sorted(maps.Keys(absent)) {
		for _, h := range absent[name].list(now) {
			d.event("orphaned", name, fmt.Sprintf(
				"the drain is not in the policy; it comes back %s (%s), unless that is ended: forebay drains drop %s --reason WHY", h.what(), h.Reason, name))
		}
	}
}

// what says what a hold does.
func (h Hold) what() string {
	if h.Kind == Paused {
		return "paused"
	}
	return fmt.Sprintf("at %v", h.Rate)
}

// whyAbsent is Why for a drain that is not in the policy: nothing is delivered, and
// the constraints are the holds that it comes back with.
func (d *Drains) whyAbsent(now time.Time, name string) (Why, bool) {
	if !d.known(name) {
		return Why{}, false
	}
	d.mu.Lock()
	h := d.hands[name]
	d.mu.Unlock()
	head := d.head(name).under(now, "")
	if head != nil && head.State != buffer.Delivering {
		head.WaitsFor = noPolicy // a retry that is due, too
	}
	return Why{Constraints: h.terms(now), Head: head}, true
}

// terms lists the holds that hold at now.
func (h hands) terms(now time.Time) []Term {
	var terms []Term
	for _, hold := range h.list(now) {
		t := Term{Name: hold.Kind, Detail: hold.Reason, Until: hold.Until}
		if hold.Kind == Override {
			t.Rate = hold.Rate
		}
		terms = append(terms, t)
	}
	return terms
}
