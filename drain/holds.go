package drain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"forebay/buffer"
	"forebay/limiter"
)

// Pause stops a drain from starting attempts until a time, or until Resume where
// that is zero. What is in flight ends by itself. It takes the place of a pause
// that is there. A drain that is not in the policy can be held if the buffer has
// it: it comes back so. buffer.ErrNoDrain: no such drain.
func (d *Drains) Pause(drain string, until time.Time, reason string) error {
	return d.lay(Hold{Drain: drain, Kind: Paused, Until: until, Reason: reason})
}

// Resume ends a pause.
func (d *Drains) Resume(drain string) error { return d.lift(drain, Paused) }

// Override puts a rate in the place of a drain's schedule until a time. The
// sink's budget, its breaker and its Retry-After still bind.
func (d *Drains) Override(drain string, rate limiter.Rate, until time.Time, reason string) error {
	return d.lay(Hold{Drain: drain, Kind: Override, Rate: rate, Until: until, Reason: reason})
}

// ClearOverride brings a drain back to its schedule.
func (d *Drains) ClearOverride(drain string) error { return d.lift(drain, Override) }

// Holds returns all that holds now, by drain, to be kept over a restart.
func (d *Drains) Holds() []Hold {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.holdsAt(now)
}

// holdsAt requires that mu is held.
func (d *Drains) holdsAt(now time.Time) []Hold {
	list := []Hold{}
	for _, h := range d.hands {
		list = append(list, h.list(now)...)
	}
	slices.SortFunc(list, func(a, b Hold) int {
		if a.Drain != b.Drain {
			return strings.Compare(a.Drain, b.Drain)
		}
		return strings.Compare(string(a.Kind), string(b.Kind))
	})
	return list
}

// Restore lays on what Holds returned before a restart. It comes before the first
// Apply. What has ended since is told when Run begins. An error names a hold that
// makes no sense, and restores none.
func (d *Drains) Restore(holds []Hold) error {
	restored := make(map[string]hands)
	for _, h := range holds {
		if err := h.check(); err != nil {
			return fmt.Errorf("restore a hold on %s: %w", h.Drain, err)
		}
		restored[h.Drain] = restored[h.Drain].with(h)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hands = restored
	return nil
}

func (d *Drains) lay(h Hold) error {
	h.Since = time.Now()
	err := h.check()
	if err == nil && h.past(h.Since) {
		err = fmt.Errorf("it would have ended at %s", h.Until.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return fmt.Errorf("hold drain %s: %w", h.Drain, err)
	}
	return d.change(h.Drain, func(was hands) hands { return was.with(h) })
}

func (d *Drains) lift(drain string, kind Constraint) error {
	return d.change(drain, func(was hands) hands { return was.without(kind) })
}

// change changes the hands on a drain and tells of it. Changes are told one at a
// time, in their order.
func (d *Drains) change(name string, next func(hands) hands) error {
	d.holding.Lock()
	defer d.holding.Unlock()
	if !d.known(name) {
		return fmt.Errorf("hold drain %s: %w", name, buffer.ErrNoDrain)
	}
	d.mu.Lock()
	now := time.Now()
	was := d.hands[name]
	h := next(was)
	d.keep(name, h)
	if dr, ok := d.drains[name]; ok {
		dr.hold(now, h)
	} else {
		signal(d.changed) // Run waits for its end
	}
	holds := d.holdsAt(now)
	d.mu.Unlock()
	if h != was {
		d.tell(holds)
	}
	return nil
}

// tell requires that holding is held.
func (d *Drains) tell(holds []Hold) {
	if d.cfg.HoldsChanged != nil {
		d.cfg.HoldsChanged(holds)
	}
}

// keep requires that mu is held.
func (d *Drains) keep(name string, h hands) {
	if h == (hands{}) {
		delete(d.hands, name)
		return
	}
	d.hands[name] = h
}

// known reports whether a drain is in the policy, in the buffer or held.
func (d *Drains) known(name string) bool {
	d.mu.Lock()
	known := d.drains[name] != nil || d.hands[name] != hands{}
	d.mu.Unlock()
	return known || slices.ContainsFunc(d.buf.Stats().Drains, func(c buffer.DrainStats) bool { return c.Drain == name })
}

// tidy takes off the holds that have ended by themselves, and says so.
func (d *Drains) tidy(name string, now time.Time) {
	var ended []Hold
	err := d.change(name, func(h hands) hands {
		ended = h.ended(now)
		for _, hold := range ended {
			h = h.without(hold.Kind)
		}
		return h
	})
	if err != nil {
		return // the drain is gone, and someone has ended its holds
	}
	for _, hold := range ended {
		d.event(string(hold.Kind)+"-ended", name, hold.Reason+", until "+hold.Until.UTC().Format(time.RFC3339))
	}
}

// hold lays hands on the drain. The loop feels it at once.
func (d *drain) hold(now time.Time, h hands) {
	d.mu.Lock()
	if h != d.core.hands {
		d.disturbed()
	}
	d.core.setHands(now, h)
	d.mu.Unlock()
	signal(d.changed)
}
