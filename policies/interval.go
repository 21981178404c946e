package policies

import (
	"math"
	"time"
)

// Interval is a named stretch of calendar time: the union of its specs.
type Interval struct {
	Name  string
	specs []spec
}

// horizon is how far ahead a change is looked for: a year and a month, so that
// what happens once a year is seen.
const horizon = 400 * daySeconds

// Active reports whether t lies in the interval.
func (iv *Interval) Active(t time.Time) bool { return iv.active(t.Unix()) }

// NextChange returns the first instant after t at which Active changes, in UTC. It
// is zero where that is not within the next 400 days.
func (iv *Interval) NextChange(t time.Time) time.Time {
	at := iv.next(t.Unix(), t.Unix()+horizon)
	if at == never {
		return time.Time{}
	}
	return time.Unix(at, 0).UTC()
}

// never is the time of what does not happen before the limit that was asked for.
const never = math.MaxInt64

func (iv *Interval) active(unix int64) bool {
	for i := range iv.specs {
		if iv.specs[i].active(unix) {
			return true
		}
	}
	return false
}

// next returns the first second after unix, and before limit, at which the
// interval changes, or never.
func (iv *Interval) next(unix, limit int64) int64 {
	if iv.active(unix) {
		return iv.end(unix, limit)
	}
	first := int64(never)
	for i := range iv.specs {
		at := iv.specs[i].next(unix, limit)
		first, limit = min(first, at), min(limit, at)
	}
	return first
}

// end follows specs that overlap or adjoin until none is active.
func (iv *Interval) end(unix, limit int64) int64 {
	for at := unix; ; {
		furthest := at
		for i := range iv.specs {
			if iv.specs[i].active(at) {
				furthest = max(furthest, iv.specs[i].next(at, limit))
			}
		}
		if furthest == at || furthest == never {
			return furthest
		}
		at = furthest
	}
}

// spec is one set of conditions that hold together, on the clock and the calendar
// on the wall of loc. An empty list is no condition.
type spec struct {
	loc         *time.Location
	times       []span // seconds of the day; sorted, apart, never empty
	weekdays    dayMask
	daysOfMonth []span // -1 is the last day
	months      monthMask
	years       []span
	dates       []span // days since 1970-01-01; sorted, apart
	datesAt     place  // of dates or calendar_file, for warnings
}

// span runs from its first to its last inclusive, but times of the day end
// exclusive.
type span struct{ from, to int64 }

type (
	dayMask   uint8  // bit 0: Sunday; 0: any
	monthMask uint16 // bit 1: January; 0: any
)

const daySeconds = 24 * 60 * 60

func (s *spec) active(unix int64) bool {
	day, sec := splitDay(unix + s.offset(unix))
	return s.onDay(day) && s.spanAt(sec) >= 0
}

// next returns the first second after unix, and before limit, at which the spec
// changes, or never. Between two changes of the zone's offset the clock on the
// wall is plain arithmetic.
func (s *spec) next(unix, limit int64) int64 {
	was := s.active(unix)
	for at := unix; at < limit; {
		offset, until := s.zone(at)
		if edge := s.nextOnWall(at+offset, was, min(until, limit)+offset) - offset; edge < min(until, limit) {
			return edge
		}
		at = until
		if at < limit && s.active(at) != was {
			return at
		}
	}
	return never
}

// nextOnWall is next in seconds of local time. What it returns at or after until
// means nothing more than that.
func (s *spec) nextOnWall(local int64, active bool, until int64) int64 {
	day, sec := splitDay(local)
	if active {
		return s.endOnWall(day, s.times[s.spanAt(sec)].to, until)
	}
	if s.onDay(day) {
		for _, t := range s.times {
			if t.from > sec {
				return day*daySeconds + t.from
			}
		}
	}
	last, _ := splitDay(until)
	return s.nextDay(day+1, last)*daySeconds + s.times[0].from
}

// endOnWall runs through midnight while the next day begins active.
func (s *spec) endOnWall(day, end, until int64) int64 {
	for end == daySeconds && day*daySeconds < until {
		day++
		if !s.onDay(day) || s.times[0].from > 0 {
			return day * daySeconds
		}
		end = s.times[0].to
	}
	return day*daySeconds + end
}

