package buffer_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"forebay/buffer"
)

// TestClockIsSet: over an hour back, an hour forward and the end of summer time, what
// is taken keeps its order, is handed out at once, and its times never go back.
func TestClockIsSet(t *testing.T) {
	york, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	summer := time.Date(2027, 11, 7, 1, 59, 59, 0, york) // the next second is 01:00:00
	e := open(t, t.TempDir())
	configure(t, e, "mail")
	var at []time.Time
	for n, now := range []time.Time{summer, summer.Add(time.Second), summer.Add(-time.Hour), summer.Add(time.Hour), summer} {
		a, err := e.Append(t.Context(), "orders", now, []buffer.Message{noise(uint64(n), 100)})
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, a.At)
	}
	if !slices.IsSortedFunc(at, time.Time.Compare) || at[1].Sub(at[0]) != time.Second || at[4].Sub(at[0]) != time.Hour {
		t.Errorf("accepted at %v, want times that never go back", at)
	}
	ds, _, err := e.Take("mail", summer.Add(-time.Hour), 10)
	if err != nil || len(ds) != 5 {
		t.Fatalf("an hour back %d of 5 are handed out, %v", len(ds), err)
	}
	for n, d := range ds {
		if d.Offset != uint64(n) || !d.AcceptedAt.Equal(at[n]) {
			t.Errorf("handed out as number %d: message %d of %v", n, d.Offset, d.AcceptedAt)
		}
	}
	due := summer.Add(time.Second)
	e.Release("mail", 0, buffer.Retry{Due: due, Tries: buffer.Tries{Attempts: 1}})
	if ds, next, err := e.Take("mail", summer.Add(-time.Hour), 1); err != nil || len(ds) != 0 || !next.Equal(due) {
		t.Errorf("before the retry is due: %d, next %v, %v; want %v", len(ds), next, err, due)
	}
	if ds, _, err := e.Take("mail", summer.Add(time.Hour), 1); err != nil || len(ds) != 1 {
		t.Errorf("an hour forward the retry is not handed out: %d, %v", len(ds), err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestClockIsSetBackOverAStart: what is scheduled waits as long as it was asked to,
// whatever the clock shows after a stop or a crash.
func TestClockIsSetBackOverAStart(t *testing.T) {
	const soon, late = 10 * time.Minute, 50 * time.Minute
	for name, tc := range map[string]struct {
		crash   bool
		back    time.Duration
		waits   time.Duration // until the first is due
		another bool          // start, before anybody says what time it is
	}{
		"after a stop":          {back: time.Hour, waits: soon},
		"after a crash":         {crash: true, back: time.Hour, waits: soon},
		"after two crashes":     {crash: true, back: time.Hour, waits: soon, another: true},
		"by less than a minute": {back: time.Minute - 1, waits: soon + time.Minute - 1},
		"not at all":            {crash: true, waits: soon},
		"forward":               {back: -5 * time.Minute, waits: soon - 5*time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e := open(t, dir)
			configure(t, e, "mail")
			fill(t, e, 0, 3, 100)
			if ds, _, err := e.Take("mail", noon, 3); err != nil || len(ds) != 3 {
				t.Fatalf("take = %d messages, %v", len(ds), err)
			}
			for offset, wait := range []time.Duration{late, soon} {
				e.Release("mail", uint64(offset), buffer.Retry{Due: noon.Add(wait), Tries: buffer.Tries{Attempts: 1}})
			}
			e.Ack("mail", 2, buffer.Result{At: noon, Attempts: 1, Status: 200})
			again := func() {
				if err := e.Settled(); err != nil {
					t.Fatal(err)
				}
				if tc.crash {
					dir = crashed(t, e, dir)
				} else if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				e = open(t, dir)
				configure(t, e, "mail")
			}
			again()
			if tc.another {
				again()
			}
			now := noon.Add(-tc.back)
			wantDue(t, e, now, now.Add(tc.waits), 1)
			wantDue(t, e, now.Add(tc.waits), now.Add(tc.waits+late-soon), 0)
		})
	}
}

// wantDue takes just before a message is due, if that is not past, and then.
func wantDue(t *testing.T, e *buffer.Engine, now, due time.Time, offset uint64) {
	t.Helper()
	if due.After(now) {
		ds, next, err := e.Take("mail", now, 1)
		if err != nil || len(ds) != 0 || !next.Equal(due) {
			t.Errorf("at %v: %d are handed out, next %v, %v; want none, %v", now, len(ds), next, err, due)
		}
	}
	if ds, _, err := e.Take("mail", due, 1); err != nil || len(ds) != 1 || ds[0].Offset != offset {
		t.Errorf("at %v: %+v are handed out, %v; want %d", due, ds, err, offset)
	}
}

// TestWaitsGoByTheMonotonicClock: once a caller has said what time it is, nobody can
// change how long a message waits that was scheduled before the start.
func TestWaitsGoByTheMonotonicClock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, 1, 100)
	now := time.Now()
	if ds, _, err := e.Take("mail", now, 1); err != nil || len(ds) != 1 {
		t.Fatalf("take = %d messages, %v", len(ds), err)
	}
	e.Release("mail", 0, buffer.Retry{Due: now.Add(time.Hour), Tries: buffer.Tries{Attempts: 1}})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	_, next, err := e.Take("mail", time.Now(), 1)
	if err != nil || !strings.Contains(next.String(), "m=") || next.Sub(now).Round(time.Second) != time.Hour {
		t.Errorf("due at %v, %v; want an hour after %v by the monotonic clock", next, err, now)
	}
}
