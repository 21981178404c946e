package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// clockChange is a day on which the clocks of a zone change.
type clockChange struct {
	from, to int64 // the ends of that day
	note     string
}

// clockChanges returns the changes in the zones of a schedule whose days touch a
// stretch of time, in order.
func (s *Schedule) clockChanges(from, to time.Time) []clockChange {
	zones := make(map[*time.Location]bool)
	var changes []clockChange
	for _, e := range s.Entries {
		for _, iv := range slices.Concat(e.During, e.Except) {
			for i := range iv.specs {
				if sp := &iv.specs[i]; !zones[sp.loc] {
					zones[sp.loc] = true
					changes = sp.clockChanges(changes, from.Unix(), to.Unix())
				}
			}
		}
	}
	slices.SortFunc(changes, func(a, b clockChange) int { return cmp.Compare(a.from, b.from) })
	return changes
}

func (s *spec) clockChanges(changes []clockChange, from, to int64) []clockChange {
	for at := from - 2*daySeconds; ; {
		before, until := s.zone(at)
		if until >= to+2*daySeconds {
			return changes
		}
		at = until
		if after := s.offset(at); after != before {
			changes = append(changes, s.clockChange(at, before, after))
		}
	}
}

// clockChange describes the change at a second from one offset to another.
func (s *spec) clockChange(at, before, after int64) clockChange {
	// The day is that of the clock before the change: a change at midnight back to
	// 23:00 makes the day that was ending longer.
	local := at + before
	if after < before {
		local--
	}
	day, _ := splitDay(local)
	from, to := day*daySeconds-before, (day+1)*daySeconds-after
	low, high, what := local, at+after, "does not happen"
	if after < before {
		low, high, what = at+after, at+before, "happens twice"
	}
	hours := float64(to-from) / 3600
	return clockChange{from, to, fmt.Sprintf("%g-hour day in %s: %s–%s %s", hours, s.loc, wallClock(low), wallClock(high), what)}
}

// wallClock prints seconds of local time as a time of the day.
func wallClock(local int64) string { return time.Unix(local, 0).UTC().Format("15:04") }

// maxNotes bounds the days that are told of one window.
const maxNotes = 4

// noteOf joins the notes of the days that a window touches.
func noteOf(changes []clockChange, from, to time.Time) string {
	var notes []string
	for _, c := range changes {
		if c.from >= to.Unix() || c.to <= from.Unix() {
			continue
		}
		if len(notes) == maxNotes {
			notes = append(notes, "…")
			break
		}
		notes = append(notes, c.note)
	}
	return strings.Join(notes, "; ")
}
