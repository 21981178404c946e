package drain

import "time"

// Rest is a pause that a sink asked for: drains send nothing to it before its end. It
// belongs to a name, and outlives the sink's absence from the policy.
type Rest struct {
	Sink     string        `json:"-"`
	Until    time.Time     `json:"until"`
	Wanted   time.Duration `json:"wanted"`       // nanoseconds, as all durations here
	Honoured time.Duration `json:"honoured"`     // of that
	By       string        `json:"by,omitempty"` // the field that asked; empty: Retry-After
}

// RestoreRests lays on what RestChanged was told before a restart. It comes before the
// first Apply. None lasts longer than it would have when it was asked for, in case the clock
// was set back since.
func (d *Drains) RestoreRests(now time.Time, rests []Rest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range rests {
		if latest := now.Add(r.Honoured); r.Until.After(latest) {
			r.Until = latest
		}
		if r.Until.After(now) {
			d.rests[r.Sink] = r
		}
	}
}

// restore lays a pause on a sink that is new: for no longer than a Retry-After is honoured
// now, so that whoever honours less is done with one that was a mistake.
func (s *sinkState) restore(now time.Time, r Rest, honours time.Duration) {
	if r.Sink == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	left := r.Until.Sub(now)
	if honours > 0 { // else no drain has a say
		left = min(left, honours)
	}
	r.Until = now.Add(left) // by the clock that nobody sets
	s.pause, s.kept = r.Until, r
	s.asked = asked{wanted: r.Wanted, honoured: r.Honoured, by: r.By}
}

// rest takes note of a pause, and reports whether there was none. The latest end holds.
// What a sink of ours does by itself is not remembered: whoever mended what it rests for
// may start anew. It requires that mu is held.
func (s *sinkState) rest(now time.Time, ask asked) (fresh bool) {
	fresh = !s.pause.After(now)
	until := now.Add(ask.honoured)
	if until.After(s.pause) {
		s.pause, s.asked = until, ask
	}
	if ask.rests == "" && until.After(s.kept.Until) {
		s.kept = Rest{Sink: s.name, Until: until, Wanted: ask.wanted, Honoured: ask.honoured, By: ask.by}
		if s.keeps != nil {
			s.keeps(s.kept)
		}
	}
	return fresh
}

// resting is what is remembered of the last pause.
func (s *sinkState) resting() Rest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept
}
