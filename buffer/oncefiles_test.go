package buffer_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/block"
)

// onceKeyOf is the nth idempotency key.
func onceKeyOf(n int) buffer.OnceKey {
	k := buffer.OnceKey{TTL: time.Hour}
	binary.BigEndian.PutUint64(k.Key[:], uint64(n))
	return k
}

// said is what an engine says.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// logged opens an engine, and returns what it says.
func logged(t testing.TB, dir string) (*buffer.Engine, *said) {
	t.Helper()
	log := &said{}
	e, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e, log
}

// TestOnceFilters harms the files of idempotency records between two starts. A
// filter is only a help: what is missing or damaged of it is made again from the
// records; of those, the ones that cannot be read are forgotten, and no others.
func TestOnceFilters(t *testing.T) {
	const n = 1000
	flipEnd := func(b []byte) { b[len(b)-100] ^= 1 }
	for name, tc := range map[string]struct {
		harm     func(t *testing.T, dir string)
		lost     bool   // some of the records
		says     string // at the start
		readable bool   // the filter is left as it was
	}{
		"nothing":          {func(*testing.T, string) {}, false, "", true},
		"a filter missing": {func(t *testing.T, dir string) { remove(t, files(t, dir, "once/*.filter")...) }, false, "", false},
		"a filter flipped": {func(t *testing.T, dir string) { edit(t, files(t, dir, "once/*.filter")[0], flipEnd) }, false, "", false},
		"a filter cut":     {func(t *testing.T, dir string) { cut(t, files(t, dir, "once/*.filter")[0], 40) }, false, "", false},
		"a filter empty":   {func(t *testing.T, dir string) { cut(t, files(t, dir, "once/*.filter")[0], 0) }, false, "", false},
		"a filter of other records": {func(t *testing.T, dir string) {
			edit(t, files(t, dir, "once/*.filter")[0], func(b []byte) {
				h, payload, err := block.Sealer{Seed: 0}.Open(b)
				_ = err // the checksum starts from a secret: sealed with another one it is another file's
				block.Sealer{Seed: 0}.Seal(b[:0], &h, payload)
			})
		}, false, "", false},
		"records flipped": {func(t *testing.T, dir string) { edit(t, files(t, dir, "once/*.once")[0], flipEnd) }, true, "", true},
		"records flipped, no filter": {func(t *testing.T, dir string) {
			edit(t, files(t, dir, "once/*.once")[0], flipEnd)
			remove(t, files(t, dir, "once/*.filter")...)
		}, true, "idempotency records are damaged", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e := open(t, dir)
			configure(t, e, "mail")
			for i := range n {
				if _, replayed, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(uint64(i), 10)}, onceKeyOf(i)); replayed || err != nil {
					t.Fatal(replayed, err)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			tc.harm(t, dir)
			before, _ := os.Stat(firstOr(files(t, dir, "once/*"), ".filter"))
			for start := range 2 { // what was made again stays
				e, said := logged(t, dir)
				configure(t, e, "mail")
				if got := said.String(); (tc.says == "" || start > 0) != !strings.Contains(got, "idempotency") || !strings.Contains(got, tc.says) && start == 0 {
					t.Errorf("start %d says %q, want %q", start, got, tc.says)
				}
				after, err := os.Stat(files(t, dir, "once/*.filter")[0])
				if err != nil {
					t.Fatal(err)
				}
				if kept := before != nil && os.SameFile(before, after); start == 0 && kept != tc.readable {
					t.Errorf("the filter is the same file: %v, want %v", kept, tc.readable)
				}
				lost := 0
				for i := range n {
					_, err := e.Lookup(t.Context(), "orders", onceKeyOf(i).Key, noon)
					if errors.Is(err, buffer.ErrNoMessage) {
						lost++
					} else if err != nil {
						t.Fatal(err)
					}
				}
				if (lost > 0) != tc.lost || lost > 256 {
					t.Errorf("%d keys of %d are forgotten at start %d", lost, n, start)
				}
				if _, err := e.Lookup(t.Context(), "orders", onceKeyOf(n).Key, noon); !errors.Is(err, buffer.ErrNoMessage) {
					t.Errorf("a key that never was = %v", err)
				}
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			}
			e = open(t, dir)
			e.KeepHouse(noon.Add(2 * time.Hour))
			if left, _ := filepath.Glob(filepath.Join(dir, "once", "*")); len(left) > 0 {
				t.Errorf("past the TTL there still are %v", left)
			}
		})
	}
}

