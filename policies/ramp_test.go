package policies

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"forebay/limiter"
)

const rampPolicy = `
version: 1
time_intervals:
  - name: night
    intervals: [{ times: [{ start_time: "01:00", end_time: "05:00" }] }]
  - name: maintenance
    intervals: [{ weekdays: [sunday], times: [{ start_time: "02:00", end_time: "02:15" }] }]
  - name: sale
    intervals: [{ dates: ["2027-03-03"], times: [{ start_time: "12:00", end_time: "13:00" }] }]
  - name: moment
    intervals: [{ dates: ["2027-03-03"], times: [{ start_time: "20:00", end_time: "20:20" }] }]
streams: [{ name: s }]
sinks: [{ name: k, http: { urls: ["http://localhost"] }, budget: { rate: 500/s } }]
drains:
  - name: d
    stream: s
    sink: k
    schedule:
      base: %s
      floor: 20/s
      entries:
        - { name: maintenance, during: [maintenance], rate: 0 }
        - { name: sale, during: [sale], rate: 10/s, ramp: 5m }
        - { name: moment, during: [moment], rate: 300/s, ramp: 20m }
        - { name: night, during: [night], rate: 600/s, ramp: 30m }
`

func rampSchedule(t *testing.T, base string) *Schedule {
	t.Helper()
	return &parse(t, fmt.Sprintf(rampPolicy, base)).Drains[0].Schedule
}

// What a schedule with ramps and a floor says over days, as `forebay windows` tells it.
func TestRampsAsWindows(t *testing.T) {
	tests := []struct {
		name, base, from string
		lasts            time.Duration
		want             string
	}{
		{
			"up from the base, and down to it", "120/s", "2027-03-02T00:00:00Z", 24 * time.Hour, `
00:00 base 120→120 432000
01:00 night 120→600 629250
01:30 night 600→600 5400000
04:30 night 600→120 629250
05:00 base 120→120 8208000`,
		},
		{
			"a freeze in between has no floor, a ramp out of it begins at the floor", "120/s", "2027-03-07T01:20:00Z", 90 * time.Minute, `
01:20 night 440→600 293250
01:30 night 600→20 542482
02:00 maintenance 0→0 0
02:15 night 20→600 542482
02:45 night 600→600 150000`,
		},
		{
			"never above its entry, and never below the floor", "120/s", "2027-03-03T11:30:00Z", 2 * time.Hour, `
11:30 base 120→120 216000
12:00 sale 20→20 72000
13:00 base 120→120 216000`,
		},
		{
			"too short for both", "100/s", "2027-03-03T19:50:00Z", 40 * time.Minute, `
19:50 base 100→100 60000
20:00 moment 100→200 90000
20:10 moment 200→100 90000
20:20 base 100→100 60000`,
		},
		{
			"base: 0 is no freeze", "0", "2027-03-02T23:00:00Z", 3 * time.Hour, `
23:00 base 20→20 144000
01:00 night 20→600 542482
01:30 night 600→600 900000`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from, err := time.Parse(time.RFC3339, tt.from)
			if err != nil {
				t.Fatal(err)
			}
			windows, err := parse(t, fmt.Sprintf(rampPolicy, tt.base)).Windows("d", from, from.Add(tt.lasts))
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, w := range windows {
				fmt.Fprintf(&got, "\n%s %s %.6g→%.6g %.0f", w.From.Format("15:04"), w.Because, float64(w.RateFrom), float64(w.RateTo), *w.Capacity)
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("windows (-want +got):\n%s", diff)
			}
		})
	}
}

// slowRate is the rate as the language says it, found by a walk over minutes.
func slowRate(s *Schedule, t time.Time) float64 {
	plain := func(name string) float64 {
		rate := s.Base
		for _, e := range s.Entries {
			if e.Name == name {
				if rate = e.Rate; rate == 0 {
					return 0
				}
			}
		}
		return float64(max(rate, s.Floor))
	}
	holds := slowHolds(s, t)
	rate, ramp := plain(holds), time.Duration(0)
	for _, e := range s.Entries {
		if e.Name == holds {
			ramp = e.Ramp
		}
	}
	minute := t.Truncate(time.Minute)
	at := rate
	near := func(edge time.Time, neighbour string) {
		end := max(plain(neighbour), float64(s.Floor))
		if away := t.Sub(edge).Abs(); away < ramp && end < rate {
			at = min(at, end+(rate-end)*away.Seconds()/ramp.Seconds())
		}
	}
	for back := minute; t.Sub(back) < ramp; back = back.Add(-time.Minute) {
		if before := slowHolds(s, back.Add(-time.Minute)); before != holds {
			near(back, before)
			break
		}
	}
	for on := minute.Add(time.Minute); on.Sub(t) < ramp; on = on.Add(time.Minute) {
		if after := slowHolds(s, on); after != holds {
			near(on, after)
			break
		}
	}
	return at
}

