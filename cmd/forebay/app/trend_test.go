package app

import (
	"testing"
	"time"

	"forebay/buffer"
)

func TestFills(t *testing.T) {
	t0 := time.Date(2027, 11, 11, 0, 0, 0, 0, time.UTC)
	var f fills
	tests := []struct {
		name  string
		after time.Duration
		bytes int64
		bound int64
		want  time.Duration // after t0; 0: not in sight
	}{
		{"first seen", 0, 0, 1000, 0},
		{"grows by one byte a second", 10 * time.Second, 10, 1000, 1000 * time.Second},
		{"a minute on", time.Minute, 60, 1000, 1000 * time.Second},
		{"faster", 120 * time.Second, 360, 1000, 120*time.Second + 640*time.Second/5},
		{"shrinks", 180 * time.Second, 200, 1000, 0},
		{"stays", 240 * time.Second, 200, 1000, 0},
		{"no bound", 300 * time.Second, 800, 0, 0},
		{"full already", 360 * time.Second, 1200, 1000, 360 * time.Second},
	}
	for _, tt := range tests {
		got := f.look(t0.Add(tt.after), []buffer.StreamStats{{Stream: "s", Bytes: tt.bytes, MaxBytes: tt.bound}})["s"]
		want := time.Time{}
		if tt.want > 0 {
			want = t0.Add(tt.want)
		}
		if !got.Equal(want) {
			t.Errorf("%s: full at %v, want %v", tt.name, got, want)
		}
	}
	f.look(t0.Add(time.Hour), nil)
	if len(f.streams) != 0 {
		t.Errorf("%d streams are remembered that are gone", len(f.streams))
	}
}
