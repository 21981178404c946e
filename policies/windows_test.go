package policies

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// nightly has a window around the hours in which clocks change.
func nightly(t *testing.T, zone string) *Set {
	t.Helper()
	return parse(t, fmt.Sprintf(`
version: 1
time_intervals:
  - name: night
    intervals: [{ times: [{ start_time: "01:30", end_time: "03:00" }, { start_time: "23:15", end_time: "24:00" }], location: %[1]s }]
  - name: sunday
    intervals: [{ weekdays: [sunday], times: [{ start_time: "01:45", end_time: "02:15" }], location: %[1]s }]
streams: [{ name: s }]
sinks: [{ name: k, http: { urls: ["http://localhost"] }, budget: { rate: 50/s } }, { name: free, http: { urls: ["http://localhost"] } }]
drains:
  - name: d
    stream: s
    sink: k
    schedule:
      base: 100/h
      entries:
        - { name: pause, during: [sunday], rate: 0 }
        - { name: night, during: [night], rate: 600/s }
  - { name: other, stream: s, sink: free, schedule: { base: unlimited } }
`, zone))
}

// The windows of each zone in 2027, and what fits into them, are a count of their
// minutes on the days on which clocks change, which are told, and on every tenth
// other; TestWindowsThroughTheYears looks at all of them.
func TestWindowsEqualEveryMinute(t *testing.T) {
	tests := map[string][]string{
		"America/New_York": {
			"23-hour day in America/New_York: 02:00–03:00 does not happen",
			"25-hour day in America/New_York: 01:00–02:00 happens twice",
		},
		"Europe/Berlin": {
			"23-hour day in Europe/Berlin: 02:00–03:00 does not happen",
			"25-hour day in Europe/Berlin: 02:00–03:00 happens twice",
		},
		"Australia/Lord_Howe": {
			"24.5-hour day in Australia/Lord_Howe: 01:30–02:00 happens twice",
			"23.5-hour day in Australia/Lord_Howe: 02:00–02:30 does not happen",
		},
		"Asia/Kolkata": nil,
		"Africa/Casablanca": {
			"25-hour day in Africa/Casablanca: 02:00–03:00 happens twice",
			"23-hour day in Africa/Casablanca: 02:00–03:00 does not happen",
		},
		"Africa/Cairo": {
			"23-hour day in Africa/Cairo: 00:00–01:00 does not happen",
			"25-hour day in Africa/Cairo: 23:00–00:00 happens twice",
		},
	}
	from := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	to := from.AddDate(1, 0, 0)
	for zone, notes := range tests {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			set := nightly(t, zone)
			windows, err := set.Windows("d", from, to)
			if err != nil {
				t.Fatal(err)
			}
			var told []string
			end := from
			for i, w := range windows {
				if !w.From.Equal(end) {
					t.Fatalf("a window begins at %v, want %v", w.From, end)
				}
				if end = w.To; w.Note == "" && i%10 > 0 {
					continue
				}
				minutes := 0.0
				for at := w.From; at.Before(w.To); at = at.Add(time.Minute) {
					if now := slowHolds(&set.Drains[0].Schedule, at); now != w.Because {
						t.Fatalf("at %v %s holds, not %s", at, now, w.Because)
					}
					minutes++
				}
				// The sink takes 50/s of the 600/s.
				perMinute := map[string]float64{"night": 50 * 60, "pause": 0, "base": 100.0 / 60}[w.Because]
				if want := float64(int(perMinute*minutes + 1e-6)); w.Capacity == nil || *w.Capacity != want {
					t.Errorf("%+v holds %v messages, want %v", w, w.Capacity, want)
				}
				if w.Note != "" && (len(told) == 0 || told[len(told)-1] != w.Note) {
					told = append(told, w.Note)
				}
			}
			if !end.Equal(to) {
				t.Errorf("the last window ends at %v, want %v", end, to)
			}
			if diff := cmp.Diff(notes, told); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWindowsAsJSON(t *testing.T) {
	set := nightly(t, "Europe/Berlin")
	from := time.Date(2027, 10, 31, 0, 15, 0, 0, time.UTC)
	windows, err := set.Windows("", from, from.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(windows)
	if err != nil {
		t.Fatal(err)
	}
	note := `,"note":"25-hour day in Europe/Berlin: 02:00–03:00 happens twice"`
	window := func(from, to, rate, because, capacity, note string) string {
		return fmt.Sprintf(`{"drain":"d","from":"2027-10-31T%s:00.000Z","to":"2027-10-31T%s:00.000Z","rate":%[3]s,"rate_from":%[3]s,"rate_to":%[3]s,"because":%[4]q,"capacity":%[5]s%[6]s}`,
			from, to, rate, because, capacity, note)
	}
	// 02:15 to 03:00 in summer time, then 02:00 to 02:15 again.
	want := []string{
		window("00:15", "01:00", "600", "night", "135000", note),
		window("01:00", "01:15", "0", "pause", "0", note),
		strings.Replace(window("00:15", "01:15", `"unlimited"`, "base", "null", ""), `"d"`, `"other"`, 1),
	}
	if diff := cmp.Diff("["+strings.Join(want, ",")+"]", string(got)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestWindowsErrors(t *testing.T) {
	set := nightly(t, "UTC")
	if _, err := set.Windows("nobody", now, now.Add(time.Hour)); err == nil || err.Error() != `no drain is named "nobody"` {
		t.Errorf("unknown drain: %v", err)
	}
	if _, err := set.Windows("d", now, now.AddDate(200, 0, 0)); err == nil || !strings.HasPrefix(err.Error(), "over 100000 windows from 2027-03-01 to 2227-03-01") {
		t.Errorf("200 years: %v", err)
	}
	if windows, err := set.Windows("d", now, now); err != nil || len(windows) != 0 {
		t.Errorf("no time: %v, %v", windows, err)
	}
	far, err := set.Windows("other", now, now.AddDate(300, 0, 0))
	if err != nil || len(far) != 1 {
		t.Errorf("300 years without an entry: %d windows, %v", len(far), err)
	}
}

func TestNotesAreBounded(t *testing.T) {
	set := parse(t, `
version: 1
time_intervals: [{ name: past, intervals: [{ dates: ["2020-01-01"], location: Europe/Berlin }] }]
streams: [{ name: s }]
sinks: [{ name: k, http: { urls: ["http://localhost"] } }]
drains: [{ name: d, stream: s, sink: k, schedule: { base: 1, entries: [{ name: e, during: [past], rate: 2 }] } }]
`)
	windows, err := set.Windows("d", now, now.AddDate(20, 0, 0))
	if err != nil || len(windows) != 1 {
		t.Fatalf("%d windows, %v; want 1", len(windows), err)
	}
	if n := strings.Count(windows[0].Note, ";"); n != maxNotes || !strings.HasSuffix(windows[0].Note, "; …") {
		t.Errorf("note = %q, want %d days and a sign that there are more", windows[0].Note, maxNotes)
	}
}
