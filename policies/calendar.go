package policies

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of a calendar.
const (
	maxSpecs    = 100  // of an interval
	maxTimes    = 24   // of a spec
	maxCalendar = 1000 // values and ranges of any other kind
)

// intervalDraft is a time interval as a file has it.
type intervalDraft struct {
	name  text
	specs []spec
}

var intervalSchema = schema[intervalDraft]{
	what: "a time interval",
	fields: []field[intervalDraft]{
		nameField(func(iv *intervalDraft) *text { return &iv.name }).says("Unique among time intervals."),
		{
			name: "intervals", about: "It is active while one of these is.", example: "[{ weekdays: [saturday, sunday] }]", required: true,
			shape: listShape(specSchema.shape(), 1, maxSpecs),
			read: func(v value, iv *intervalDraft) {
				v.list(maxSpecs, func(item value) { item.spec(&iv.specs) })
				if v.emptyList() {
					v.fail(`list when it is active, as in {weekdays: ["saturday", "sunday"]}`, "%s is empty: the time interval would never be active", v.name)
				}
			},
		},
	},
}

var specSchema = schema[spec]{
	what: "an interval",
	fields: []field[spec]{
		{
			name: "times", about: "Times of the day; default: all of it.",
			shape: listShape(timesSchema.shape(), 0, maxTimes), read: func(v value, s *spec) { v.times(&s.times) },
		},
		calendarField("weekdays", weekdayUnit, func(s *spec, r span) {
			for d := r.from; d <= r.to; d++ {
				s.weekdays |= 1 << d
			}
		}).says("Weekdays or ranges of them; the week begins on Sunday."),
		calendarField("days_of_month", dayOfMonthUnit, func(s *spec, r span) { s.daysOfMonth = append(s.daysOfMonth, r) }).
			says("1 to 31, -1 for the last day, or ranges."),
		calendarField("months", monthUnit, func(s *spec, r span) {
			for m := r.from; m <= r.to; m++ {
				s.months |= 1 << m
			}
		}).says("Months by name or number, or ranges."),
		calendarField("years", yearUnit, func(s *spec, r span) { s.years = append(s.years, r) }).says("Years or ranges."),
		{
			name: "dates", about: "Dates YYYY-MM-DD or ranges of them.", shape: listShape(dateUnit.shape(), 0, maxCalendar),
			read: func(v value, s *spec) {
				v.calendar(dateUnit, func(r span) { s.dates = append(s.dates, r) })
				s.dates, s.datesAt = merge(s.dates, 1), v.place()
			},
		},
		{
			name: "calendar_file", about: "A file of dates, one or a range a line, beside the policy file.", shape: shape{"type": "string", "minLength": 1},
			read: func(v value, s *spec) {
				v.calendarFile(&s.dates)
				s.datesAt = v.place()
			},
		},
		zoneField("location", func(s *spec) **time.Location { return &s.loc }).says("A name of the IANA time zone database; default UTC."),
	},
	check: func(v value, _ *spec, keys keys) {
		if at := keys["calendar_file"]; at != nil && keys["dates"] != nil {
			value{v.decoder, at, ""}.fail("make two intervals of it: each is active on its own days", "an interval has both dates and calendar_file")
		}
	},
}

// calendarField is a list of calendar values and ranges of them.
func calendarField(name string, u unit, add func(s *spec, r span)) field[spec] {
	return field[spec]{
		name: name, shape: listShape(u.shape(), 0, maxCalendar),
		read: func(v value, s *spec) { v.calendar(u, func(r span) { add(s, r) }) },
	}
}

func (v value) spec(to *[]spec) {
	s := spec{loc: time.UTC}
	if specSchema.read(v.as(specSchema.what), &s) == nil {
		return
	}
	if len(s.times) == 0 {
		s.times = []span{{0, daySeconds}}
	}
	*to = append(*to, s)
}

type timesDraft struct{ start, end text }

