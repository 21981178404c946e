package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
)

// stored is a buffer of one stream.
func stored(bytes, bound, room int64) buffer.Stats {
	return buffer.Stats{Streams: []buffer.StreamStats{{Stream: "s", Bytes: bytes, MaxBytes: bound}}, Room: room}
}

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
		{"full, and it takes no more", 420 * time.Second, 1200, 1000, 420 * time.Second},
	}
	for _, tt := range tests {
		got := f.look(t0.Add(tt.after), stored(tt.bytes, tt.bound, 1)).streams["s"]
		want := time.Time{}
		if tt.want > 0 {
			want = t0.Add(tt.want)
		}
		if !got.Equal(want) {
			t.Errorf("%s: full at %v, want %v", tt.name, got, want)
		}
	}
	f.look(t0.Add(time.Hour), buffer.Stats{})
	if len(f.streams) != 0 {
		t.Errorf("%d streams are remembered that are gone", len(f.streams))
	}
}

// A fill that goes on evenly ends when the forecast said, within a tenth of what
// was left, whenever it was asked; so for a stream, which is looked at as it is
// scraped, and for the disk.
func TestForecastOfAnEvenFill(t *testing.T) {
	const rate, bound, disk = 1_000_000, 1 << 30, 3 << 30 // bytes, a second
	t0 := time.Date(2027, 11, 11, 0, 0, 0, 0, time.UTC)
	for _, every := range []time.Duration{7 * time.Second, 15 * time.Second, time.Minute} {
		var f fills
		for after := time.Duration(0); after < disk/rate*time.Second; after += every {
			now := t0.Add(after)
			// Blocks of 256 KiB: what is seen goes in steps.
			bytes := int64(after.Seconds()*rate) / (256 << 10) * (256 << 10)
			got := f.look(now, stored(min(bytes, bound), bound, disk-min(bytes, bound)))
			if after == 0 {
				continue
			}
			wantNear(t, "stream", now, got.streams["s"], t0.Add(bound*time.Second/rate))
			if bytes < bound {
				wantNear(t, "disk", now, got.disk, t0.Add(disk*time.Second/rate))
			}
		}
	}
}

func wantNear(t *testing.T, what string, now, got, want time.Time) {
	t.Helper()
	left := max(want.Sub(now), 10*time.Second)
	if want.Before(now) {
		want = now
	}
	if off := got.Sub(want).Abs(); off > left/10 {
		t.Errorf("%v before the end the %s is forecast to be full %v from when it is", left, what, got.Sub(want))
	}
}

// Who asks once gets a forecast, though nobody asked before.
func TestFillsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fills
		began := time.Now()
		stats := func() buffer.Stats { return stored(int64(time.Since(began).Seconds()), 1000, 3000) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.run(ctx, stats) }()
		<-time.After(5*time.Minute + time.Second) // of the bubble
		got := f.look(time.Now(), stats())
		if want := began.Add(1000 * time.Second); !got.streams["s"].Equal(want) {
			t.Errorf("full at %v, want %v", got.streams["s"], want)
		}
		if want := time.Now().Add(3000 * time.Second); !got.disk.Equal(want) {
			t.Errorf("the disk is full at %v, want %v", got.disk, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
