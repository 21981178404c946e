package buffer

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"testing"

	"forebay/buffer/block"
)

// TestOnceSet has more records than are sorted at once, and keys that were used
// again: the newest record of each is found, in memory and in the file.
func TestOnceSet(t *testing.T) {
	const n = 2*onceRun + 1000
	record := func(i, use int) onceRecord {
		r := onceRecord{first: uint64(i), count: uint32(use), until: int64(n + i)}
		binary.BigEndian.PutUint64(r.Key[:], keyHash{}.of(string(rune(i))+"x"))
		binary.BigEndian.PutUint32(r.Key[8:], uint32(i))
		return r
	}
	s := newOnceSet()
	for i := range n {
		s.add(record(i, 1))
		s.settle()
		if i%100 == 99 {
			s.add(record(i-50, 2))
		}
	}
	if len(s.runs) != 2 || len(s.fresh) == 0 {
		t.Fatalf("%d runs and %d fresh records, want two runs and some", len(s.runs), len(s.fresh))
	}
	coder, err := block.NewCoder(1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.once")
	if err := saveOnces(path, coder, s); err != nil {
		t.Fatal(err)
	}
	file, damage, err := openOnces(path, coder)
	if err != nil || damage != nil {
		t.Fatal(err, damage)
	}
	for i := 0; i < n; i += 49 {
		want := record(i, 1)
		if i%100 == 49 && i+50 < n {
			want.count = 2
		}
		if got, ok := s.find(want.Key); !ok || got != want {
			t.Fatalf("record %d in memory = %+v, %v; want %+v", i, got, ok, want)
		}
		if got, ok, err := file.find(want.Key); !ok || err != nil || got != want {
			t.Fatalf("record %d in the file = %+v, %v, %v; want %+v", i, got, ok, err, want)
		}
		if _, ok := s.find(record(n+i, 1).Key); ok {
			t.Fatalf("a key that never was is found: %d", n+i)
		}
	}
	if want := int64(2*n - 1); file.filter.until != want {
		t.Errorf("the file is kept until %d, want %d", file.filter.until, want)
	}
	var last [16]byte
	count := 0
	for r := range s.sorted() {
		if count > 0 && bytes.Compare(last[:], r.Key[:]) >= 0 {
			t.Fatal("records are not in the order of their keys")
		}
		last = r.Key
		count++
	}
	if count != n {
		t.Errorf("%d records, want one of each of %d keys", count, n)
	}
}
