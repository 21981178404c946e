package drain

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// SinkHold is an operator's pause of a sink: neither live requests nor drains
// send anything to it. It ends by itself at Until. Like a Hold it belongs to a
// name, and outlives its sink's absence from the policy.
type SinkHold struct {
	Sink   string    `json:"sink"`
	Since  time.Time `json:"since"` // when it was laid on
	Until  time.Time `json:"until"` // zero: until it is lifted
	Reason string    `json:"reason"`
}

// holds reports whether it is there and has not ended.
func (h SinkHold) holds(now time.Time) bool {
	return h.Sink != "" && (h.Until.IsZero() || now.Before(h.Until))
}

// PauseSink keeps everything from being sent to a sink until a time, or until
// ResumeSink where that is zero. What is in flight ends by itself. It takes the
// place of a pause that is there. [ErrNoSink]: no such sink.
func (d *Drains) PauseSink(sink string, until time.Time, reason string) error {
	h := SinkHold{Sink: sink, Since: time.Now(), Until: until, Reason: reason}
	switch {
	case len(reason) > maxReason:
		return fmt.Errorf("pause sink %s: the reason is over %d bytes", sink, maxReason)
	case !h.holds(h.Since):
		return fmt.Errorf("pause sink %s: it would have ended at %s", sink, until.UTC().Format(time.RFC3339))
	}
	return d.changeSink(sink, h)
}

// ResumeSink ends a pause.
func (d *Drains) ResumeSink(sink string) error { return d.changeSink(sink, SinkHold{}) }

// SinkHolds returns all that holds now, by sink, to be kept over a restart.
func (d *Drains) SinkHolds() []SinkHold {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sinkHoldsAt(time.Now())
}

// sinkHoldsAt requires that mu is held.
func (d *Drains) sinkHoldsAt(now time.Time) []SinkHold {
	list := []SinkHold{}
	for _, h := range d.sinkHolds {
		if h.holds(now) {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b SinkHold) int { return strings.Compare(a.Sink, b.Sink) })
	return list
}

// RestoreSinks lays on what SinkHolds returned before a restart. It comes before
// the first Apply. What has ended since is told when Run begins. An error names a
// hold that makes no sense, and restores none.
func (d *Drains) RestoreSinks(holds []SinkHold) error {
	restored := make(map[string]SinkHold)
	for _, h := range holds {
		if h.Sink == "" {
			return errors.New("restore a pause of a sink: it has no name")
		}
		restored[h.Sink] = h
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sinkHolds = restored
	return nil
}

// changeSink puts h in the place of what is held of a sink, and tells of it.
// Changes are told one at a time, in their order.
func (d *Drains) changeSink(name string, h SinkHold) error {
	d.holding.Lock()
	defer d.holding.Unlock()
	now := time.Now()
	d.mu.Lock()
	s, was := d.sinks[name], d.sinkHolds[name]
	if s == nil && was == (SinkHold{}) {
		d.mu.Unlock()
		return fmt.Errorf("sink %s: %w", name, ErrNoSink)
	}
	if delete(d.sinkHolds, name); h != (SinkHold{}) {
		d.sinkHolds[name] = h
	}
	drains := slices.Collect(maps.Values(d.drains))
	holds := d.sinkHoldsAt(now)
	d.mu.Unlock()
	if s != nil {
		s.lay(h)
		for _, dr := range drains {
			dr.sinkHeld(s)
		}
	}
	signal(d.changed) // Run waits for its end
	if h != was && d.cfg.SinkHoldsChanged != nil {
		d.cfg.SinkHoldsChanged(holds)
	}
	return nil
}

// tidySinks ends the pauses whose time is over, says so, and returns when the next
// one's is; zero: never.
func (d *Drains) tidySinks(now time.Time) (next time.Time) {
	d.mu.Lock()
	all := slices.Collect(maps.Values(d.sinkHolds))
	d.mu.Unlock()
	for _, h := range all {
		switch {
		case !h.holds(now):
			if d.changeSink(h.Sink, SinkHold{}) == nil {
				d.event("sink-resume", h.Sink, h.Reason+", until "+h.Until.UTC().Format(time.RFC3339))
			}
		case !h.Until.IsZero():
			next = soonest(next, h.Until)
		}
	}
	return next
}

// soonest is the earlier of two times; zero is never.
func soonest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// lay lays a pause on the sink, or lifts it. Who waits for the sink feels it at once.
func (s *sinkState) lay(h SinkHold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = h
	s.nudge()
}

// sinkHeld says that a sink was paused or is not any more, which breaks promises.
func (d *drain) sinkHeld(s *sinkState) {
	d.mu.Lock()
	ours := d.plan.sink == s
	if ours {
		d.disturbed()
	}
	d.mu.Unlock()
	if ours {
		signal(d.changed)
	}
}

// SinkStatus is where a sink stands.
type SinkStatus struct {
	Sink     string
	InFlight int
	Slots    int   // that may be in flight
	Live     int64 // live requests that had their turn
	Waiting  int   // live requests that wait for it
	Breaker  BreakerState
	Opens    time.Time // when an open breaker lets a probe through; zero: it is not open
	Ramping  bool      // slow start
	Pause    *SinkHold // nil: none
	Lag      *Lag      // nil: there is no bound
	Targets  []Target  // nil: the sink has no such parts
}

// Target is one of the places that a sink is made of.
type Target struct {
	URL      string
	InFlight int
	Resting  time.Time // passed over before, while another can be used; zero: not
}

// SinkStatus returns where a sink stands; false for no such sink.
func (d *Drains) SinkStatus(now time.Time, name string) (SinkStatus, bool) {
	s := d.sink(name)
	if s == nil {
		return SinkStatus{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.climb(now)
	o := s.look(now)
	st := SinkStatus{
		Sink: name, InFlight: s.budget.InFlight(), Slots: s.budget.Slots(), Live: s.live.Load(), Waiting: len(s.queue),
		Breaker: o.breaker, Ramping: o.ramping(), Lag: s.lag.status(now),
	}
	if o.breaker == BreakerOpen {
		st.Opens = o.opens
	}
	if h := s.held; h.holds(now) {
		st.Pause = &h
	}
	if t, ok := s.sink.(interface{ Targets(now time.Time) []Target }); ok {
		st.Targets = t.Targets(now)
	}
	return st, true
}
