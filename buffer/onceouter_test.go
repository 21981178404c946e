package buffer

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"forebay/buffer/block"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestOuterFilter asks one filter for the keys of several files: it has all of them, and
// few others, and which file a key is in is still known.
func TestOuterFilter(t *testing.T) {
	const files, n = 4, 60_000 // more than one part
	plain, encrypted := newCoder(t), newCoder(t)
	encrypted.Keys = testKeys(t)
	for name, c := range map[string]*block.Coder{"clear": plain, "encrypted": encrypted} {
		t.Run(name, func(t *testing.T) {
			tables := onceFilesOf(t, c, files, n)
			path := outerPath(rowPath(t.TempDir(), tables))
			if err := saveOuter(path, c, tables, goOn); err != nil {
				t.Fatal(err)
			}
			x, err := openOuter(path, c, tables)
			if err != nil {
				t.Fatal(err)
			}
			in, useless := shelve(tables, []*outerFilter{x})
			if len(in) != 1 || useless != nil {
				t.Fatalf("%d filters are asked, want one", len(in))
			}
			inVain, both := 0, 0
			for i := range uint64(files * n) {
				found := probably(in, benchKey(i))
				if !slices.Contains(found, tables[i/n]) {
					t.Fatalf("key %d is in none of %d files, want its own", i, len(found))
				}
				both += len(found) - 1
				p, key := newOnceProbe(in, benchKey(1e9+i)), &in[0]
				if a, b := p.halves(key); key.bits.has(a, b, filterProbes) {
					inVain++
				}
			}
			if both > files*n/100 || inVain == 0 || inVain > files*n/100 {
				t.Errorf("of %d keys that are not there the outer filter has %d, and of those that are %d files more", files*n, inVain, both)
			}
		})
	}
}

// TestShelve puts any files behind any outer filters: each file is asked for, once, in
// order, and no filter stands for a file that it is not of.
func TestShelve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tables, gone []*onceTable
		for i := range uint64(12) {
			x := &onceTable{path: oncePath("d", i, i), first: i, last: i, dir: &onceDir{records: i}}
			if rapid.Bool().Draw(t, "gone") {
				gone = append(gone, x)
			} else {
				tables = append(tables, x)
			}
		}
		var outers []*outerFilter
		for range rapid.IntRange(0, 4).Draw(t, "outers") {
			first := rapid.Uint64Range(0, 11).Draw(t, "first")
			x := newOuter(outerPath(oncePath("d", first, rapid.Uint64Range(first, 11).Draw(t, "last"))))
			x.tables = x.between(slices.Concat(tables, gone))
			if len(x.tables) > 0 && rapid.Bool().Draw(t, "of another file") {
				x.tables = slices.Delete(x.tables, 0, 1)
			}
			outers = append(outers, x)
		}
		in, useless := shelve(tables, outers)
		if got := tablesOf(in); !slices.Equal(got, tables) {
			t.Fatalf("%d files are asked, want all of %d in order", len(got), len(tables))
		}
		used := 0
		for _, s := range in {
			if s.outer == nil {
				continue
			}
			used++
			if !slices.Equal(s.outer.tables, s.tables()) {
				t.Fatal("an outer filter stands for files that it is not of")
			}
		}
		if used+len(useless) != len(outers) {
			t.Fatalf("of %d outer filters %d are used and %d are not", len(outers), used, len(useless))
		}
	})
}

func TestJoinable(t *testing.T) {
	const m, most = 1 << 20, 1 << 27
	for name, tc := range map[string]struct{ records, want []uint64 }{
		"too few":                {[]uint64{2 * m, 2 * m, 2 * m}, nil},
		"four alike":             {[]uint64{2 * m, 2 * m, 2 * m, 2 * m}, []uint64{2 * m, 2 * m, 2 * m, 2 * m}},
		"one far larger":         {[]uint64{64 * m, 2 * m, 2 * m, 2 * m, 2 * m}, []uint64{2 * m, 2 * m, 2 * m, 2 * m}},
		"a small one between":    {[]uint64{2 * m, 2 * m, 1, 2 * m}, []uint64{2 * m, 2 * m, 1, 2 * m}},
		"several between":        {[]uint64{4 * m, 1, 1, 1, 4 * m}, []uint64{4 * m, 1, 1, 1, 4 * m}},
		"small enough to merge":  {[]uint64{m / 2, m / 2, m / 2, m / 2, m / 2, m / 2, m / 2, m / 2}, nil},
		"larger than is allowed": {[]uint64{33 * m, 33 * m, 33 * m, 33 * m}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var in []onceShelf
			for _, n := range tc.records {
				in = append(in, onceShelf{table: &onceTable{dir: &onceDir{records: n}}})
			}
			var got []uint64
			for _, s := range joinable(in, most) {
				got = append(got, s.records())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("what gets an outer filter (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOuterFilterGoes: a filter goes with the last of its files, one of several that are
// joined at once, and one of a file that was written again too.
func TestOuterFilterGoes(t *testing.T) {
	e := newEngine(t)
	files := onceFilesOf(t, e.comp, 6, 100)
	e.setOnces(files, nil)
	for _, step := range []struct {
		row     func() []onceShelf
		shelves int
	}{
		{func() []onceShelf { return e.onceShelves[:2] }, 5},
		{func() []onceShelf { return e.onceShelves[2:4] }, 4},
		{func() []onceShelf { return e.onceShelves[:3] }, 2},
	} {
		if err := e.joinRow(step.row()); err != nil {
			t.Fatal(err)
		}
		if len(e.onceShelves) != step.shelves {
			t.Fatalf("%d filters are asked, want %d", len(e.onceShelves), step.shelves)
		}
	}
	outers := func() []string {
		left, err := filepath.Glob(filepath.Join(e.cfg.Dir, onceDirName, "*.outer"))
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	if left := outers(); len(left) != 1 {
		t.Fatalf("after a join there are %v, want one", left)
	}
	again := onceFilesOf(t, e.comp, 1, 100)[0]
	again.path = files[0].path
	if in, useless := shelve(append([]*onceTable{again}, files[1:]...), e.outers()); len(in) != 6 || len(useless) != 1 {
		t.Errorf("with a file that was written again %d filters are asked, want each file's", len(in))
	}
	key, now := benchKey(0), time.UnixMilli(1e12)
	_, known := e.knownNow(OnceKey{Key: key}, now)
	if len(probably(known.shelves, key)) != 1 {
		t.Error("a key is not found")
	}
	if err := e.dropOldOnces(now.Add(48 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if left := outers(); len(left) > 0 || len(e.onceShelves) > 0 {
		t.Errorf("past the last TTL there still are %v, and %d filters are asked", left, len(e.onceShelves))
	}
}
