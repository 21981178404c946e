package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"forebay/buffer/block"

	"github.com/google/go-cmp/cmp"
)

const (
	mib  = 1 << 20
	seal = block.Sealer(42)
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func payload(seq uint64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, seq*0x9e3779b97f4a7c15), 1+int(seq%300))
}

func sealedBlock(seq uint64) Block {
	h := block.Header{Kind: block.Messages, Seq: seq, RawLen: uint32(len(payload(seq)))}
	return Block{Seq: seq, Data: seal.Seal(nil, &h, payload(seq))}
}

// write makes a segment with blocks first … first+n-1, three a commit.
func write(t *testing.T, dir string, first uint64, n int) *Segment {
	t.Helper()
	s, err := Create(dir, mib, seal, quiet())
	if err != nil {
		t.Fatal(err)
	}
	var group []Block
	for i := range n {
		group = append(group, sealedBlock(first+uint64(i)))
		if len(group) == 3 || i == n-1 {
			if err := s.Commit(group); err != nil {
				t.Fatal(err)
			}
			group = nil
		}
	}
	return s
}

func wantRead(t *testing.T, s *Segment, first uint64, n int) {
	t.Helper()
	for seq := first; seq < first+uint64(n); seq++ {
		got, err := s.Read(seq)
		if err != nil || !bytes.Equal(got, sealedBlock(seq).Data) {
			t.Fatalf("read block %d = %d bytes, %v; want %d bytes", seq, len(got), err, len(sealedBlock(seq).Data))
		}
	}
}

func scanned(t *testing.T, dir string) ([]uint64, Found) {
	t.Helper()
	var seqs []uint64
	found, err := Scan(dir, seal, func(h block.Header, p, _ []byte) error {
		if !bytes.Equal(p, payload(h.Seq)) {
			return fmt.Errorf("block %d has other bytes", h.Seq)
		}
		seqs = append(seqs, h.Seq)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(seqs) // one commit's blocks come in any order
	return seqs, found
}

func seqs(first uint64, n int) []uint64 {
	var s []uint64
	for i := range n {
		s = append(s, first+uint64(i))
	}
	return s
}

func TestWriteSealRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "seg")
	s := write(t, dir, 10, 100)
	wantRead(t, s, 10, 100)
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	wantRead(t, s, 10, 100)
	if err := s.Drop(); err != nil {
		t.Fatal(err)
	}
	s = Sealed(dir, seal, quiet())
	wantRead(t, s, 10, 100)
	if got, err := s.Read(200); got != nil || err != nil {
		t.Errorf("read of a block that is not there = %d bytes, %v; want nil, nil", len(got), err)
	}
	if err := s.Drop(); err != nil {
		t.Fatal(err)
	}
	got, found := scanned(t, dir)
	if diff := cmp.Diff(seqs(10, 100), got); diff != "" || found.Damaged != 0 {
		t.Errorf("scan: damaged %d, (-want +got):\n%s", found.Damaged, diff)
	}
}

// abandon copies an open segment: what a killed process leaves.
func abandon(t *testing.T, s *Segment) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(s.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSalvageAfterKill(t *testing.T) {
	dir := abandon(t, write(t, filepath.Join(t.TempDir(), "seg"), 1, 50))
	if err := os.WriteFile(filepath.Join(dir, "00099.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, found := scanned(t, dir)
	if diff := cmp.Diff(seqs(1, 50), got); diff != "" || found.Damaged != 0 {
		t.Errorf("scan: damaged %d, (-want +got):\n%s", found.Damaged, diff)
	}
	s, known, err := Salvage(dir, seal, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if len(known) != 50 {
		t.Errorf("badger knows %d blocks, want 50", len(known))
	}
	wantRead(t, s, 1, 50)
	if err := s.Drop(); err != nil {
		t.Fatal(err)
	}
}

// TestScanGoesOnAfterDamage shows what Badger alone would lose: all that
// follows a flipped bit.
func TestScanGoesOnAfterDamage(t *testing.T) {
	for name, harm := range map[string]func(b []byte, at int){
		"a flipped bit":      func(b []byte, at int) { b[at+100] ^= 4 },
		"a flipped magic":    func(b []byte, at int) { b[at] ^= 1 },
		"a page of zeros":    func(b []byte, at int) { clear(b[at : at+200]) },
		"a frame's checksum": func(b []byte, at int) { b[at+len(sealedBlock(20).Data)] ^= 1 },
		"a length too large": func(b []byte, at int) { b[at+55] = 0x7f },
	} {
		t.Run(name, func(t *testing.T) {
			dir := abandon(t, write(t, filepath.Join(t.TempDir(), "seg"), 1, 50))
			names, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
			if err != nil || len(names) != 1 {
				t.Fatal(names, err)
			}
			b, err := os.ReadFile(names[0])
			if err != nil {
				t.Fatal(err)
			}
			harm(b, bytes.Index(b, sealedBlock(20).Data))
			if err := os.WriteFile(names[0], b, 0o600); err != nil {
				t.Fatal(err)
			}
			got, found := scanned(t, dir)
			want := append(seqs(1, 19), seqs(21, 30)...)
			if name == "a frame's checksum" {
				want = seqs(1, 50) // the block is sound, Badger would stop there all the same
			}
			if diff := cmp.Diff(want, got); diff != "" || found.Damaged != 1 {
				t.Errorf("scan: damaged %d, want 1; blocks (-want +got):\n%s", found.Damaged, diff)
			}
		})
	}
}

// TestReadFault: a page that the disk does not give is not the end of the
// process, and the segment can still be closed.
func TestReadFault(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "seg")
	s := write(t, dir, 1, 500)
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	wantRead(t, s, 1, 1)
	logs, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	if err := os.Truncate(logs[0], 8192); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Read(499); got != nil {
		t.Errorf("read beyond the end of the log = %d bytes", len(got))
	}
	wantRead(t, s, 1, 10)
	if err := s.Drop(); err != nil {
		t.Error(err)
	}
}

func TestFits(t *testing.T) {
	s := write(t, filepath.Join(t.TempDir(), "seg"), 1, 1)
	t.Cleanup(func() { _ = s.Drop() })
	for _, tc := range []struct {
		n             int
		size          int64
		data, control bool
	}{
		{1, 1000, true, true},
		{1, mib, false, true},
		{1, 2 * mib, false, false},
		{1800, 1000, false, true},
		{2000, 1000, false, false},
	} {
		if got, ctl := s.Fits(tc.n, tc.size), s.FitsControl(tc.n, tc.size); got != tc.data || ctl != tc.control {
			t.Errorf("%d blocks of %d bytes: fits %v, as control %v; want %v, %v", tc.n, tc.size, got, ctl, tc.data, tc.control)
		}
	}
}

// BenchmarkScan reads a segment of many small blocks, as a trickle leaves them.
func BenchmarkScan(b *testing.B) {
	s, err := Create(filepath.Join(b.TempDir(), "seg"), 32*mib, seal, quiet())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Drop() })
	var group []Block
	for seq := uint64(1); s.Fits(len(group)+1, 0); seq++ {
		if group = append(group, sealedBlock(seq)); len(group) == 500 {
			if err := s.Commit(group); err != nil {
				b.Fatal(err)
			}
			group = nil
		}
	}
	b.SetBytes(s.Bytes())
	for b.Loop() {
		if _, err := Scan(s.Dir, seal, func(block.Header, []byte, []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
