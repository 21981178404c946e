package policies

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"forebay/limiter"
)

// slowActive is the meaning of a spec, read off the fields of a local time.
func slowActive(s *spec, t time.Time) bool {
	local := t.In(s.loc)
	sec := int64(local.Hour()*3600 + local.Minute()*60 + local.Second())
	inTimes := false
	for _, r := range s.times {
		inTimes = inTimes || r.from <= sec && sec < r.to
	}
	midnight := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, time.UTC)
	length := int64(midnight.AddDate(0, 1, -local.Day()).Day())
	return inTimes &&
		(s.weekdays == 0 || s.weekdays>>local.Weekday()&1 == 1) &&
		(s.months == 0 || s.months>>local.Month()&1 == 1) &&
		slowIn(s.years, int64(local.Year()), 0) &&
		slowIn(s.dates, midnight.Unix()/daySeconds, 0) &&
		slowIn(s.daysOfMonth, int64(local.Day()), length)
}

func slowIn(spans []span, n, length int64) bool {
	for _, r := range spans {
		if r.from < 0 {
			r.from += length + 1
		}
		if r.to < 0 {
			r.to += length + 1
		}
		if r.from <= n && n <= r.to {
			return true
		}
	}
	return len(spans) == 0
}

func slowHolds(s *Schedule, t time.Time) string {
	active := func(intervals []*Interval) bool {
		for _, iv := range intervals {
			for i := range iv.specs {
				if slowActive(&iv.specs[i], t) {
					return true
				}
			}
		}
		return false
	}
	for _, e := range s.Entries {
		if active(e.During) && !active(e.Except) {
			return e.Name
		}
	}
	return base
}

// Zones with what makes calendars hard: half-hour daylight saving, quarter-hour
// offsets, four changes a year, a skipped day, daylight saving below zero.
var hardZones = []string{
	"UTC", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu", "America/New_York", "Europe/Dublin",
	"Pacific/Kiritimati", "Pacific/Apia", "America/Santiago", "Asia/Shanghai", "America/St_Johns", "Africa/Cairo",
}

func drawSpec(t *rapid.T, around time.Time) spec {
	zone := rapid.SampledFrom(hardZones).Draw(t, "zone")
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	s := spec{loc: loc}
	maybe := func(label string) bool { return rapid.IntRange(0, 3).Draw(t, label) == 0 }
	for range rapid.IntRange(0, 3).Draw(t, "times") {
		from := rapid.Int64Range(0, 1439).Draw(t, "from") * 60
		if rapid.Bool().Draw(t, "early") {
			from %= 3 * 3600 // where clocks change
		}
		to := rapid.Int64Range(from/60+1, 1440).Draw(t, "to") * 60
		s.times = append(s.times, span{from, to})
	}
	if s.times = merge(s.times, 0); len(s.times) == 0 {
		s.times = []span{{0, daySeconds}}
	}
	if maybe("weekdays") {
		s.weekdays = dayMask(rapid.IntRange(1, 127).Draw(t, "weekday mask"))
	}
	if maybe("months") {
		s.months = monthMask(rapid.IntRange(1, 0xfff).Draw(t, "month mask") << 1)
	}
	if maybe("days") {
		from := rapid.Int64Range(1, 31).Draw(t, "day")
		s.daysOfMonth = []span{{from, min(from+3, 31)}, {-rapid.Int64Range(1, 31).Draw(t, "last days"), -1}}
	}
	if maybe("dates") {
		day := around.Unix()/daySeconds + rapid.Int64Range(-3, 20).Draw(t, "date")
		s.dates = merge([]span{{day, day + 1}, {day + 4, day + 4}}, 1)
	}
	if maybe("years") {
		s.years = []span{{int64(around.Year()), int64(around.Year())}}
	}
	return s
}

// drawTime prefers the days on which some zone changes its clocks, and the turn of
// years, leap years beyond the tables of package time among them.
func drawTime(t *rapid.T) time.Time {
	at := rapid.SampledFrom([]string{
		"2026-03-08", "2026-11-01", "2027-03-28", "2027-10-31", "2027-04-04", "2027-10-03", "2027-02-07", "2027-03-14",
		"2027-12-31", "2028-02-28", "2028-12-30", "2011-12-28", "2040-12-30", "2044-12-30", "2052-03-09", "2027-04-24",
	}).Draw(t, "day")
	day, err := time.Parse(time.DateOnly, at)
	if err != nil {
		t.Fatal(err)
	}
	return day.Add(time.Duration(rapid.IntRange(-2*1440, 1440).Draw(t, "minute")) * time.Minute)
}

