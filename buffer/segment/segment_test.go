package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
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
	mib = 1 << 20
)

var seal = block.Sealer{Seed: 42}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func payload(seq uint64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, seq*0x9e3779b97f4a7c15), 1+int(seq%300))
}

func sealedBlock(seq uint64) Block {
	h := block.Header{Kind: block.Messages, Seq: seq, RawLen: uint32(len(payload(seq)))}
	return Block{Seq: seq, Data: seal.Seal(nil, &h, payload(seq))}
}

// write makes a segment with blocks first … first+n-1, three a commit, and says
// where they lie.
func write(t *testing.T, dir string, first uint64, n int) (*Segment, []Block) {
	t.Helper()
	s, err := Create(dir, mib, quiet())
	if err != nil {
		t.Fatal(err)
	}
	var all []Block
	for i := range n {
		all = append(all, sealedBlock(first+uint64(i)))
		if i%3 == 2 || i == n-1 {
			if err := s.Commit(all[i-i%3:]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s, all
}

func wantRead(t *testing.T, s *Segment, blocks []Block) {
	t.Helper()
	for _, b := range blocks {
		got := make([]byte, len(b.Data))
		if err := s.Read(got, int64(b.At)); err != nil || !bytes.Equal(got, b.Data) {
			t.Fatalf("block %d at %d: %v, or other bytes than were written", b.Seq, b.At, err)
		}
	}
}

func scanned(t *testing.T, dir string) ([]uint64, Found) {
	t.Helper()
	var seqs []uint64
	found, err := Scan(dir, seal, func(_ int64, h block.Header, p, _ []byte) error {
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
	s, blocks := write(t, dir, 10, 100)
	wantRead(t, s, blocks)
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	wantRead(t, s, blocks)
	s = Sealed(dir)
	wantRead(t, s, blocks)
	if err := s.Read(make([]byte, 100), mib); !errors.Is(err, block.ErrDamaged) {
		t.Errorf("read beyond the end of the log = %v, want ErrDamaged", err)
	}
	places := map[uint64]uint32{}
	if _, err := Scan(dir, seal, func(at int64, h block.Header, _, _ []byte) error {
		places[h.Seq] = uint32(at)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if places[b.Seq] != b.At {
			t.Errorf("block %d lies at %d, a scan finds it at %d", b.Seq, b.At, places[b.Seq])
		}
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

// TestSettleAfterKill: what a killed process leaves is read without Badger, and gives
// back what was reserved.
func TestSettleAfterKill(t *testing.T) {
	s, blocks := write(t, filepath.Join(t.TempDir(), "seg"), 1, 50)
	dir := abandon(t, s)
	if err := os.WriteFile(filepath.Join(dir, "00099.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Settle(dir, s.end); err != nil {
		t.Fatal(err)
	}
	wantRead(t, Sealed(dir), blocks)
	got, found := scanned(t, dir)
	if diff := cmp.Diff(seqs(1, 50), got); diff != "" || found.Damaged != 0 || found.Torn {
		t.Errorf("scan: %+v, (-want +got):\n%s", found, diff)
	}
	if mems, err := filepath.Glob(filepath.Join(dir, "*.mem")); err != nil || mems != nil {
		t.Errorf("write-ahead logs are left: %v, %v", mems, err)
	}
	if info, err := os.Stat(filepath.Join(dir, LogFile)); err != nil || info.Size() != s.end {
		t.Errorf("the log is %v, %v; want %d bytes", info, err, s.end)
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
			s, _ := write(t, filepath.Join(t.TempDir(), "seg"), 1, 50)
			dir := abandon(t, s)
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

func TestFits(t *testing.T) {
	s, _ := write(t, filepath.Join(t.TempDir(), "seg"), 1, 1)
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

// TestFullOfBlocks fills a segment with as many blocks as it takes: what Badger keeps
// beside them must not rotate.
func TestFullOfBlocks(t *testing.T) {
	s, err := Create(filepath.Join(t.TempDir(), "seg"), MaxBlocks<<12, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Drop() })
	var group []Block
	for seq := uint64(1); s.FitsControl(len(group)+1, 0); seq++ {
		if group = append(group, sealedBlock(seq)); len(group) == MaxCommit || !s.FitsControl(len(group)+1, 0) {
			if err := s.Commit(group); err != nil {
				t.Fatal(err)
			}
			group = nil
		}
	}
	if s.Blocks() != MaxBlocks {
		t.Errorf("%d blocks fit, want %d", s.Blocks(), MaxBlocks)
	}
	// The room is for each of two; the log of places is mapped, and its end not told.
	if used := s.db.Opts().MemTableSize; used != MaxBlocks*bytesPerBlock {
		t.Errorf("the room is %d bytes, want %d", used, MaxBlocks*bytesPerBlock)
	}
	tables := s.db.Tables()
	if len(tables) > 0 {
		t.Errorf("%d tables were written before the segment was sealed", len(tables))
	}
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkScan reads a segment of many small blocks, as a trickle leaves them.
func BenchmarkScan(b *testing.B) {
	s, err := Create(filepath.Join(b.TempDir(), "seg"), 32*mib, quiet())
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
		if _, err := Scan(s.Dir, seal, func(int64, block.Header, []byte, []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
