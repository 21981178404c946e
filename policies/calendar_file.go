package policies

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of calendar files; one is as large as a policy file at most.
const (
	maxCalendarFiles = 100
	maxCalendarLines = 20_000
)

// calendars are the calendar files of one policy, each read once.
type calendars struct {
	*outside
	files []File            // in the order in which they are named
	dates map[string][]span // of each file; empty where it has a mistake
}

func newCalendars(o *outside) *calendars {
	return &calendars{outside: o, dates: make(map[string][]span)}
}

// calendarFile reads the dates of the file that v names, which lies beside the
// policy file.
func (v value) calendarFile(to *[]span) {
	s, ok := v.str()
	if !ok {
		return
	}
	name := v.beside(s)
	c := v.calendars
	if dates, known := c.dates[name]; known {
		*to = dates
		return
	}
	if len(c.files) == maxCalendarFiles {
		v.fail("put several calendars into one file", "the policy names more than %d calendar files", maxCalendarFiles)
		return
	}
	data, err := c.read(name)
	c.files = append(c.files, File{name, data})
	c.dates[name] = nil
	switch {
	case err != nil:
		v.fail("it is looked for from the folder of the policy file", "calendar file %s: %v", quote(name), err)
	case len(data) > maxFileBytes:
		v.fail("split it: intervals are joined", "calendar file %s is over 1 MiB", quote(name))
	case !utf8.Valid(data):
		v.fail("save it as UTF-8", "calendar file %s is not UTF-8 text", quote(name))
	default:
		c.dates[name] = v.calendarDates(name, string(data))
		*to = c.dates[name]
	}
}

// calendarDates reads one date or range a line; # begins a comment. Its mistakes
// are those of the calendar file, in its own lines.
func (v value) calendarDates(name, text string) (dates []span) {
	src := &source{name: name, lines: splitLines(text)}
	v.found.order[src] = len(v.found.order)
	before := v.found.count()
	for i, line := range src.lines {
		line, _, _ = strings.Cut(line, "#")
		word := strings.TrimSpace(line)
		if word == "" {
			continue
		}
		column := 1 + utf8.RuneCountInString(line[:strings.Index(line, word)])
		days, hint, message := dateRange(word)
		if message == "" {
			dates = append(dates, days)
			continue
		}
		if !isDateLike(word) {
			// Some other file: what is in it is not for those who read mistakes.
			src.lines[i] = ""
		}
		v.found.add(place{src, i + 1, column}, hint, message)
	}
	if v.found.count() > before {
		return nil
	}
	if len(dates) == 0 {
		v.fail("write one date or range a line, such as 2027-10-01:2027-10-07", "calendar file %s holds no date: the interval would never be active", quote(name))
	}
	if len(dates) > maxCalendarLines {
		v.fail("write ranges, or split it", "calendar file %s holds more than %d dates and ranges", quote(name), maxCalendarLines)
	}
	return merge(dates, 1)
}

func dateRange(s string) (days span, hint, message string) {
	first, last, isRange := strings.Cut(s, ":")
	if !isRange {
		last = first
	}
	for i, word := range []string{first, last} {
		day, ok := dateUnit.parse(word)
		if !ok && isDateLike(s) {
			return span{}, dateUnit.hint(word), fmt.Sprintf("%s is not a date", quote(word))
		}
		if !ok {
			return span{}, dateUnit.hint(word), "the line is not a date"
		}
		if i == 0 {
			days.from = day
		}
		days.to = day
	}
	message, hint = dateUnit.backwards(s, days.from, days.to)
	return days, hint, message
}

// isDateLike reports whether a line can have been meant as a date.
func isDateLike(s string) bool {
	const longest = 24
	return len(s) <= longest && strings.Trim(s, "0123456789-:./ ") == ""
}