var timesSchema = schema[timesDraft]{
	what: "a time range",
	fields: []field[timesDraft]{
		clockField("start_time", func(t *timesDraft) *text { return &t.start }).must(`"00:30"`).says("From, inclusive."),
		clockField("end_time", func(t *timesDraft) *text { return &t.end }).must(`"06:30"`).says("To, exclusive; 24:00 is the end of the day."),
	},
}

func clockField(name string, of func(*timesDraft) *text) field[timesDraft] {
	return field[timesDraft]{
		name: name, shape: patternShape(clockForm.String()),
		read: func(v value, t *timesDraft) { v.clock(of(t)) },
	}
}

func (v value) times(to *[]span) {
	var drafts []timesDraft
	objects(v, &timesSchema, maxTimes, &drafts)
	for _, t := range drafts {
		if t.start.word == "" || t.end.word == "" {
			continue
		}
		r := span{clockSeconds(t.start.word), clockSeconds(t.end.word)}
		if r.from < r.to {
			*to = append(*to, r)
			continue
		}
		message, hint := midnight(t.start.word, t.end.word)
		v.found.add(t.start.place, hint, message)
	}
	*to = merge(*to, 0)
}

// midnight says what is wrong with a time range that does not end after it starts,
// and how to write it.
func midnight(start, end string) (message, hint string) {
	switch {
	case start == end:
		return fmt.Sprintf("the time range %s to %s is empty", start, end), "the end is exclusive; leave times out for the whole day"
	case end == "00:00":
		return fmt.Sprintf("the time range %s to 00:00 ends before it starts", start), `write end_time: "24:00" for the end of the day`
	}
	return fmt.Sprintf("the time range %s to %s crosses midnight", start, end),
		fmt.Sprintf(`write two: {start_time: %q, end_time: "24:00"} and {start_time: "00:00", end_time: %q}; with weekdays or dates the second belongs to the day after`, start, end)
}

var clockForm = regexp.MustCompile(`^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`)

func (v value) clock(to *text) {
	s, ok := v.word("a time of the day")
	if !ok {
		return
	}
	if !clockForm.MatchString(s) || (s == "24:00" && v.name == "start_time") {
		v.fail("write hours and minutes in two digits each, 00:00 to 23:59; an end_time may be 24:00", "%s cannot be %s", v.name, quote(s))
		return
	}
	*to = text{s, v.place()}
}

// clockSeconds reads what clockForm has matched.
func clockSeconds(s string) int64 {
	hours, minutes := int64(s[0]-'0')*10+int64(s[1]-'0'), int64(s[3]-'0')*10+int64(s[4]-'0')
	return hours*3600 + minutes*60
}

// unit is a kind of calendar value: how one is read, and what to say of others.
type unit struct {
	what  string
	parse func(string) (int64, bool)
	hint  func(string) string
	// first and last are the ends of the cycle where a range may not cross them;
	// print writes such a value.
	first, last int64
	print       func(int64) string
	// form of a value as editors know it; digits says that it may be a number.
	form   string
	digits bool
}

func (u unit) shape() shape {
	types := []string{"string"}
	if u.digits {
		types = append(types, "integer")
	}
	return shape{"type": types, "pattern": "^" + u.form + "(:" + u.form + ")?$"}
}

