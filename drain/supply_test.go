package drain

import (
	"testing"
	"time"
)

func TestSupply(t *testing.T) {
	now := start()
	s := newSupply(Batch{})
	ask := func(step string, now time.Time, want int, again time.Time) {
		t.Helper()
		if got, at := s.ask(now); got != want || !at.Equal(again) {
			t.Errorf("%s: ask = %d, %v; want %d, %v", step, got, at, want, again)
		}
	}
	ask("new", now, 1, time.Time{})
	for _, want := range []int{2, 4, 8, 16, 32, 64, 128, 256, 256} {
		asked, _ := s.ask(now)
		s.took(asked, asked, time.Time{})
		ask("after a full take", now, want, time.Time{})
	}
	s.took(256, 255, time.Time{})
	ask("empty", now, 0, time.Time{})
	s.woken()
	ask("woken", now, 1, time.Time{})
	due := now.Add(time.Minute)
	s.took(1, 0, due)
	ask("empty until something is due", now, 0, due)
	ask("due", due, 1, time.Time{})
	s.park(now, time.Time{})
	s.woken()
	ask("parked", now, 0, now.Add(retakeEvery))
	ask("parked no more", now.Add(retakeEvery), 1, time.Time{})
	s.park(now, due)
	ask("parked until something is due", now.Add(retakeEvery), 0, due)
}
