package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"forebay/buffer/block"
)

// LogFile is the name of the value log in a segment's directory. There is one:
// nothing rotates.
const LogFile = "000001.vlog"

const (
	logHeader = 20 // of the value log, before its first entry
	keySize   = 17 // what Badger stores of a key: ours, and a version
	maxFrame  = 2 + 3*binary.MaxVarintLen32 + keySize
)

// Read fills b with what the log has from at on: one block as it was written, or
// several with Badger's frames between them. It reads by a system call, not through
// a mapping: who waits for the disk in a page fault holds up a processor with all
// the goroutines that are to run there. A log that ends before is
// [block.ErrDamaged]. It is safe beside all else that is done with the segment.
func (s *Segment) Read(b []byte, at int64) error {
	f, err := os.Open(filepath.Join(s.Dir, LogFile))
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	defer f.Close()
	_, err = f.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the log of %s ends before byte %d", block.ErrDamaged, s.Dir, at+int64(len(b)))
	}
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	return nil
}

// place finds out where Badger put the blocks of a commit, in which order only the
// log says: Badger keeps a transaction in a map.
func (s *Segment) place(blocks []Block) error {
	var buf [maxFrame]byte
	for range blocks {
		n, err := s.log.ReadAt(buf[:], s.end)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read what was written to %s: %w", s.Dir, err)
		}
		seq, size, frame := parseFrame(buf[:n])
		b := find(blocks, seq)
		if frame == 0 || b == nil || len(b.Data) != size {
			return fmt.Errorf("the log of %s has no entry of the commit at byte %d", s.Dir, s.end)
		}
		b.At = uint32(s.end) + uint32(frame)
		s.end = End(b.At, uint32(size))
	}
	return nil
}

// find returns the block with a sequence number, or nil. They are in order.
func find(blocks []Block, seq uint64) *Block {
	if i := seq - blocks[0].Seq; i < uint64(len(blocks)) && blocks[i].Seq == seq {
		return &blocks[i]
	}
	return nil
}

// parseFrame reads what Badger puts before a value: two bytes, the lengths of key and
// value, an expiry, the key. size is the value's, frame 0 where b is something else.
func parseFrame(b []byte) (seq uint64, size, frame int) {
	if len(b) < 2 {
		return 0, 0, 0
	}
	var nums [3]uint64
	frame = 2
	for i := range nums {
		v, n := binary.Uvarint(b[frame:])
		if n <= 0 {
			return 0, 0, 0
		}
		nums[i] = v
		frame += n
	}
	if nums[0] != keySize || len(b) < frame+keySize {
		return 0, 0, 0
	}
	return binary.BigEndian.Uint64(b[frame+1:]), int(nums[1]), frame + keySize
}
