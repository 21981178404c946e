package policies

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"forebay/limiter"
)

// DrainWindow is a stretch of a drain's schedule with one rate, or of a ramp, as
// `forebay windows` and GET /api/v1/windows print it.
type DrainWindow struct {
	Drain    string
	From, To time.Time
	Rate     limiter.Rate // never more; what a ramp leads to
	// RateFrom and RateTo are the rates at its ends; between them it goes straight.
	RateFrom, RateTo limiter.Rate
	Because          string // the entry's name, or "base"
	// Capacity is the whole messages that fit: at the rate, inside the sink's budget.
	// It is nil where neither is limited.
	Capacity *float64
	Note     string // of days on which clocks change; mostly empty
}

// maxDrainWindows bounds one answer of Windows.
const maxDrainWindows = 100_000

// Windows returns the windows of a drain from one time to another, in order; those
// of all drains, one after the other, for the name "". It is an error where no
// drain has that name, or where there would be over 100,000 windows.
func (s *Set) Windows(drain string, from, to time.Time) ([]DrainWindow, error) {
	var out []DrainWindow
	for i := range s.Drains {
		d := &s.Drains[i]
		if drain != "" && d.Name != drain {
			continue
		}
		budget := limiter.Unlimited
		if sink := s.Sink(d.Sink); sink != nil {
			budget = sink.Budget.Limit.Rate
		}
		changes := d.Schedule.clockChanges(from, to)
		for at, w := range d.Schedule.Windows(from, to) {
			for at, l := range d.Schedule.Lines(at, w) {
				if len(out) == maxDrainWindows {
					return nil, fmt.Errorf("over %d windows from %s to %s: ask for less time or one drain",
						maxDrainWindows, from.UTC().Format(time.DateOnly), to.UTC().Format(time.DateOnly))
				}
				out = append(out, DrainWindow{
					Drain: d.Name, From: at, To: l.Until, Rate: w.Rate, RateFrom: l.From, RateTo: l.To, Because: w.Because,
					Capacity: l.capacity(budget, l.Until.Sub(at)), Note: noteOf(changes, at, l.Until),
				})
			}
		}
	}
	if drain != "" && s.Drain(drain) == nil {
		return nil, fmt.Errorf("no drain is named %s", quote(drain))
	}
	return out, nil
}

// capacity is whole messages; a rate such as 100/h is no exact binary number.
func (l Line) capacity(budget limiter.Rate, d time.Duration) *float64 {
	if min(max(l.From, l.To), budget) == limiter.Unlimited {
		return nil
	}
	fits := math.Floor(under(float64(l.From), float64(l.To), float64(budget))*d.Seconds() + 1e-6)
	return &fits
}

// MarshalJSON writes times in RFC 3339 with milliseconds in UTC, an unlimited rate
// as "unlimited" and an unlimited capacity as null.
func (w DrainWindow) MarshalJSON() ([]byte, error) {
	rate := func(r limiter.Rate) any {
		if r == limiter.Unlimited {
			return r.String()
		}
		return float64(r)
	}
	at := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
	return json.Marshal(struct {
		Drain    string   `json:"drain"`
		From     string   `json:"from"`
		To       string   `json:"to"`
		Rate     any      `json:"rate"`
		RateFrom any      `json:"rate_from"`
		RateTo   any      `json:"rate_to"`
		Because  string   `json:"because"`
		Capacity *float64 `json:"capacity"`
		Note     string   `json:"note,omitempty"`
	}{w.Drain, at(w.From), at(w.To), rate(w.Rate), rate(w.RateFrom), rate(w.RateTo), w.Because, w.Capacity, w.Note})
}
