package buffer_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"forebay/buffer"
)

// Where an INDEX is damaged its segment is sealed again, behind newer ones. Its file of
// idempotency records does not come behind theirs.

// TestKeysAfterADamagedIndex looks for all keys after the INDEX of a segment was damaged
// whose file had been merged, or is behind an outer filter, and after that was done
// again, at that start and the next.
func TestKeysAfterADamagedIndex(t *testing.T) {
	for name, lessen := range map[string]func(*buffer.Engine) error{
		"merged":                 (*buffer.Engine).CompactOnces,
		"behind an outer filter": (*buffer.Engine).JoinOnces,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e := open(t, dir)
			configure(t, e, "mail")
			n := fillKeyed(t, e, 0, 9)
			if err := lessen(e); err != nil {
				t.Fatal(err)
			}
			for len(files(t, dir, "once/*.once")) < 7 { // so that there is something to merge again
				n = fillKeyed(t, e, n, 1)
			}
			e = openWithDamagedIndex(t, e, dir, 2)
			wantKeys(t, e, n)
			if err := lessen(e); err != nil {
				t.Fatal(err)
			}
			wantKeys(t, e, n)
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			wantKeys(t, open(t, dir), n)
		})
	}
}

// TestNewestRecordOfAKeyCounts has a key that was used again after its TTL, and then the
// INDEX of the first segment damaged, whose file was merged with that of the second use.
func TestNewestRecordOfAKeyCounts(t *testing.T) {
	for name, segments := range map[string]int{"files apart": 2, "merged": 8} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e := open(t, dir)
			configure(t, e, "mail")
			k, later := onceKeyOf(1_000_000), noon.Add(2*time.Minute)
			k.TTL = time.Minute
			if _, _, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(1, 100)}, k); err != nil {
				t.Fatal(err)
			}
			n := fillKeyed(t, e, 0, 2)
			k.TTL = time.Hour
			first, replayed, err := e.AppendOnce(t.Context(), "orders", later, []buffer.Message{noise(1, 100)}, k)
			if err != nil || replayed {
				t.Fatal(replayed, err)
			}
			fillKeyed(t, e, n, segments)
			if err := e.CompactOnces(); err != nil {
				t.Fatal(err)
			}
			e = openWithDamagedIndex(t, e, dir, 0)
			again, replayed, err := e.AppendOnce(t.Context(), "orders", later, []buffer.Message{noise(1, 100)}, k)
			if err != nil || !replayed || again.First != first.First {
				t.Errorf("sent again: %v, replayed %v, %v; want %v", again, replayed, err, first)
			}
		})
	}
}

// fillKeyed appends messages with the keys from n on until so many segments more are
// sealed. It returns the next key.
func fillKeyed(t *testing.T, e *buffer.Engine, n, segments int) int {
	t.Helper()
	for had := sealedCount(e); sealedCount(e) < had+segments; n++ {
		if _, _, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(uint64(n), 60_000)}, onceKeyOf(n)); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// openWithDamagedIndex closes an engine and opens it with a wrong byte in the INDEX of
// one segment. It returns once that is sealed again.
func openWithDamagedIndex(t *testing.T, e *buffer.Engine, dir string, nth int) *buffer.Engine {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	all := files(t, dir, "seg-*/INDEX")
	slices.Sort(all)
	edit(t, all[nth], func(b []byte) { b[len(b)/2] ^= 1 })
	e = open(t, dir)
	configure(t, e, "mail")
	waitFor(t, "the segment is sealed again", func() bool { return e.Stats().Segments["open"] == 1 })
	return e
}

func wantKeys(t *testing.T, e *buffer.Engine, n int) {
	t.Helper()
	for i := range n {
		if _, err := e.Lookup(t.Context(), "orders", onceKeyOf(i).Key, noon); err != nil {
			t.Fatalf("key %d of %d: %v", i, n, err)
		}
	}
}
