package buffer_test

import (
	"slices"
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