func TestScheduleAgainstEveryMinute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := drawTime(t)
		intervals := make([]Interval, rapid.IntRange(1, 3).Draw(t, "intervals"))
		for i := range intervals {
			intervals[i].Name = fmt.Sprint("i", i)
			for range rapid.IntRange(1, 2).Draw(t, "specs") {
				intervals[i].specs = append(intervals[i].specs, drawSpec(t, from))
			}
		}
		pick := func(label string) *Interval {
			return &intervals[rapid.IntRange(0, len(intervals)-1).Draw(t, label)]
		}
		s := &Schedule{Base: 1}
		for i := range rapid.IntRange(1, 3).Draw(t, "entries") {
			e := Entry{Name: fmt.Sprint("e", i), Rate: limiter.Rate(i + 2), During: []*Interval{pick("during")}}
			if rapid.Bool().Draw(t, "has except") {
				e.Except = []*Interval{pick("except")}
			}
			s.Entries = append(s.Entries, e)
		}
		checkMinutes(t, s, from, 4*1440)
	})
}

// checkMinutes holds At and Windows against the meaning at every minute.
func checkMinutes(t rapid.TB, s *Schedule, from time.Time, minutes int) {
	to := from.Add(time.Duration(minutes) * time.Minute)
	var got, want []string
	for begin, w := range s.Windows(from, to) {
		got = append(got, fmt.Sprint(begin.UTC().Format(time.RFC3339), " ", w.Because))
	}
	last := ""
	w := s.At(from)
	for at := from; at.Before(to); at = at.Add(time.Minute) {
		now := slowHolds(s, at)
		if now != last {
			want = append(want, fmt.Sprint(at.Format(time.RFC3339), " ", now))
		}
		last = now
		if !w.Until.IsZero() && !at.Before(w.Until) {
			if w.Because == now {
				t.Fatalf("At holds %q until %v, but it holds on", w.Because, w.Until)
			}
			w = s.At(at)
		}
		if w.Because != now {
			t.Fatalf("At holds %q until %v, but at %v it is %q", w.Because, w.Until, at, now)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("windows from %v (-every minute +Windows):\n%s", from, diff)
	}
}

// Each zone through years with a window around the hours in which clocks change:
// five of them and, where it skipped a day, 2011, or with FOREBAY_INTEGRATION unset
// two months of each, other ones in every run.
func TestWindowsThroughTheYears(t *testing.T) {
	for _, zone := range hardZones {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			set := parse(t, fmt.Sprintf(`
version: 1
time_intervals:
  - name: night
    intervals:
      - { times: [{ start_time: "01:30", end_time: "02:30" }, { start_time: "23:30", end_time: "24:00" }], location: %[1]s }
  - name: month-end
    intervals: [{ days_of_month: ["-2:-1"], months: ["february", "march:4"], location: %[1]s }]
streams: [{ name: s }]
sinks: [{ name: k, http: { urls: ["http://localhost"] } }]
drains:
  - name: d
    stream: s
    sink: k
    schedule:
      base: 1
      entries:
        - { name: month-end, during: [month-end], except: [night], rate: 3 }
        - { name: night, during: [night], rate: 2 }
`, zone))
			for _, from := range yearsOf(zone) {
				if os.Getenv("FOREBAY_INTEGRATION") != "" {
					checkMinutes(t, &set.Drains[0].Schedule, from, 366*1440)
					continue
				}
				from = from.AddDate(0, 0, rand.IntN(366-60))
				t.Logf("from %v", from)
				checkMinutes(t, &set.Drains[0].Schedule, from, 60*1440)
			}
		})
	}
}

// yearsOf are the beginnings of the years that are looked at.
func yearsOf(zone string) (years []time.Time) {
	for year := 2026; year <= 2030; year++ {
		years = append(years, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	if zone == "Pacific/Apia" {
		years = append(years, time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	return years
}