// spanAt returns the index of the time span that holds sec, or -1.
func (s *spec) spanAt(sec int64) int {
	for i, t := range s.times {
		if t.from <= sec && sec < t.to {
			return i
		}
	}
	return -1
}

// nextDay returns the first day from day to last that matches, or last+1.
func (s *spec) nextDay(day, last int64) int64 {
	for day <= last {
		if s.onDay(day) {
			return day
		}
		day = s.candidate(day)
	}
	return last + 1
}

// candidate returns a day after one that does not match, such that none between
// them does: what is a year ahead is not looked for day by day.
func (s *spec) candidate(day int64) int64 {
	next := day + 1
	if len(s.dates) > 0 {
		i := spanFrom(s.dates, next)
		if i == len(s.dates) {
			return never
		}
		next = max(next, s.dates[i].from)
	}
	if s.months == 0 && len(s.years) == 0 {
		return next
	}
	if year, month, _ := dateOf(day); !s.inMonth(year, month) {
		next = max(next, time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC).Unix()/daySeconds)
	}
	return next
}

// onDay reports whether a day since 1970-01-01 matches.
func (s *spec) onDay(day int64) bool {
	// That day was a Thursday.
	if s.weekdays != 0 && s.weekdays&(1<<floorMod(day+4, 7)) == 0 {
		return false
	}
	if len(s.dates) > 0 {
		if i := spanFrom(s.dates, day); i == len(s.dates) || s.dates[i].from > day {
			return false
		}
	}
	if s.months == 0 && len(s.daysOfMonth) == 0 && len(s.years) == 0 {
		return true
	}
	year, month, dom := dateOf(day)
	if !s.inMonth(year, month) {
		return false
	}
	return len(s.daysOfMonth) == 0 || inDays(s.daysOfMonth, int64(dom), daysIn(year, month))
}

// inMonth reports whether days of a month can match at all.
func (s *spec) inMonth(year int, month time.Month) bool {
	if s.months != 0 && s.months&(1<<month) == 0 {
		return false
	}
	for _, y := range s.years {
		if y.from <= int64(year) && int64(year) <= y.to {
			return true
		}
	}
	return len(s.years) == 0
}

func dateOf(day int64) (year int, month time.Month, dom int) {
	return time.Unix(day*daySeconds, 0).UTC().Date()
}

// spanFrom returns the index of the first span that ends at day or later.
func spanFrom(spans []span, day int64) int {
	lo, hi := 0, len(spans)
	for lo < hi {
		mid := (lo + hi) / 2
		if spans[mid].to < day {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// inDays matches days counted from either end of a month of length days. A range
// is cut to the month: 29:31 in February of a common year is no day at all.
func inDays(doms []span, day, length int64) bool {
	for _, d := range doms {
		from, to := d.from, d.to
		if from < 0 {
			from += length + 1
		}
		if to < 0 {
			to += length + 1
		}
		if from <= day && day <= to {
			return true
		}
	}
	return false
}

func daysIn(year int, month time.Month) int64 {
	return int64(time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day())
}

// offset is what the clock on the wall is ahead of UTC, in seconds.
func (s *spec) offset(unix int64) int64 {
	_, offset := time.Unix(unix, 0).In(s.loc).Zone()
	return int64(offset)
}

// zone returns the offset and the next second at which it may change, or never.
func (s *spec) zone(unix int64) (offset, until int64) {
	t := time.Unix(unix, 0).In(s.loc)
	_, seconds := t.Zone()
	_, end := t.ZoneBounds()
	switch {
	case end.IsZero():
		until = never
	case end.Unix() <= unix:
		// Beyond its table package time ends every year after 365 days, which in a
		// leap year is a day early: look again when this day in UTC is over.
		day, _ := splitDay(unix)
		until = (day + 1) * daySeconds
	default:
		until = end.Unix()
	}
	return int64(seconds), until
}

// splitDay cuts seconds into days and the second of the day, before 1970 too.
func splitDay(seconds int64) (day, sec int64) {
	sec = floorMod(seconds, daySeconds)
	return (seconds - sec) / daySeconds, sec
}

func floorMod(a, b int64) int64 { return (a%b + b) % b }