// drawRamps is a schedule of a few entries, with ramps, in hard zones.
func drawRamps(t *rapid.T, from time.Time) *Schedule {
	s := &Schedule{Base: limiter.Rate(rapid.IntRange(0, 20).Draw(t, "base")), Floor: limiter.Rate(rapid.IntRange(0, 5).Draw(t, "floor"))}
	for i := range rapid.IntRange(1, 3).Draw(t, "entries") {
		e := Entry{
			Name: fmt.Sprint("e", i), Rate: limiter.Rate(rapid.IntRange(0, 40).Draw(t, "rate")),
			Ramp:   time.Duration(rapid.IntRange(0, 200).Draw(t, "ramp")) * 20 * time.Second,
			During: []*Interval{{specs: []spec{drawSpec(t, from)}}},
		}
		if e.Rate == 0 {
			e.Ramp = 0
		}
		s.Entries = append(s.Entries, e)
	}
	return s
}

// The rate at every minute, and between them, is what the language says; lines lead
// from one to the next without a gap, and steps lose nothing.
func TestRampsAgainstEveryMinute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := drawTime(t)
		s := drawRamps(t, from)
		odd := time.Duration(rapid.IntRange(0, 59_999).Draw(t, "odd")) * time.Millisecond
		for at := from.Add(odd); at.Before(from.Add(26 * time.Hour)); at = at.Add(11 * time.Minute) {
			w := s.At(at)
			if got, want := float64(w.RateAt(at)), slowRate(s, at); math.Abs(got-want) > 1e-6 {
				t.Fatalf("at %v the rate of %s is %v, want %v", at, w.Because, got, want)
			}
		}
		to := from.Add(26 * time.Hour)
		for at, w := range s.Windows(from, to) {
			for begin, l := range s.Lines(at, w) {
				middle := begin.Add(l.Until.Sub(begin) / 2)
				if got, want := float64(l.From+l.To)/2, slowRate(s, middle); math.Abs(got-want) > 1e-6 {
					t.Fatalf("at %v, in the middle of a line from %v until %v, the rate is %v, want %v", middle, begin, l.Until, got, want)
				}
				checkSteps(t, s, begin, l)
			}
		}
	})
}

// checkSteps holds the steps of a line to its integral.
func checkSteps(t *rapid.T, s *Schedule, begin time.Time, l Line) {
	sum, n := 0.0, 0
	for at := begin; at.Before(l.Until); n++ {
		rate, until := s.At(at).Step(at, math.MaxInt)
		if cut := until.IsZero() || until.After(l.Until); cut && l.From != l.To {
			return
		} else if cut {
			until = l.Until
		}
		sum += float64(rate) * until.Sub(at).Seconds()
		line := under(float64(l.From), float64(l.From)+float64(l.To-l.From)*until.Sub(begin).Seconds()/l.Until.Sub(begin).Seconds(), math.Inf(1)) * until.Sub(begin).Seconds()
		if math.Abs(sum-line) > 1e-3 {
			t.Fatalf("steps from %v until %v let %v messages through, the ramp %v", begin, until, sum, line)
		}
		at = until
	}
	if l.From != l.To && n > maxSteps+1 {
		t.Fatalf("%d steps, want at most %d", n, maxSteps)
	}
}

func TestRampDoesNotAllocate(t *testing.T) {
	s := rampSchedule(t, "120/s")
	at := time.Date(2027, 3, 2, 1, 10, 0, 0, time.UTC)
	if allocs := testing.AllocsPerRun(100, func() {
		w := s.At(at)
		w.Step(at, math.MaxInt)
	}); allocs > 0 {
		t.Errorf("a step of a ramp allocates %v times, want 0", allocs)
	}
}
