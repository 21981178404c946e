package buffer

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"forebay/buffer/block"
)

// benchKey is a key as onceScope makes them: a hash.
func benchKey(n uint64) (key [16]byte) {
	for i := range 2 {
		z := (2*n + uint64(i)) * 0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		binary.BigEndian.PutUint64(key[8*i:], z^z>>31)
	}
	return key
}

// onceFilesOf makes files of so many records each.
func onceFilesOf(tb testing.TB, c *block.Coder, files, records int) (tables []*onceTable) {
	dir := tb.TempDir()
	for f := range files {
		s := newOnceSet()
		for i := range records {
			n := f*records + i
			s.add(onceRecord{Key: benchKey(uint64(n)), stream: 1, count: 1, first: uint64(n), at: 1e12 + int64(n)/150, until: 1e12 + 86_400_000 + int64(n)/150})
			s.settle(c, onceRun)
		}
		path := oncePath(dir, uint64(f), uint64(f))
		if _, err := saveOnces(path, c, s.tables(c), nil); err != nil {
			tb.Fatal(err)
		}
		t, _, err := openOnces(path, c)
		if err != nil {
			tb.Fatal(err)
		}
		tables = append(tables, t)
	}
	return tables
}

// BenchmarkOnceLookUp asks eleven files for keys that none has, and reads one in vain.
func BenchmarkOnceLookUp(b *testing.B) {
	c := newCoder(b)
	tables := onceFilesOf(b, c, 11, 1<<19)
	b.Run("filters", func(b *testing.B) {
		found, tables := 0, shelvesOf(tables)
		for i := range b.N {
			found += len(probably(tables, benchKey(uint64(1e9+i))))
		}
		b.ReportMetric(float64(found)/float64(b.N), "reads/op")
	})
	b.Run("read", func(b *testing.B) {
		for i := range b.N {
			if _, found, err := tables[i%len(tables)].read(benchKey(uint64(1e9 + i))); found || err != nil {
				b.Fatal(found, err)
			}
		}
	})
}

// BenchmarkOnceMerge merges eight files.
func BenchmarkOnceMerge(b *testing.B) {
	c := newCoder(b)
	const records = 1 << 18
	tables := onceFilesOf(b, c, onceFan, records)
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		if _, err := saveOnces(filepath.Join(dir, fmt.Sprint(i)), c, tables, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*onceFan*records), "ns/record")
}

// BenchmarkOnceOuter makes an outer filter for eight files.
func BenchmarkOnceOuter(b *testing.B) {
	c := newCoder(b)
	const records = 1 << 18
	tables := onceFilesOf(b, c, onceFan, records)
	for path := outerPath(oncePath(b.TempDir(), 0, onceFan-1)); b.Loop(); {
		if err := saveOuter(path, c, tables, goOn); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*onceFan*records), "ns/record")
}

// goOn is work that does not rest.
func goOn() error { return nil }
