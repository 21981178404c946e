package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"forebay/buffer/block"

	"pgregory.net/rapid"
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
	coder := newCoder(t)
	s := newOnceSet()
	for i := range n {
		s.add(record(i, 1))
		s.settle(coder, onceRun)
		if i%100 == 99 {
			s.add(record(i-50, 2))
		}
	}
	if len(s.runs) != 2 || len(s.fresh) == 0 {
		t.Fatalf("%d runs and %d fresh records, want two runs and some", len(s.runs), len(s.fresh))
	}
	path := filepath.Join(t.TempDir(), "a.once")
	if damage, err := saveOnces(path, coder, s.tables(coder), nil); damage != nil || err != nil {
		t.Fatal(damage, err)
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
		if got, ok, err := find(file, want.Key); !ok || err != nil || got != want {
			t.Fatalf("record %d in the file = %+v, %v, %v; want %+v", i, got, ok, err, want)
		}
		if _, ok := s.find(record(n+i, 1).Key); ok {
			t.Fatalf("a key that never was is found: %d", n+i)
		}
	}
	if want := int64(2*n - 1); file.dir.until != want {
		t.Errorf("the file is kept until %d, want %d", file.dir.until, want)
	}
	var last [16]byte
	count := 0
	damage, err = mergeOnces([]*onceTable{file}, func(r onceRecord) error {
		if count > 0 && compareKeys(last, r.Key) >= 0 {
			t.Fatal("records are not in the order of their keys")
		}
		last = r.Key
		count++
		return nil
	})
	if count != n || damage != nil || err != nil {
		t.Errorf("%d records, want one of each of %d keys; %v, %v", count, n, damage, err)
	}
	if perRecord := float64(file.size) / n; perRecord > 33 {
		t.Errorf("a record takes %.1f bytes in the file, want at most 33", perRecord)
	}
}

// find looks a key up in a table.
func find(t *onceTable, key [16]byte) (onceRecord, bool, error) {
	for _, in := range probably(shelvesOf([]*onceTable{t}), key) {
		return in.read(key)
	}
	return onceRecord{}, false, nil
}

// TestOnceChunk has records with fields of every width.
func TestOnceChunk(t *testing.T) {
	coder := newCoder(t)
	rapid.Check(t, func(t *rapid.T) {
		var list []onceRecord
		wide := func(name string) uint64 {
			return rapid.Uint64().Draw(t, name) >> rapid.IntRange(0, 63).Draw(t, "shift")
		}
		for i := range rapid.IntRange(1, oncesPerChunk).Draw(t, "records") {
			r := onceRecord{Body: [8]byte{byte(i)}, stream: uint32(wide("stream")), count: uint32(wide("count")), first: wide("first"), at: int64(wide("at"))}
			r.until = r.at + int64(wide("ttl"))
			binary.BigEndian.PutUint64(r.Key[:], uint64(2*i))
			list = append(list, r)
		}
		payload := appendOnceChunk(nil, list)
		h := block.Header{Kind: block.Onces, Count: uint32(len(list)), RawLen: uint32(len(payload))}
		x, err := openOnceChunk(coder.Seal(nil, &h, payload), coder)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range list {
			if got, ok := x.find(want.Key); !ok || got != want {
				t.Fatalf("record %d = %+v, %v; want %+v", i, got, ok, want)
			}
		}
		if r, ok := x.find([16]byte{7: 1}); ok {
			t.Fatalf("a key that is not there = %+v", r)
		}
		if _, err := openOnceChunk(coder.Seal(nil, &h, payload[:rapid.IntRange(0, len(payload)-1).Draw(t, "cut")]), coder); !errors.Is(err, block.ErrDamaged) {
			t.Fatalf("a chunk cut off: %v, want damaged", err)
		}
	})
}

