package buffer

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"forebay/buffer/block"
)

// TestOuterFilterEnds is of one that is ended amid.
func TestOuterFilterEnds(t *testing.T) {
	c := newCoder(t)
	tables := onceFilesOf(t, c, 2, 4*oncesPerChunk*outerRest)
	path := outerPath(rowPath(t.TempDir(), tables))
	ended := errors.New("the engine ended")
	if err := saveOuter(path, c, tables, func() error { return ended }); !errors.Is(err, ended) {
		t.Errorf("an outer filter that is ended = %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) > 0 {
		t.Errorf("an outer filter that is ended left %v", left)
	}
}

// TestOuterFilterOfUnreadable: no outer filter is of a file that cannot be read whole, as
// keys would be missing in it once it can, and the others get theirs.
func TestOuterFilterOfUnreadable(t *testing.T) {
	const n = 10_000
	edit := func(t *testing.T, path string, change func(b []byte)) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		change(b)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, hurt := range map[string]func(t *testing.T, x *onceTable){
		"a chunk": func(t *testing.T, x *onceTable) {
			edit(t, x.path, func(b []byte) { b[block.HeaderSize+100] ^= 1 })
		},
		"the order of chunks": func(t *testing.T, x *onceTable) {
			first, last := x.dir.pos(0), x.dir.pos(x.dir.chunks()-2)
			if x.dir.pos(1)-first != x.dir.pos(x.dir.chunks()-1)-last {
				t.Fatal("the chunks are of different lengths: none can be in the place of the other")
			}
			edit(t, x.path, func(b []byte) {
				one, other := b[first:x.dir.pos(1)], b[last:x.dir.pos(x.dir.chunks()-1)]
				was := slices.Clone(one)
				copy(one, other)
				copy(other, was)
			})
		},
		"the mapping, which the disk does not give": func(t *testing.T, x *onceTable) {
			if err := os.Truncate(filterPath(x.path), 0); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			files := onceFilesOf(t, e.comp, 6, n)
			for _, x := range files {
				x.dir.records = 2 << 20 // as if there were so many
			}
			hurt(t, files[1])
			e.setOnces(files, nil)
			if err := e.compactOnces(); err != nil {
				t.Fatal(err)
			}
			if !files[1].apart || len(e.onceShelves) != 3 || e.onceShelves[2].outer == nil {
				t.Fatalf("apart %v, %d filters are asked, want three: one of the four files behind it", files[1].apart, len(e.onceShelves))
			}
			for i := uint64(2 * n); i < 6*n; i++ {
				if !slices.Contains(probably(e.onceShelves, benchKey(i)), files[i/n]) {
					t.Fatalf("key %d is not found", i)
				}
			}
		})
	}
}

// TestCompactOncesEnds though files are not in the order of their segments: what is made
// of them is of no use then.
func TestCompactOncesEnds(t *testing.T) {
	e := newEngine(t)
	files := onceFilesOf(t, e.comp, 4, 2000)
	for _, x := range files {
		x.dir.records = 2 << 20
	}
	e.setOnces([]*onceTable{files[1], files[2], files[3], files[0]}, nil)
	if err := e.compactOnces(); err == nil {
		t.Error("files out of order got an outer filter")
	}
	if left, _ := filepath.Glob(filepath.Join(e.cfg.Dir, onceDirName, "*.outer")); len(left) > 0 {
		t.Errorf("it is still there: %v", left)
	}
}

// TestOuterFilterNeedsRoom: none is written into what is to stay free.
func TestOuterFilterNeedsRoom(t *testing.T) {
	e := &Engine{comp: newCoder(t), cfg: Config{Dir: t.TempDir(), MinFree: math.MaxInt64}}
	files := onceFilesOf(t, e.comp, 4, 100)
	for _, x := range files {
		x.dir.records = 2 << 20
	}
	e.setOnces(files, nil)
	if err := e.compactOnces(); err != nil || len(e.onceShelves) != 4 {
		t.Errorf("without room: %v, %d filters are asked, want those of four files", err, len(e.onceShelves))
	}
}

// TestOuterFilterOfMostFiles: where a crash came before those that another was made of
// were removed, that one is used.
func TestOuterFilterOfMostFiles(t *testing.T) {
	e := newEngine(t)
	files := onceFilesOf(t, e.comp, 8, 100)
	for _, of := range [][]*onceTable{files[:4], files, files[4:]} {
		if err := saveOuter(outerPath(rowPath(e.cfg.Dir, of)), e.comp, of, goOn); err != nil {
			t.Fatal(err)
		}
	}
	outers, err := e.loadOuters(files)
	if err != nil {
		t.Fatal(err)
	}
	if in, useless := shelve(files, outers); len(in) != 1 || len(useless) != 2 {
		t.Errorf("%d filters are asked, %d are of no use, want one and two", len(in), len(useless))
	}
}

// TestOuterFilterLength: a wrong length at the end of a large file takes no such memory.
func TestOuterFilterLength(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0000000000000001-0000000000000002.outer")
	const size = 256 << 20
	end := binary.LittleEndian.AppendUint32(nil, size-bloomBlock-4)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(end, size-4); err != nil { // the rest is a hole
		t.Fatal(err)
	}
	c := newCoder(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = openOuter(path, c, nil)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, block.ErrDamaged) || took > 16<<20 {
		t.Errorf("%v, %d bytes of memory, want damage and no more than 16 MiB", err, took)
	}
}
