package buffer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"testing"

	"forebay/buffer/block"
)

func newEngine(t *testing.T) *Engine {
	t.Helper()
	e, err := Open(t.Context(), Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func newCoder(tb testing.TB) *block.Coder {
	tb.Helper()
	c, err := block.NewCoder(1)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func testKeys(t *testing.T) *block.DataKeys {
	t.Helper()
	k, err := block.NewDataKeys([]block.DataKey{block.NewDataKey()})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// share is which part of hashes a filter says it has.
func share(f bloom, probes, n int, probe func(i int) (a, b uint64)) float64 {
	hits := 0
	for i := range n {
		if a, b := probe(i); f.has(a, b, probes) {
			hits++
		}
	}
	return float64(hits) / float64(n)
}

// TestFiltersTellNothing: the filters of an encrypted directory lie in the clear. Who has
// the keys that are in them, and guesses right, gets as many hits as for keys that
// are not; only their number shows. In the clear, as a control, every guess is right.
func TestFiltersTellNothing(t *testing.T) {
	const n = 20_000
	mine, other := testKeys(t), testKeys(t)
	key := func(i int) (k [16]byte) {
		binary.LittleEndian.PutUint64(k[:], keyHash{1, 2}.of(fmt.Sprint("order ", i)))
		binary.LittleEndian.PutUint64(k[8:], keyHash{3, 4}.of(fmt.Sprint("order ", i)))
		return k
	}
	filters := map[*block.DataKeys]bloom{}
	for _, keys := range []*block.DataKeys{nil, mine, other} {
		d := &onceDir{bits: onceFilter(n), mask: keys}
		for i := range n {
			d.add([]onceRecord{{Key: key(i)}})
		}
		filters[keys] = d.bits
	}
	guess := func(i int) (a, b uint64) { return halves(key(i)) }
	masked := func(i int) (a, b uint64) { return (&onceDir{mask: mine}).probe(key(i)) }
	for _, tc := range []struct {
		name        string
		in          *block.DataKeys
		probe       func(i int) (a, b uint64)
		least, most float64
	}{
		{"a guess in the clear", nil, guess, 1, 1},
		{"who has the secret", mine, masked, 1, 1},
		{"a guess", mine, guess, 0, 0.005},
		{"the secret of another directory", other, masked, 0, 0.005},
	} {
		if got := share(filters[tc.in], filterProbes, n, tc.probe); got < tc.least || got > tc.most {
			t.Errorf("%s: %.4f of the keys are found, want %g to %g", tc.name, got, tc.least, tc.most)
		}
	}
	// The same keys in two directories have as many bits in common as other keys have.
	common, set := 0, 0
	for i := range filters[mine] {
		common += bits.OnesCount8(filters[mine][i] & filters[other][i])
		set += bits.OnesCount8(filters[mine][i])
	}
	if full := float64(set) / float64(8*len(filters[mine])); float64(common)/float64(set) > full*1.1 {
		t.Errorf("%d of %d bits are the same in another directory, of filters that are full to %.2f", common, set, full)
	}
}

// TestKeyTableTellsNothing: of a table of keys the hashes are not to be seen, nor whose
// are the same; look-ups find what they find in the clear.
func TestKeyTableTellsNothing(t *testing.T) {
	const n = 3000
	keys, err := block.NewDataKeys([]block.DataKey{{1, 2, 3}}) // one with which no two probes fall on one bit
	if err != nil {
		t.Fatal(err)
	}
	hash, open := keyHash{5, 6}, openKeys{}
	for i := range uint64(n) {
		open.gather(1, []keyEntry{{hash.of(fmt.Sprint(i % 1000)), i}})
		open.gather(2, []keyEntry{{hash.of("one for all"), i * i}})
	}
	for _, with := range []mask{{}, {keys, 7}} {
		raw, secret := encodeKeys(allRuns(open), with)
		if with.keys != nil {
			var err error
			if secret, err = keys.SealChunks(secret); err != nil {
				t.Fatal(err)
			}
		}
		raw = append(raw, secret...)
		table, err := parseKeys(raw, with)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for i := range 1000 {
			h := hash.of(fmt.Sprint(i))
			if got, err := table.find(nil, 1, h, 0, n); err != nil || fmt.Sprint(got) != fmt.Sprint([]int{i, i + 1000, i + 2000}) {
				t.Fatalf("key %d is found at %v, %v", i, got, err)
			}
			if got, err := table.find(nil, 1, h+1, 0, n); err != nil || len(got) != 0 {
				t.Fatalf("a key that is not there is found at %v, %v", got, err)
			}
			if bytes.Contains(raw, binary.BigEndian.AppendUint64(nil, h)[1:]) {
				seen++
			}
		}
		if got, err := table.find(nil, 2, hash.of("one for all"), 0, n*n); err != nil || len(got) != n || got[7] != 49 {
			t.Fatalf("%d messages of one key are found, %v; want %d", len(got), err, n)
		}
		if (seen == 0) != (with.keys != nil) {
			t.Errorf("encrypted %v: %d of 1000 hashes are to be seen", with.keys != nil, seen)
		}
		if with.keys == nil {
			continue
		}
		elsewhere, _ := encodeKeys(allRuns(open), mask{keys, 8})
		common, set := 0, 0
		for i, b := range table.streams[2].filter {
			set += bits.OnesCount8(b)
			common += bits.OnesCount8(b & elsewhere[len(elsewhere)-len(table.streams[2].filter)+i])
		}
		if set != keyProbes || common > 1 {
			t.Errorf("%d of the %d bits of one key are those of another segment", common, set)
		}
		raw[len(raw)-20] ^= 1
		if _, err := table.find(nil, 2, hash.of("one for all"), 0, n*n); err == nil {
			t.Error("a chunk that changed was not noticed")
		}
	}
}

// BenchmarkKeyLookUp finds a key in the table of a full segment, in the clear and
// encrypted: one that is there, and one that is not, for which the filter does.
func BenchmarkKeyLookUp(b *testing.B) {
	keys, err := block.NewDataKeys([]block.DataKey{block.NewDataKey()})
	if err != nil {
		b.Fatal(err)
	}
	hash, open := keyHash{5, 6}, openKeys{}
	for i := range uint64(maxSegmentMessages) {
		open.gather(1, []keyEntry{{hash.of(fmt.Sprint(i)), i}})
	}
	for name, with := range map[string]mask{"clear": {}, "encrypted": {keys, 7}} {
		raw, secret := encodeKeys(allRuns(open), with)
		if with.keys != nil {
			if secret, err = keys.SealChunks(secret); err != nil {
				b.Fatal(err)
			}
		}
		table, err := parseKeys(append(raw, secret...), with)
		if err != nil {
			b.Fatal(err)
		}
		for what, from := range map[string]int{"there": 0, "not there": maxSegmentMessages} {
			b.Run(name+"/"+what, func(b *testing.B) {
				for i := range b.N {
					h := hash.of(fmt.Sprint(from + i%maxSegmentMessages))
					if _, err := table.find(nil, 1, h, 0, maxSegmentMessages); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
