package ingress

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// timed is the fixture with a route on which callers may say when. Messages may wait
// for 72 h, the drain takes 10 h.
func timed(t *testing.T) *fixture {
	return newFixture(t, func(c *Config) {
		set := c.Policy()
		set.Streams[0].Retention, set.Drains[0].Deadline = 72*time.Hour, policies.Deadline{MaxDelay: 10 * time.Hour}
		set.Routes[0].Timing = true
	})
}

func TestTiming(t *testing.T) {
	rfc := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }
	tests := []struct {
		name            string
		header          []string
		after, deadline time.Duration // from now; 0: none
	}{
		{"neither", nil, 0, 0},
		{"seconds", []string{"Forebay-Deliver-After: 60", "Forebay-Deadline: 3600"}, time.Minute, time.Hour},
		{"times", []string{"Forebay-Deliver-After: " + rfc(time.Minute), "Forebay-Deadline: " + rfc(time.Hour)}, time.Minute, time.Hour},
		{"another zone", []string{"Forebay-Deadline: " + time.Now().Add(time.Hour).In(time.FixedZone("", 8*3600)).Format(time.RFC3339Nano)}, 0, time.Hour},
		{"a deadline beyond max_delay", []string{"Forebay-Deadline: 99999"}, 0, 10 * time.Hour},
		{"a time beyond max_delay", []string{"Forebay-Deliver-After: 99999"}, 9 * time.Hour, 0},
		{"both beyond max_delay", []string{"Forebay-Deliver-After: 99998", "Forebay-Deadline: 99999"}, 9 * time.Hour, 10 * time.Hour},
		{"a time in the past", []string{"Forebay-Deliver-After: " + rfc(-time.Minute)}, 0, 0},
		{"now", []string{"Forebay-Deliver-After: 0"}, 0, 0},
		{"more seconds than there are", []string{"Forebay-Deliver-After: 4294967295"}, 9 * time.Hour, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := timed(t)
			resp := f.do("POST", "/v1/orders", "{}", tt.header...)
			if resp.StatusCode != http.StatusAccepted {
				t.Fatalf("status %d", resp.StatusCode)
			}
			receipt, m := decode[Receipt](t, resp), f.buf.messages[0]
			near := func(what string, got time.Time, want time.Duration) {
				if want == 0 && !got.IsZero() || want != 0 && (time.Until(got)-want).Abs() > 10*time.Second {
					t.Errorf("%s is %v from now, want %v", what, time.Until(got), want)
				}
			}
			near("deliver after", m.DeliverAfter, tt.after)
			near("deadline", m.Deadline, tt.deadline)
			if tt.deadline == 0 {
				tt.deadline = 10 * time.Hour // the drain's
			}
			near("the receipt's deadline", receipt.Deadline.Time, tt.deadline)
			state := buffer.Queued
			if tt.after > 0 {
				state = buffer.Scheduled
				near("next_attempt_at", receipt.Drains[0].NextAttemptAt.Time, tt.after)
				near("eta", receipt.ETA.Time, tt.after)
			}
			if receipt.State != state {
				t.Errorf("state %s, want %s", receipt.State, state)
			}
			for _, field := range m.Header {
				if strings.HasPrefix(field.Name, "Forebay-") {
					t.Errorf("%s is passed on", field.Name)
				}
			}
		})
	}
}

func TestTimingMistakes(t *testing.T) {
	for header, want := range map[string]string{
		"Forebay-Deliver-After: soon":                       "Forebay-Deliver-After is neither whole seconds",
		"Forebay-Deliver-After: -5":                         "Forebay-Deliver-After is neither whole seconds",
		"Forebay-Deliver-After: 1.5":                        "Forebay-Deliver-After is neither whole seconds",
		"Forebay-Deliver-After:":                            "Forebay-Deliver-After is neither whole seconds",
		"Forebay-Deadline: 2027-11-11":                      "Forebay-Deadline is neither whole seconds",
		"Forebay-Deadline: 99999999999999999999":            "Forebay-Deadline is neither whole seconds",
		"Forebay-Deadline: 0":                               "Forebay-Deadline is in the past",
		"Forebay-Deadline: 2020-01-01T00:00:00Z":            "Forebay-Deadline is in the past",
		"Forebay-Deadline: 5|Forebay-Deadline: 6":           "Forebay-Deadline is given more than once",
		"Forebay-Deliver-After: 60|Forebay-Deadline: 60":    "Forebay-Deliver-After is not before Forebay-Deadline",
		"Forebay-Deliver-After: 99999|Forebay-Deadline: 60": "Forebay-Deliver-After is not before Forebay-Deadline",
	} {
		f := timed(t)
		r := request(t.Context(), "POST", "/v1/orders", "{}")
		for field := range strings.SplitSeq(header, "|") {
			name, value, _ := strings.Cut(field, ":")
			r.Header.Add(name, strings.TrimSpace(value))
		}
		resp := f.send(r)
		p := decode[problemDocument](t, resp)
		if resp.StatusCode != http.StatusBadRequest || !strings.HasPrefix(p.Detail, want) || len(f.buf.messages) > 0 {
			t.Errorf("%s: status %d, detail %q; want 400, %q", header, resp.StatusCode, p.Detail, want)
		}
	}
}

// Where it is not allowed, what callers say is dropped, as nonsense is.
func TestTimingIsDropped(t *testing.T) {
	f := newFixture(t)
	resp := f.do("POST", "/v1/orders", "{}", "Forebay-Deliver-After: 60", "Forebay-Deadline: nonsense")
	if m := f.buf.messages[0]; resp.StatusCode != http.StatusAccepted || !m.DeliverAfter.IsZero() || !m.Deadline.IsZero() {
		t.Errorf("status %d, %+v", resp.StatusCode, m)
	}
}

// All messages of a batch have its times.
func TestTimingOfABatch(t *testing.T) {
	f := timed(t)
	f.Handler.cfg.Policy().Routes[0].Split = policies.SplitNDJSON
	resp := f.do("POST", "/v1/orders", "{}\n{}\n", "Forebay-Deliver-After: 60", "Forebay-Deadline: 3600")
	if resp.StatusCode != http.StatusAccepted || len(f.buf.messages) != 2 {
		t.Fatalf("status %d, %d messages", resp.StatusCode, len(f.buf.messages))
	}
	for i, m := range f.buf.messages {
		if m.DeliverAfter.IsZero() || m.Deadline.IsZero() {
			t.Errorf("message %d has no times: %+v", i, m)
		}
	}
}