var (
	weekdayUnit = unit{
		what:  "a weekday",
		parse: indexOf(weekdayNames, 0),
		hint:  func(s string) string { return suggestStart(s, weekdayNames, "weekdays") },
		form:  "[A-Za-z]{6,9}",
		first: 0, last: 6,
		print: func(n int64) string { return weekdayNames[n] },
	}
	monthUnit = unit{
		what: "a month",
		parse: func(s string) (int64, bool) {
			if n, ok := parseInt(s); ok {
				return int64(n), n >= 1 && n <= 12
			}
			return indexOf(monthNames, 1)(s)
		},
		hint:  func(s string) string { return suggestStart(s, monthNames, "months") },
		form:  "([A-Za-z]{3,9}|[1-9]|1[0-2])",
		first: 1, last: 12, digits: true,
		print: func(n int64) string { return monthNames[n-1] },
	}
	dayOfMonthUnit = unit{
		what:  "a day of the month",
		parse: between(1, 31, true),
		hint:  func(string) string { return "write 1 to 31, or -1 to -31 counted from the end of the month" },
		form:  "-?([1-9]|[12][0-9]|3[01])", digits: true,
	}
	yearUnit = unit{
		what:  "a year",
		parse: between(1970, 9999, false),
		hint:  func(string) string { return "write four digits, from 1970 on" },
		form:  "(19[7-9][0-9]|[2-9][0-9]{3})", digits: true,
	}
	dateUnit = unit{
		what: "a date",
		parse: func(s string) (int64, bool) {
			t, err := time.Parse(time.DateOnly, s)
			day, _ := splitDay(t.Unix())
			return day, err == nil && t.Year() >= 1970
		},
		hint: func(string) string { return "write YYYY-MM-DD, or a range YYYY-MM-DD:YYYY-MM-DD" },
		form: "[0-9]{4}-[0-9]{2}-[0-9]{2}",
	}
)

var (
	weekdayNames = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
	monthNames   = []string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}
)

func indexOf(names []string, first int) func(string) (int64, bool) {
	return func(s string) (int64, bool) {
		i := slices.Index(names, strings.ToLower(s))
		return int64(i + first), i >= 0
	}
}

func between(lo, hi int64, negative bool) func(string) (int64, bool) {
	return func(s string) (int64, bool) {
		n, ok := parseInt(s)
		size := int64(n)
		if negative && size < 0 {
			size = -size
		}
		return int64(n), ok && size >= lo && size <= hi
	}
}

// suggestStart knows abbreviations: mon is monday.
func suggestStart(s string, names []string, label string) string {
	for _, name := range names {
		if len(s) >= 3 && strings.HasPrefix(name, strings.ToLower(s[:3])) {
			return "did you mean " + name + "?"
		}
	}
	return label + ": " + strings.Join(names, ", ")
}

// calendar reads a list of values and ranges first:last, both inclusive.
func (v value) calendar(u unit, add func(span)) {
	v.list(maxCalendar, func(item value) {
		s, ok := item.word(u.what + " or a range of two")
		if !ok {
			return
		}
		first, last, isRange := strings.Cut(s, ":")
		if !isRange {
			last = first
		}
		from, ok := item.one(u, first)
		if !ok {
			return
		}
		to, ok := item.one(u, last)
		if !ok {
			return
		}
		if message, hint := u.backwards(s, from, to); message != "" {
			item.fail(hint, "%s", message)
			return
		}
		add(span{from, to})
	})
}

func (v value) one(u unit, s string) (int64, bool) {
	n, ok := u.parse(s)
	if !ok {
		v.fail(u.hint(s), "%s is not %s", quote(s), u.what)
	}
	return n, ok
}

// backwards says what is wrong with a range whose end is before its start.
func (u unit) backwards(s string, from, to int64) (message, hint string) {
	// Of two days that count from different ends only the length of the month says
	// which is first; one that is so in no month is a mistake.
	const shortest, longest = 28, 31
	switch {
	case from < 0 && to > 0:
		from += shortest + 1
	case from > 0 && to < 0:
		to += longest + 1
	}
	if from <= to {
		return "", ""
	}
	if u.print == nil {
		return fmt.Sprintf("the range %s ends before it starts", s), "write the first before the last"
	}
	return fmt.Sprintf("the range %s runs past the end of its cycle", s), fmt.Sprintf("write two: %q and %q", u.pair(from, u.last), u.pair(u.first, to))
}

func (u unit) pair(from, to int64) string {
	if from == to {
		return u.print(from)
	}
	return u.print(from) + ":" + u.print(to)
}

// merge sorts spans and joins those that overlap or are gap apart.
func merge(spans []span, gap int64) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.from <= out[n-1].to+gap {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}
