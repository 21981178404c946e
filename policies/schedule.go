package policies

import (
	"iter"
	"math"
	"time"

	"forebay/limiter"
)

// Schedule is the rates of a drain over calendar time: a base, and entries of
// which the first that is active holds. Its intervals belong to the Set.
type Schedule struct {
	Base    limiter.Rate
	Entries []Entry
	Floor   limiter.Rate // the least, but where an entry says 0
}

// Entry is a rate that holds while one of its intervals is active and no
// exception is.
type Entry struct {
	Name   string
	During []*Interval
	Except []*Interval
	Rate   limiter.Rate
	// Ramp is how long the rate rises from the one before, where that is less, and
	// falls to the one after, inside the time in which the entry holds.
	Ramp time.Duration
}

// base is the name of the rate that holds while no entry does. No entry may
// have it.
const base = "base"

// maxEdges bounds what At looks at: so many times may intervals change with the
// same entry holding on. Past that, Until is when the answer may change, though it
// will not.
const maxEdges = 100

// At returns the window that t lies in. It is computed from the calendar, never
// polled: a caller may keep the answer until Until, and is told the same window at
// every instant before, but that a ramp that is over is left out. It allocates nothing.
func (s *Schedule) At(t time.Time) Window {
	now := t.Unix()
	holds := s.holds(now)
	w := s.window(holds)
	if w.ramp > 0 {
		w.began, w.from = s.began(now, holds)
	}
	at, limit := now, now+horizon
	for range maxEdges {
		if at = s.nextEdge(holds, at, limit); at == never {
			return w
		}
		if next := s.holds(at); next != holds {
			w.to = s.rampEnd(next, w.Rate)
			break
		}
	}
	w.Until = time.Unix(at, 0).UTC()
	return w
}

// began looks back as far as a ramp reaches for when an entry that holds began to, and
// for the rate that it rises from.
func (s *Schedule) began(now int64, holds int) (time.Time, limiter.Rate) {
	at := now - int64(math.Ceil(s.Entries[holds].Ramp.Seconds()))
	last, edge, from := s.holds(at), int64(never), 0
	for {
		if at = s.nextEdge(last, at, now+1); at == never {
			break
		}
		if next := s.holds(at); next != last {
			last, edge, from = next, at, last
		}
	}
	if edge == never {
		return time.Time{}, 0
	}
	return time.Unix(edge, 0).UTC(), s.rampEnd(from, s.window(holds).Rate)
}

// rampEnd is the rate of a ramp at its end to a neighbour.
func (s *Schedule) rampEnd(neighbour int, rate limiter.Rate) limiter.Rate {
	return min(max(s.window(neighbour).Rate, s.Floor), rate)
}

// Windows yields the windows from one time to another, which has to be after it:
// each with the time it begins at, without its ramp, consecutive, and two neighbours
// differ in Rate or Because. The first begins at from, the last ends at to. It computes
// as it goes, so a caller that stops early pays for no more than it has seen.
func (s *Schedule) Windows(from, to time.Time) iter.Seq2[time.Time, Window] {
	return func(yield func(time.Time, Window) bool) {
		for from.Before(to) {
			w := s.window(s.holds(from.Unix()))
			w.ramp = 0
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

// window is what holds, without its time.
func (s *Schedule) window(holds int) Window {
	w := Window{Rate: s.Base, Because: base}
	if holds < len(s.Entries) {
		e := &s.Entries[holds]
		w = Window{Rate: e.Rate, Because: e.Name, ramp: e.Ramp}
	}
	if w.Rate < s.Floor && !w.Frozen() {
		w.said, w.Rate, w.Floor = w.Rate, s.Floor, true
	}
	w.from, w.to = w.Rate, w.Rate
	return w
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

// Lines cuts a window that Windows has yielded, and where it begins, into stretches in
// which the rate is one straight line.
func (s *Schedule) Lines(from time.Time, w Window) iter.Seq2[time.Time, Line] {
	return func(yield func(time.Time, Line) bool) {
		for from.Before(w.Until) {
			l := s.line(from, w.Until)
			if !yield(from, l) {
				return
			}
			from = l.Until
		}
	}
}

// Line is a stretch of a window in which the rate goes straight from one to another.
type Line struct {
	From, To limiter.Rate
	Until    time.Time
}

// line follows what is level past the times at which At only may change its answer.
func (s *Schedule) line(at, to time.Time) Line {
	l := Line{From: s.At(at).RateAt(at)}
	for at.Before(to) {
		w := s.At(at)
		begin, end := w.Straight(at)
		if end.IsZero() || end.After(to) {
			end = to
		}
		level := begin.IsZero() && w.Rate == l.From
		if l.Until.IsZero() || level {
			l.To, l.Until = w.RateAt(end), end
		}
		if !level {
			break
		}
		at = end
	}
	return l
}
