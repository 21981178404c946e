package policies

import (
	"iter"
	"time"

	"forebay/limiter"
)

// Schedule is the rates of a drain over calendar time: a base, and entries of
// which the first that is active holds. Its intervals belong to the Set.
type Schedule struct {
	Base    limiter.Rate
	Entries []Entry
	Floor   limiter.Rate // not built yet: the least, but where an entry says 0
}

// Entry is a rate that holds while one of its intervals is active and no
// exception is.
type Entry struct {
	Name   string
	During []*Interval
	Except []*Interval
	Rate   limiter.Rate
	Ramp   time.Duration // not built yet
}

// Window is a stretch of time with one rate.
type Window struct {
	Rate    limiter.Rate
	Because string    // the entry's name, or "base"
	Until   time.Time // when the answer may change; zero: not within the horizon
}

// base is the name of the rate that holds while no entry does. No entry may
// have it.
const base = "base"

// maxEdges bounds what At looks at: so many times may intervals change with the
// same entry holding on. Past that, Until is when the answer may change, though it
// will not.
const maxEdges = 100

// At returns the window that t lies in. It is computed from the calendar, never
// polled: a caller may keep the answer until Until, and is told the same rate at
// every instant before. It allocates nothing.
func (s *Schedule) At(t time.Time) Window {
	now := t.Unix()
	holds := s.holds(now)
	w := s.window(holds)
	at, limit := now, now+horizon
	for range maxEdges {
		if at = s.nextEdge(holds, at, limit); at == never {
			return w
		}
		if s.holds(at) != holds {
			break
		}
	}
	w.Until = time.Unix(at, 0).UTC()
	return w
}

// Windows yields the windows from one time to another, which has to be after it:
// each with the time it begins at, consecutive, and two neighbours differ in Rate
// or Because. The first begins at from, the last ends at to. It computes as it
// goes, so a caller that stops early pays for no more than it has seen.
func (s *Schedule) Windows(from, to time.Time) iter.Seq2[time.Time, Window] {
	return func(yield func(time.Time, Window) bool) {
		for from.Before(to) {
			w := s.window(s.holds(from.Unix()))
			w.Until = s.end(w, from, to)
			if !yield(from, w) {
				return
			}
			from = w.Until
		}
	}
}

// end returns when a window ends, at most to: what ends for At at its horizon or
// its bound on edges is followed further.
func (s *Schedule) end(w Window, from, to time.Time) time.Time {
	for from.Before(to) {
		next := s.At(from)
		if next.Rate != w.Rate || next.Because != w.Because {
			return from
		}
		if next.Until.IsZero() {
			next.Until = from.Add(horizon * time.Second)
		}
		from = next.Until
	}
	return to
}

// holds returns the index of the entry that holds, or len(s.Entries) for the base.
func (s *Schedule) holds(unix int64) int {
	for i := range s.Entries {
		if s.Entries[i].active(unix) {
			return i
		}
	}
	return len(s.Entries)
}

func (s *Schedule) window(holds int) Window {
	if holds == len(s.Entries) {
		return Window{Rate: s.Base, Because: base}
	}
	return Window{Rate: s.Entries[holds].Rate, Because: s.Entries[holds].Name}
}

// nextEdge returns the first change after unix, and before limit, of an interval
// that decides whether the entry holds: its own, and those of the entries that
// come before it.
func (s *Schedule) nextEdge(holds int, unix, limit int64) int64 {
	first := int64(never)
	for i := 0; i <= holds && i < len(s.Entries); i++ {
		for _, intervals := range [...][]*Interval{s.Entries[i].During, s.Entries[i].Except} {
			for _, iv := range intervals {
				at := iv.next(unix, limit)
				first, limit = min(first, at), min(limit, at)
			}
		}
	}
	return first
}

func (e *Entry) active(unix int64) bool {
	return anyActive(e.During, unix) && !anyActive(e.Except, unix)
}

func anyActive(intervals []*Interval, unix int64) bool {
	for _, iv := range intervals {
		if iv.active(unix) {
			return true
		}
	}
	return false
}
