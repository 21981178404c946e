package policies

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestClockChangeDays(t *testing.T) {
	tests := []struct {
		name, zone, start, end string
		from                   string
		want                   []string
	}{
		{
			"skipped hour: no window", "America/New_York", "02:00", "03:00", "2027-03-13T12:00:00Z",
			[]string{"2027-03-13T12:00:00Z base", "2027-03-15T06:00:00Z window", "2027-03-15T07:00:00Z base"},
		},
		{
			"repeated hour: twice", "America/New_York", "01:15", "01:45", "2027-11-06T12:00:00Z",
			[]string{
				"2027-11-06T12:00:00Z base",
				"2027-11-07T05:15:00Z window", "2027-11-07T05:45:00Z base",
				"2027-11-07T06:15:00Z window", "2027-11-07T06:45:00Z base",
				"2027-11-08T06:15:00Z window", "2027-11-08T06:45:00Z base",
			},
		},
		{
			"half an hour back", "Australia/Lord_Howe", "01:30", "02:00", "2027-04-03T12:00:00Z",
			[]string{
				"2027-04-03T12:00:00Z base",
				// 01:30 to 02:00 at +11:00, then the same again at +10:30.
				"2027-04-03T14:30:00Z window", "2027-04-03T15:30:00Z base",
				"2027-04-04T15:00:00Z window", "2027-04-04T15:30:00Z base",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			loc, err := time.LoadLocation(tt.zone)
			if err != nil {
				t.Fatal(err)
			}
			from, err := time.Parse(time.RFC3339, tt.from)
			if err != nil {
				t.Fatal(err)
			}
			iv := &Interval{specs: []spec{{loc: loc, times: []span{{clockSeconds(tt.start), clockSeconds(tt.end)}}}}}
			s := &Schedule{Entries: []Entry{{Name: "window", During: []*Interval{iv}}}}
			var got []string
			for begin, w := range s.Windows(from, from.Add(48*time.Hour)) {
				got = append(got, begin.Format(time.RFC3339)+" "+w.Because)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("windows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAt(t *testing.T) {
	set, mistakes := parseFile(t, "examples/off-peak.yaml")
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	s := &set.Drains[0].Schedule
	shanghai := time.FixedZone("", 8*3600)
	at := func(month time.Month, day, hour, minute int) time.Time {
		return time.Date(2027, month, day, hour, minute, 0, 0, shanghai)
	}
	tests := []struct {
		at   time.Time
		want Window
	}{
		{at(3, 1, 12, 0), Window{Rate: 120, Because: "base", Until: at(3, 2, 0, 30)}},
		{at(3, 2, 0, 30), Window{Rate: 600, Because: "catch up", Until: at(3, 2, 6, 30)}},
		{at(3, 2, 0, 30).Add(-time.Nanosecond), Window{Rate: 120, Because: "base", Until: at(3, 2, 0, 30)}},
		{at(3, 7, 1, 0), Window{Rate: 600, Because: "catch up", Until: at(3, 7, 2, 0)}},
		{at(3, 7, 3, 0), Window{Rate: 0, Because: "maintenance", Until: at(3, 7, 4, 0)}},
		// The sale is two specs that meet at midnight: one window.
		{at(11, 10, 22, 0), Window{Rate: 40, Because: "protect the sale", Until: at(11, 11, 3, 0)}},
	}
	for _, tt := range tests {
		got := s.At(tt.at)
		if got.Rate != tt.want.Rate || got.Because != tt.want.Because || !got.Until.Equal(tt.want.Until) {
			t.Errorf("At(%v) = %+v, want %+v", tt.at, got, tt.want)
		}
	}
}

func TestHorizon(t *testing.T) {
	loc := time.UTC
	allDay := []span{{0, daySeconds}}
	day := func(y int, m time.Month, d int) int64 { return time.Date(y, m, d, 0, 0, 0, 0, loc).Unix() / daySeconds }
	past := &Interval{specs: []spec{{loc: loc, times: allDay, dates: []span{{day(2020, 1, 1), day(2020, 1, 2)}}}}}
	far := &Interval{specs: []spec{{loc: loc, times: allDay, dates: []span{{day(2029, 1, 1), day(2029, 1, 1)}}}}}
	always := &Interval{specs: []spec{{loc: loc, times: allDay}}}
	halves := &Interval{specs: []spec{
		{loc: loc, times: []span{{0, daySeconds / 2}}},
		{loc: loc, times: []span{{daySeconds / 2, daySeconds}}},
	}}
	for name, iv := range map[string]*Interval{"past": past, "far": far, "always": always, "halves": halves} {
		if got := iv.NextChange(now); !got.IsZero() {
			t.Errorf("%s: NextChange = %v, want none within the horizon", name, got)
		}
	}
	near := time.Date(2028, 12, 1, 0, 0, 0, 0, loc)
	if got, want := far.NextChange(near), time.Date(2029, 1, 1, 0, 0, 0, 0, loc); !got.Equal(want) {
		t.Errorf("NextChange(%v) = %v, want %v", near, got, want)
	}

	s := &Schedule{Base: 1, Entries: []Entry{
		{Name: "hidden", During: []*Interval{halves}, Except: []*Interval{always}, Rate: 2},
		{Name: "far", During: []*Interval{far}, Rate: 3},
	}}
	if w := s.At(now); w.Because != base || !w.Until.IsZero() {
		t.Errorf("At = %+v, want the base without an end", w)
	}
	var got []string
	for begin, w := range s.Windows(now, now.AddDate(5, 0, 0)) {
		got = append(got, fmt.Sprint(begin.Format(time.DateOnly), " ", w.Because, " until ", w.Until.Format(time.DateOnly)))
	}
	want := []string{
		"2027-03-01 base until 2029-01-01",
		"2029-01-01 far until 2029-01-02",
		"2029-01-02 base until 2032-03-01",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("windows past the horizon (-want +got):\n%s", diff)
	}
	for range s.Windows(now, now) {
		t.Error("Windows of no time yields a window")
	}
}

// Changes that decide nothing may end what At says, never what Windows says.
func TestManyIdleEdges(t *testing.T) {
	hours := &Interval{}
	for h := range int64(12) {
		hours.specs = append(hours.specs, spec{loc: time.UTC, times: []span{{h * 7200, h*7200 + 3600}}})
	}
	s := &Schedule{Entries: []Entry{{
		Name: "never", During: []*Interval{hours}, Except: []*Interval{{specs: []spec{{loc: time.UTC, times: []span{{0, daySeconds}}}}}},
	}}}
	w := s.At(now)
	if w.Because != base || w.Until.Before(now.Add(100*time.Hour)) {
		t.Errorf("At = %+v, want the base for 100 edges", w)
	}
	n := 0
	for range s.Windows(now, now.AddDate(1, 0, 0)) {
		n++
	}
	if n != 1 {
		t.Errorf("Windows yields %d windows, want 1", n)
	}
}

func TestAtDoesNotAllocate(t *testing.T) {
	set, mistakes := parseFile(t, "examples/off-peak.yaml")
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	if allocs := testing.AllocsPerRun(100, func() { set.Drains[0].Schedule.At(now) }); allocs > 0 {
		t.Errorf("At allocates %v times, want 0", allocs)
	}
}

func BenchmarkAt(b *testing.B) {
	data := `
version: 1
time_intervals:
  - name: night
    intervals: [{ times: [{ start_time: "00:30", end_time: "06:30" }], location: Europe/Berlin }]
  - name: sale
    intervals: [{ dates: ["2020-11-10:2020-11-12"], location: Asia/Shanghai }]
  - name: month-end
    intervals: [{ days_of_month: ["-1"], months: ["2"] }]
streams: [{ name: s }]
sinks: [{ name: k, http: { urls: ["http://localhost"] } }]
drains:
  - { name: base, stream: s, sink: k, schedule: { base: 5 } }
  - name: entries
    stream: s
    sink: k
    schedule:
      base: 5
      entries:
        - { name: sale, during: [sale], rate: 1 }
        - { name: month end, during: [month-end], rate: 2 }
        - { name: night, during: [night], rate: 3 }
  - { name: gone, stream: s, sink: k, schedule: { base: 5, entries: [{ name: sale, during: [sale], rate: 1 }] } }
`
	set, mistakes := Parse([]File{{Name: "bench.yaml", Data: []byte(strings.TrimSpace(data))}})
	if len(mistakes) > 0 {
		b.Fatal(mistakes)
	}
	for i := range set.Drains {
		b.Run(set.Drains[i].Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.Drains[i].Schedule.At(now)
			}
		})
	}
}
