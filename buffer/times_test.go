package buffer_test

import (
	"path/filepath"
	"testing"
	"time"

	"forebay/buffer"
)

// What was rewritten keeps its times, and is found when it is late, over a crash too.
func TestTimesOutliveARewrite(t *testing.T) {
	const n = 200
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	for offset := range uint64(n) {
		m := noise(offset, 60_000)
		if offset%20 == 0 {
			m.DeliverAfter, m.Deadline = noon.Add(time.Hour), noon.Add(2*time.Hour+time.Duration(offset)*time.Second)
		}
		if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	own := func(now time.Time, want int, next time.Time) {
		t.Helper()
		got, at, err := e.ExpireOwn("mail", now, "")
		if err != nil || got != want || !at.Equal(next) {
			t.Errorf("ExpireOwn at %v: %d, next %v, %v; want %d, %v", now, got, at, err, want, next)
		}
	}
	own(noon, 0, noon.Add(2*time.Hour))
	finishBut(t, e, "mail", func(uint64) bool { return false })
	waitFor(t, "segments are sealed", func() bool { return sealedCount(e) >= 10 })
	rewriteAll(t, e)
	waitFor(t, "sparse segments go", func() bool { return sealedCount(e) <= 1 })
	own(noon.Add(2*time.Hour+10*time.Second), 1, noon.Add(2*time.Hour+20*time.Second))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	if ds, _, err := e.Take("mail", noon, 100); err != nil || len(ds) > 0 {
		t.Errorf("%d messages before their time, %v", len(ds), err)
	}
	own(noon.Add(2*time.Hour+50*time.Second), 2, noon.Add(2*time.Hour+60*time.Second))
	ds, _, err := e.Take("mail", noon.Add(3*time.Hour), 100)
	if err != nil || len(ds) != 7 || ds[0].Offset != 60 || !ds[0].Deadline.Equal(noon.Add(2*time.Hour+60*time.Second)) {
		t.Errorf("%d messages are left, %v", len(ds), err)
	}
	for _, d := range ds {
		e.Ack("mail", d.Offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
	}
	wantBalanced(t, e)
}
