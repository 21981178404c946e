package buffer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"forebay/buffer"
	"forebay/buffer/block"
)

// TestKeyHash holds the hash to the vector of the SipHash paper, and tells apart what
// a message is found by.
func TestKeyHash(t *testing.T) {
	var in []byte
	for i := range byte(15) {
		in = append(in, i)
	}
	if got := buffer.HashKey(0x0706050403020100, 0x0f0e0d0c0b0a0908, string(in)); got != 0xa129ca6149be45e5 {
		t.Errorf("SipHash-2-4 of the paper's message is %x, want a129ca6149be45e5", got)
	}
}

// wantFound compares what a key finds.
func wantFound(t testing.TB, e *buffer.Engine, key string, want ...uint64) {
	t.Helper()
	refs, err := e.FindKey(t.Context(), "orders", key, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, ref := range refs {
		got = append(got, ref.Offset)
	}
	if !slices.Equal(got, want) {
		t.Errorf("FindKey(%s) = %v, want %v", key, got, want)
	}
}

// TestKeyTables harms the tables of keys between two starts: they are made again from
// the blocks, also after a crash, and nothing of it is read where they are whole.
func TestKeyTables(t *testing.T) {
	const n = 60
	first := func(t *testing.T, dir string) string { return files(t, dir, "seg-*/KEYS")[0] }
	for name, tc := range map[string]struct {
		crash bool
		harm  func(t *testing.T, dir string)
		says  string
	}{
		"nothing":         {false, func(*testing.T, string) {}, ""},
		"a crash":         {true, func(*testing.T, string) {}, ""},
		"a table missing": {false, func(t *testing.T, dir string) { remove(t, first(t, dir)) }, "made again"},
		"a table flipped": {false, func(t *testing.T, dir string) { edit(t, first(t, dir), func(b []byte) { b[len(b)/2] ^= 1 }) }, "made again"},
		"a table cut":     {false, func(t *testing.T, dir string) { cut(t, first(t, dir), 100) }, "made again"},
		"a table empty":   {false, func(t *testing.T, dir string) { cut(t, first(t, dir), 0) }, "made again"},
		"no index, no table": {false, func(t *testing.T, dir string) {
			remove(t, append(files(t, dir, "seg-*/INDEX"), files(t, dir, "seg-*/KEYS")...)...)
		}, ""},
		"a block of messages": {false, func(t *testing.T, dir string) {
			edit(t, files(t, dir, "seg-*/*.vlog")[0], func(b []byte) { b[nthBlock(t, b, 3)+block.HeaderSize+500] ^= 1 })
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e := open(t, dir)
			configure(t, e, "mail")
			for i := range uint64(n) {
				m := noise(i, 60_000)
				m.Key = fmt.Sprint("key-", i%20)
				if i%20 == 7 {
					m.CancelKeys = []string{"sku-7", "sku-8"}
				}
				if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{m}); err != nil {
					t.Fatal(err)
				}
			}
			if tc.crash {
				dir = crashed(t, e, dir)
			} else if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			tc.harm(t, dir)
			e, said := logged(t, dir)
			configure(t, e, "mail")
			wantFound(t, e, "key-3", 3, 23, 43)
			wantFound(t, e, "key-7", 7, 27, 47)
			wantFound(t, e, "sku-7") // it cancels, and does not order
			wantFound(t, e, "key-20")
			if got := said.String(); strings.Contains(got, "table of keys") != (tc.says != "") || !strings.Contains(got, tc.says) {
				t.Errorf("the log says %q, want %q", got, tc.says)
			}
			if corrupt := e.Stats().Corrupt; corrupt > 0 {
				t.Errorf("%d blocks were read and found damaged", corrupt)
			}
			for key, want := range map[string]int{"key-7": 0, "sku-8": 3, "key-5": 3} {
				if got, err := e.CancelKey(t.Context(), "orders", key, noon); got != want || err != nil {
					t.Errorf("CancelKey(%s) = %d, %v; want %d", key, got, err, want)
				}
			}
			wantFound(t, e, "key-7")
			wantFound(t, e, "key-5")
		})
	}
}

// TestManyKeys has more keys than one look at a bucket, in a sealed segment and in
// the open one.
func TestManyKeys(t *testing.T) {
	const n = 140_000
	dir := filepath.Join(t.TempDir(), "data")
	e, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: 16 * mib})
	if err != nil {
		t.Fatal(err)
	}
	configure(t, e, "mail")
	check := func() {
		t.Helper()
		for i := uint64(0); i < n/2; i += 1999 {
			wantFound(t, e, fmt.Sprint("key-", i), i, i+n/2)
		}
		for i := range 2000 {
			wantFound(t, e, fmt.Sprint("none-", i))
		}
	}
	for i := uint64(0); i < n; i += 1000 {
		msgs := make([]buffer.Message, 1000)
		for j := range msgs {
			msgs[j] = buffer.Message{Key: fmt.Sprint("key-", (i+uint64(j))%(n/2))}
		}
		if _, err := e.Append(t.Context(), "orders", noon, msgs); err != nil {
			t.Fatal(err)
		}
	}
	check()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	check()
}

// TestKeysWithoutRoomForATable: keys are found where their table cannot be stored.
func TestKeysWithoutRoomForATable(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	configure(t, e, "mail")
	if err := os.Mkdir(filepath.Join(e.ActiveDir(), "KEYS"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(40) {
		m := noise(i, 60_000)
		m.Key = fmt.Sprint("key-", i)
		if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "a segment is sealed", func() bool { return sealedCount(e) > 0 })
	for i := range uint64(40) {
		wantFound(t, e, fmt.Sprint("key-", i), i)
	}
	if err := e.Err(); err != nil {
		t.Errorf("the engine stopped: %v", err)
	}
}
