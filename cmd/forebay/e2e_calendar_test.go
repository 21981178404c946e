package main_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// printedWindow is what forebay windows prints.
type printedWindow struct {
	From, To time.Time
	Rate     float64
	Because  string
	Capacity float64
	Note     string
}

// TestWindowsThrough2027 asks the program for all windows of a year in zones that
// change their clocks by an hour, by half an hour, the other way round and never,
// and compares each of its minutes, what fits, and which days are told of with a
// count that knows nothing but time.In.
func TestWindowsThrough2027(t *testing.T) {
	changes := map[string]int{
		"America/New_York": 2, "Europe/Berlin": 2, "Australia/Lord_Howe": 2, "Asia/Kolkata": 0, "Africa/Casablanca": 2,
	}
	for zone, want := range changes {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			loc, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			changed := changedDays(loc)
			if len(changed) != want {
				t.Fatalf("clocks change on %d days of 2027, want %d: %v", len(changed), want, changed)
			}
			end := yearBegin
			for _, w := range printedWindows(t, zone) {
				if !w.From.Equal(end) {
					t.Fatalf("a window begins at %v, want %v", w.From, end)
				}
				end = w.To
				wantMinutes(t, w, loc, changed)
			}
			if !end.Equal(yearBegin.AddDate(1, 0, 0)) {
				t.Errorf("the last window ends at %v", end)
			}
		})
	}
}

var yearBegin = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

func printedWindows(t *testing.T, zone string) []printedWindow {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	text := fmt.Sprintf(`version: 1
time_intervals:
  - name: night
    intervals: [{ times: [{ start_time: "01:15", end_time: "02:45" }, { start_time: "23:30", end_time: "24:00" }], location: %[1]s }]
  - name: books
    intervals: [{ days_of_month: ["-1"], months: ["march", "october:december"], location: %[1]s }]
  - name: sundays
    intervals: [{ weekdays: [sunday], times: [{ start_time: "01:45", end_time: "02:15" }], location: %[1]s }]
streams: [{ name: orders }]
sinks: [{ name: order-service, http: { urls: ["http://localhost"] }, budget: { rate: 50/s } }]
drains:
  - name: orders
    stream: orders
    sink: order-service
    schedule:
      base: 100/h
      entries:
        - { name: books are closed, during: [books], except: [night], rate: 0 }
        - { name: slowly, during: [sundays], rate: 7/m }
        - { name: night, during: [night], rate: 600/s }
routes: [{ name: r, match: {}, mode: buffer, stream: orders }]
`, zone)
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(forebay(t), "windows", "-o", "json", "--drain", "orders", "--from", "2027-01-01T00:00:00Z", "--for", "365d", policy)
	cmd.Env = cleanEnv()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	var windows []printedWindow
	if err := json.Unmarshal(out, &windows); err != nil {
		t.Fatal(err)
	}
	return windows
}

// wantMinutes judges every minute of a window by the clock on the wall.
func wantMinutes(t *testing.T, w printedWindow, loc *time.Location, changed map[string]bool) {
	t.Helper()
	minutes, told := 0.0, false
	for at := w.From; at.Before(w.To); at = at.Add(time.Minute) {
		if because := onTheWall(at.In(loc)); because != w.Because {
			t.Fatalf("at %v it is %s, not %s", at.In(loc), because, w.Because)
		}
		told = told || changed[at.In(loc).Format(time.DateOnly)]
		minutes++
	}
	rates := map[string][2]float64{ // a second as printed; a minute as the sink takes it
		"books are closed": {0, 0}, "slowly": {7.0 / 60, 7}, "night": {600, 3000}, "base": {100.0 / 3600, 100.0 / 60},
	}
	rate := rates[w.Because]
	if math.Abs(w.Rate-rate[0]) > 1e-9 || w.Capacity != math.Floor(rate[1]*minutes+1e-6) {
		t.Errorf("from %v, %s: rate %v and %v fit into %v minutes", w.From, w.Because, w.Rate, w.Capacity, minutes)
	}
	if told != (w.Note != "") {
		t.Errorf("from %v to %v: note %q; a day on which clocks change: %v", w.From, w.To, w.Note, told)
	}
}

// onTheWall is the entry that holds at a local time.
func onTheWall(local time.Time) string {
	clock := local.Hour()*60 + local.Minute()
	night := clock >= 75 && clock < 165 || clock >= 23*60+30
	books := local.AddDate(0, 0, 1).Day() == 1 && (local.Month() == time.March || local.Month() >= time.October)
	switch {
	case books && !night:
		return "books are closed"
	case local.Weekday() == time.Sunday && clock >= 105 && clock < 135:
		return "slowly"
	case night:
		return "night"
	}
	return "base"
}

// changedDays are the local days of 2027 that have not 1440 minutes.
func changedDays(loc *time.Location) map[string]bool {
	minutes := make(map[string]int)
	for at := yearBegin.AddDate(0, 0, -2); at.Before(yearBegin.AddDate(1, 0, 2)); at = at.Add(time.Minute) {
		minutes[at.In(loc).Format(time.DateOnly)]++
	}
	changed := make(map[string]bool)
	for day, n := range minutes {
		if n != 1440 && day > "2026-12-30" && day < "2028-01-02" {
			changed[day] = true
		}
	}
	return changed
}