// TestOnceMerge merges eight files, keys used again among them, with damage in one:
// the newest record of a key counts, and what cannot be read is all that is missing.
func TestOnceMerge(t *testing.T) {
	const files, n = onceFan, 1000
	coder := newCoder(t)
	dir := t.TempDir()
	var tables []*onceTable
	for f := range files {
		s := newOnceSet()
		for i := range n {
			r := onceRecord{count: uint32(f + 1), first: uint64(f*n + i), until: int64(f)}
			number := f*n + i
			if i < 100 {
				number = i // in every file
			}
			binary.BigEndian.PutUint64(r.Key[:], keyHash{}.of(fmt.Sprint(number)))
			s.add(r)
		}
		path := oncePath(dir, uint64(f), uint64(f))
		if _, err := saveOnces(path, coder, s.tables(coder), nil); err != nil {
			t.Fatal(err)
		}
		x, _, err := openOnces(path, coder)
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, x)
	}
	if row := mergeable(shelvesOf(tables)); len(row) != files {
		t.Fatalf("%d of %d files alike are worth merging", len(row), files)
	}
	if row := mergeable(shelvesOf(tables[1:])); row != nil {
		t.Fatalf("%d files are merged, want none below %d", len(row), files)
	}
	ended := errors.New("the engine ended")
	if _, err := saveOnces(oncePath(dir, 0, files-1), coder, tables, func() error { return ended }); !errors.Is(err, ended) {
		t.Fatalf("a merge that is ended = %v, want %v", err, ended)
	}
	if left, err := filepath.Glob(filepath.Join(dir, onceDirName, "*")); len(left) != 2*files || err != nil {
		t.Fatalf("a merge that was ended left something: %v, %v", left, err)
	}
	b, err := os.ReadFile(tables[3].path)
	if err != nil {
		t.Fatal(err)
	}
	b[block.HeaderSize+100] ^= 1
	if err := os.WriteFile(tables[3].path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	path := oncePath(dir, 0, files-1)
	damage, err := saveOnces(path, coder, tables, nil)
	if damage == nil || err != nil {
		t.Fatalf("merge with damage: %v, %v", damage, err)
	}
	merged, _, err := openOnces(path, coder)
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(100 + files*(n-100)); merged.dir.records < want-oncesPerChunk || merged.dir.records >= want {
		t.Errorf("%d records, want %d less those of one chunk", merged.dir.records, want)
	}
	lost := 0
	for number := range files * n {
		var key [16]byte
		binary.BigEndian.PutUint64(key[:], keyHash{}.of(fmt.Sprint(number)))
		r, ok, err := find(merged, key)
		want := uint32(number/n + 1)
		switch {
		case err != nil:
			t.Fatal(err)
		case number < 100:
			if !ok || r.count != files {
				t.Fatalf("key %d, used in every file = %+v, %v; want the newest", number, r, ok)
			}
		case number%n < 100:
			if ok {
				t.Fatalf("key %d, which never was, is found", number)
			}
		case !ok:
			lost++
		case r.count != want || r.first != uint64(number):
			t.Fatalf("key %d = %+v", number, r)
		}
	}
	if lost == 0 || lost > oncesPerChunk {
		t.Errorf("%d keys are lost with one chunk of %d", lost, oncesPerChunk)
	}
}

func TestOnceFileCoversAnother(t *testing.T) {
	for _, tc := range []struct {
		first, last, of, ol uint64
		want                bool
	}{{0, 7, 3, 3, true}, {0, 7, 0, 0, true}, {0, 7, 7, 7, true}, {0, 7, 8, 8, false}, {3, 3, 3, 3, false}, {3, 3, 0, 7, false}, {0, 7, 5, 9, false}} {
		if got := covers(oncePath("d", tc.first, tc.last), oncePath("d", tc.of, tc.ol)); got != tc.want {
			t.Errorf("%d-%d covers %d-%d: %v", tc.first, tc.last, tc.of, tc.ol, got)
		}
	}
}

// TestOnceFilesClosed looks into files that a merge has put into another, and into those
// whose last TTL is over: the one is to be looked for again, the other is not there, and
// neither is held open.
func TestOnceFilesClosed(t *testing.T) {
	e := newEngine(t)
	row := onceFilesOf(t, e.comp, onceFan, 100)
	merged := onceFilesOf(t, e.comp, 1, onceFan*100)[0]
	key, now := benchKey(0), time.UnixMilli(1e12)
	e.setOnces(row, nil)
	_, before := e.knownNow(OnceKey{Key: key}, now)
	if _, _, err := e.findOnceFile(before, key, now); err != nil {
		t.Fatal(err)
	}
	if err := e.exchangeOnces(row, merged); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.findOnceFile(before, key, now); !errors.Is(err, errFilesMoved) {
		t.Errorf("a look into files that were merged = %v, want to be told", err)
	}
	_, before = e.knownNow(OnceKey{Key: key}, now)
	if err := e.dropOldOnces(now.Add(48 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, found, err := e.findOnceFile(before, key, now); found || err != nil {
		t.Errorf("a look into a file that is over = %v, %v, want nothing", found, err)
	}
	for _, x := range append(row, merged) {
		if _, err := x.file.Stat(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s is open: %v", x.path, err)
		}
	}
}