// firstOr is the first name with a suffix.
func firstOr(names []string, suffix string) string {
	for _, name := range names {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	return ""
}

func cut(t testing.TB, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// TestOnceFilesMerge merges the files of many segments while keys are looked up and
// sent again: none is forgotten, and a merge that was cut short leaves nothing behind.
func TestOnceFilesMerge(t *testing.T) {
	const n = 4000
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	for i := range n {
		if _, replayed, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(uint64(i), 4000)}, onceKeyOf(i)); replayed || err != nil {
			t.Fatal(replayed, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir, "once/*.once")
	if len(before) < 9 {
		t.Fatalf("%d files, want enough to merge", len(before))
	}
	left, err := os.ReadFile(before[1])
	if err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	known := func(e *buffer.Engine) {
		for i := range n {
			a, err := e.Lookup(t.Context(), "orders", onceKeyOf(i).Key, noon)
			if err != nil || a.First != uint64(i) {
				t.Errorf("key %d is at %d, %v", i, a.First, err)
				return
			}
			if _, replayed, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(uint64(i), 10)}, onceKeyOf(i)); !replayed || err != nil {
				t.Errorf("key %d sent again is stored again: %v", i, err)
				return
			}
		}
	}
	var all sync.WaitGroup
	all.Go(func() { known(e) })
	if err := e.CompactOnces(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	known(e)
	after := files(t, dir, "once/*.once")
	if len(after) > len(before)-7 {
		t.Errorf("%d files after the merge, %d before", len(after), len(before))
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(before[1], left, 0o600); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	known(e)
	if again := files(t, dir, "once/*.once"); len(again) != len(after) {
		t.Errorf("%d files after a merge that was cut short, want %d", len(again), len(after))
	}
}

// TestOncesAreNotMergedBeforeTheirSegmentIsSealed: where a crash came between the two,
// the janitor writes the file again, under the name that a merge would remove.
func TestOncesAreNotMergedBeforeTheirSegmentIsSealed(t *testing.T) {
	dir := kept(t)
	e := open(t, dir)
	all := files(t, dir, "once/*.once")
	newest := all[len(all)-1]
	var first, last uint64
	if _, err := fmt.Sscanf(filepath.Base(newest), "%x-%x.once", &first, &last); err != nil {
		t.Fatal(err)
	}
	if got := e.SettledOnces(last); got != len(all)-1 {
		t.Errorf("%d of %d files may be merged while segment %d is sealed, want all but its own", got, len(all), last)
	}
	if got := e.SettledOnces(last + 1000); got != len(all) {
		t.Errorf("%d of %d files may be merged while nothing is sealed, want all", got, len(all))
	}
}

// TestOuterFiltersAtAStart harms an outer filter between two starts: it is only a help,
// and what cannot be used of it goes.
func TestOuterFiltersAtAStart(t *testing.T) {
	sound := kept(t)
	e := open(t, sound)
	if err := errors.Join(e.JoinOnces(), e.Close()); err != nil {
		t.Fatal(err)
	}
	outer := filepath.Base(files(t, sound, "once/*.outer")[0])
	for name, tc := range map[string]struct {
		harm func(t *testing.T, path string)
		used bool
	}{
		"nothing": {func(*testing.T, string) {}, true},
		"missing": {func(t *testing.T, path string) { remove(t, path) }, false},
		"flipped": {func(t *testing.T, path string) { edit(t, path, func(b []byte) { b[10] ^= 1 }) }, false},
		"cut":     {func(t *testing.T, path string) { cut(t, path, 100) }, false},
		"empty":   {func(t *testing.T, path string) { cut(t, path, 0) }, false},
		"of fewer files": {func(t *testing.T, path string) {
			all := files(t, filepath.Dir(path), "*.once")
			b, err := os.ReadFile(all[1])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(all[0], b, 0o600); err != nil { // its keys are in no filter of this name
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			copyTree(t, sound, dir)
			path := filepath.Join(dir, "once", outer)
			tc.harm(t, path)
			e, said := logged(t, dir)
			many := len(files(t, dir, "once/*.once"))
			if got := e.OnceShelves(); got < many != tc.used {
				t.Errorf("%d filters are asked for %d files", got, many)
			}
			if _, err := os.Stat(path); (err == nil) != tc.used {
				t.Errorf("of the filter is left: %v", err)
			}
			if told := strings.Contains(said.String(), outer); told != (!tc.used && name != "missing") {
				t.Errorf("the start says %q", said)
			}
			for i := 20; i < 40; i++ {
				if a, err := e.Lookup(t.Context(), "orders", onceKeyOf(i).Key, noon); err != nil || a.First != uint64(i) {
					t.Errorf("key %d is at %d, %v", i, a.First, err)
				}
			}
		})
	}
}
