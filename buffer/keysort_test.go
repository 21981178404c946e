package buffer

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSortedEntries sorts lists whose hashes are spread evenly, few, one, or all at an end.
func TestSortedEntries(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	hashes := map[string]func(i int) uint64{
		"spread": func(int) uint64 { return r.Uint64() },
		"few":    func(int) uint64 { return r.Uint64N(9) * 0x1c71c71c71c71c71 },
		"one":    func(int) uint64 { return 7 },
		"ends":   func(i int) uint64 { return -uint64(i % 2) },
		"near":   func(int) uint64 { return r.Uint64N(1000) },
	}
	for name, hash := range hashes {
		for _, n := range []int{0, 1, 2, 3, 100, 1000, keyRun + 1} {
			list := make([]keyEntry, n)
			for i := range list {
				list[i] = keyEntry{hash(i), uint64(r.IntN(n))}
			}
			want := slices.Clone(list)
			slices.SortFunc(want, compareEntries)
			if got := sortedEntries(list); !slices.Equal(got, want) {
				t.Errorf("%s: %d entries are not sorted", name, n)
			}
		}
	}
}

// TestSortedKeys merges runs of any number and length.
func TestSortedKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 40 {
		var runs [][]keyEntry
		var want []keyEntry
		for range n {
			run := make([]keyEntry, r.IntN(20))
			for i := range run {
				run[i] = keyEntry{r.Uint64N(50), r.Uint64()}
			}
			want, runs = append(want, run...), append(runs, sortedEntries(run))
		}
		slices.SortFunc(want, compareEntries)
		if got := slices.Collect(sortedKeys(runs)); !slices.Equal(got, want) {
			t.Errorf("%d runs are not merged", n)
		}
	}
}
