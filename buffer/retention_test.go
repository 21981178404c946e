package buffer_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
)

// TestRetentionDropsWholeSegments: what is past its retention goes as the segments
// it lies in, which nobody reads or rewrites for that; those of what is younger stay
// as they are.
func TestRetentionDropsWholeSegments(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	configure(t, e, "mail")
	const n = 200
	for i := range uint64(n) {
		if _, err := e.Append(t.Context(), "orders", noon.Add(time.Duration(i)*time.Minute), []buffer.Message{noise(i, 60_000)}); err != nil {
			t.Fatal(err)
		}
	}
	const all = 10 // of a mebibyte, with 17 messages each
	waitFor(t, "the segments are sealed", func() bool { return e.Stats().Segments["sealed"] >= all })
	before := files(t, dir, "seg-*")

	later := noon.Add(72 * time.Hour)
	expired, oldest, err := e.Expire("mail", later, noon.Add(n/2*time.Minute), "")
	if want := noon.Add(n / 2 * time.Minute); err != nil || expired != n/2 || !oldest.Equal(want) {
		t.Fatalf("Expire = %d, oldest %v, %v; want half, %v", expired, oldest, err, want)
	}
	waitFor(t, "half of the segments are gone", func() bool { return e.Stats().Segments["sealed"] <= all/2+1 })
	// The oldest went, whole, and the others are the same as before.
	kept := files(t, dir, "seg-*")
	if gone := slices.IndexFunc(before, func(name string) bool { return slices.Contains(kept, name) }); gone < all/2-1 || !cmp.Equal(before[gone:], kept[:len(before)-gone]) {
		t.Errorf("of the segments %v there are %v, want the younger half", before, kept)
	}

	if _, _, err = e.Expire("mail", later, later, ""); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all of the disk is back", func() bool { return e.Stats().Segments["sealed"] == 0 })
	wantBalanced(t, e)
}
