package buffer

import (
	"testing"

	"pgregory.net/rapid"
)

// What is counted before an offset is what lies before it.
func TestFlightsBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offsets := rapid.SliceOfDistinct(rapid.Uint64Range(0, 300), rapid.ID).Draw(t, "offsets")
		var f flights
		for _, o := range offsets {
			f.add(o)
		}
		for _, o := range rapid.SliceOf(rapid.SampledFrom(append(offsets, 7))).Draw(t, "removed") {
			f.remove(o)
		}
		at, want := rapid.Uint64Range(0, 310).Draw(t, "at"), uint64(0)
		for o := range f.all() {
			if o < at {
				want++
			}
		}
		if got := f.before(at); got != want {
			t.Fatalf("before(%d) = %d, want %d", at, got, want)
		}
	})
}
