package policies

import (
	"fmt"
	"testing"
	"time"
)

func TestIntervalGrammar(t *testing.T) {
	tests := []struct {
		spec   string
		active []string
		not    []string
	}{
		{`times: [{ start_time: "22:00", end_time: "24:00" }]`, []string{"2027-03-01T22:00", "2027-03-01T23:59"}, []string{"2027-03-02T00:00", "2027-03-01T21:59"}},
		{`times: [{ start_time: 09:00, end_time: 17:00 }]`, []string{"2027-03-01T09:00", "2027-03-01T16:59"}, []string{"2027-03-01T17:00"}},
		{`weekdays: ["Monday:friday", sunday]`, []string{"2027-03-01T00:00", "2027-03-05T23:59", "2027-03-07T12:00"}, []string{"2027-03-06T12:00"}},
		{`days_of_month: [1, "15:16", "-1"]`, []string{"2027-02-01T00:00", "2027-02-15T00:00", "2027-02-16T00:00", "2027-02-28T00:00", "2028-02-29T00:00"}, []string{"2027-02-17T00:00", "2028-02-28T00:00"}},
		{`days_of_month: ["-3:-1"]`, []string{"2027-04-28T00:00", "2027-04-30T00:00"}, []string{"2027-04-27T00:00"}},
		{`days_of_month: ["29:31"]`, []string{"2027-01-31T00:00", "2028-02-29T00:00"}, []string{"2027-02-28T00:00", "2027-03-01T00:00"}},
		{`days_of_month: ["2:-2"]`, []string{"2027-02-02T00:00", "2027-02-27T00:00"}, []string{"2027-02-01T00:00", "2027-02-28T00:00"}},
		{`months: ["february", "11:december"]`, []string{"2027-02-01T00:00", "2027-11-01T00:00", "2027-12-31T23:59"}, []string{"2027-03-01T00:00", "2027-01-01T00:00"}},
		{`years: [2027, "2030:2031"]`, []string{"2027-01-01T00:00", "2031-12-31T23:59"}, []string{"2028-01-01T00:00", "2032-01-01T00:00"}},
		{`dates: [2027-11-10, "2027-12-12:2027-12-13"]`, []string{"2027-11-10T00:00", "2027-12-13T23:59"}, []string{"2027-11-11T00:00", "2027-12-14T00:00"}},
		{`{ dates: ["2027-03-01"], location: Asia/Kathmandu }`, []string{"2027-02-28T18:15", "2027-03-01T18:14"}, []string{"2027-02-28T18:14", "2027-03-01T18:15"}},
		{`{ weekdays: [monday], months: [march], times: [{ start_time: "08:00", end_time: "09:00" }] }`, []string{"2027-03-01T08:30"}, []string{"2027-03-02T08:30", "2027-03-01T09:30", "2027-04-05T12:30"}},
	}
	for _, tt := range tests {
		t.Run(tt.spec, func(t *testing.T) {
			spec := tt.spec
			if spec[0] != '{' {
				spec = "{ " + spec + " }"
			}
			set := parse(t, fmt.Sprintf("version: 1\ntime_intervals: [{ name: x, intervals: [%s] }]", spec))
			check := func(at string, want bool) {
				t.Helper()
				when, err := time.Parse("2006-01-02T15:04", at)
				if err != nil {
					t.Fatal(err)
				}
				if got := set.Interval("x").Active(when); got != want {
					t.Errorf("Active(%s) = %v, want %v", at, got, want)
				}
			}
			for _, at := range tt.active {
				check(at, true)
			}
			for _, at := range tt.not {
				check(at, false)
			}
		})
	}
}

func TestNextChange(t *testing.T) {
	set := parse(t, `
version: 1
time_intervals:
  - name: x
    intervals:
      - { times: [{ start_time: "22:00", end_time: "24:00" }], weekdays: [monday], location: Europe/Berlin }
      - { times: [{ start_time: "00:00", end_time: "06:00" }], weekdays: [tuesday], location: Europe/Berlin }
`)
	x := set.Interval("x")
	opens := time.Date(2027, 3, 1, 21, 0, 0, 0, time.UTC)
	closes := time.Date(2027, 3, 2, 5, 0, 0, 0, time.UTC)
	if got := x.NextChange(now); !got.Equal(opens) {
		t.Errorf("NextChange(%v) = %v, want %v", now, got, opens)
	}
	if got := x.NextChange(opens); !got.Equal(closes) {
		t.Errorf("NextChange(%v) = %v, want %v: the night is one stretch", opens, got, closes)
	}
	if got, want := x.NextChange(closes), opens.AddDate(0, 0, 7); !got.Equal(want) {
		t.Errorf("NextChange(%v) = %v, want %v", closes, got, want)
	}
}
