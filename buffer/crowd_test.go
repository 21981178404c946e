package buffer

import (
	"errors"
	"testing"
	"time"
)

func TestLinger(t *testing.T) {
	now := time.Date(2026, 11, 26, 20, 0, 0, 0, time.UTC)
	tests := []struct {
		name     string
		answered int
		took     time.Duration
		pending  int
		later    time.Duration // than the end of the commit
		want     time.Duration
	}{
		{"one caller after another", 1, 2 * time.Millisecond, 1, 0, 0},
		{"few", crowdAt - 1, 2 * time.Millisecond, 1, 0, 0},
		{"a crowd that left one behind", crowdAt, 2 * time.Millisecond, 1, 0, 2 * time.Millisecond},
		{"it waits on", crowdAt, 2 * time.Millisecond, 5, 1500 * time.Microsecond, 500 * time.Microsecond},
		{"long enough", crowdAt, 2 * time.Millisecond, 5, 2 * time.Millisecond, 0},
		{"long ago", crowdAt, 2 * time.Millisecond, 1, time.Hour, 0},
		{"most are back", 100, 2 * time.Millisecond, 75, 0, 0},
		{"most are not", 100, 2 * time.Millisecond, 74, 0, 2 * time.Millisecond},
		{"a change alone", 100, 2 * time.Millisecond, 0, 0, 0},
		{"a slow disk", 100, time.Second, 1, 0, maxLinger},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &Engine{pending: newGroup()}
			e.crowd.answered(now, tt.answered, tt.took)
			e.pending.callers = tt.pending
			if got := e.linger(now.Add(tt.later)); got != tt.want {
				t.Errorf("linger = %v, want %v", got, tt.want)
			}
		})
	}
}

// Sources leave memory to callers: they can wait.
func TestSourcesLeaveMemory(t *testing.T) {
	e := newEngine(t)
	if err := e.Configure([]Stream{{Name: "orders", MaxMessageBytes: 1 << 20, DeadMaxBytes: 1 << 20}}); err != nil {
		t.Fatal(err)
	}
	hold := func(n int64) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.held += n
	}
	msgs := []Message{{Body: []byte("{}")}}
	mark := []Bookmark{{Part: "0", At: "1"}}
	hold(sourceMemory)
	if _, err := e.AppendFrom(t.Context(), "orders", time.Now(), msgs, "raw", mark); !errors.Is(err, ErrOverloaded) {
		t.Errorf("a source beside others: %v, want that it waits", err)
	}
	if _, err := e.Append(t.Context(), "orders", time.Now(), msgs); err != nil {
		t.Errorf("a caller beside sources: %v", err)
	}
	hold(-sourceMemory)
	if _, err := e.AppendFrom(t.Context(), "orders", time.Now(), msgs, "raw", mark); err != nil {
		t.Errorf("a source alone: %v", err)
	}
}
