package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"forebay/buffer/block"
)

// Found sums up a scan.
type Found struct {
	Blocks  int
	Damaged int  // stretches of bytes before the last block that are no block, and broken frames of Badger's
	Torn    bool // bytes after the last block that are no block: a write that a crash cut short, if Badger does not know its place
}

const (
	scanWindow = 1 << 20
	// An entry's header, key and checksum lie between two blocks. More than this
	// that is not zero means that something was there.
	maxBetween = 64
)

var (
	blockMagic = []byte("FBLK")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Scan reads the value log of a segment without Badger, checks every block, and
// calls fn with the sound ones; payload and raw, the whole block, are valid
// during the call. Blocks come in the order of their commits, those of one
// commit in any order: Badger keeps a transaction in a map. After damage it goes
// on at the next sound block. It changes nothing.
func Scan(dir string, k block.Sealer, fn func(h block.Header, payload, raw []byte) error) (Found, error) {
	return scan(dir, k, func(_ span, h block.Header, payload, raw []byte) error { return fn(h, payload, raw) })
}

// span is where a block lies.
type span struct {
	file string
	at   int64
	size int
}

type visit func(at span, h block.Header, payload, raw []byte) error

func scan(dir string, k block.Sealer, fn visit) (Found, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil {
		return Found{}, fmt.Errorf("scan %s: %w", dir, err)
	}
	sort.Strings(names)
	var found Found
	for _, name := range names {
		if err := scanFile(name, k, fn, &found); err != nil {
			return found, fmt.Errorf("scan %s: %w", name, err)
		}
	}
	return found, nil
}

// readLog finds a block in the log itself. The first call reads all of it.
func (s *Segment) readLog(seq uint64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places == nil {
		places := map[uint64]span{}
		_, err := scan(s.Dir, s.seal, func(at span, h block.Header, _, _ []byte) error {
			places[h.Seq] = at
			return nil
		})
		if err != nil {
			return nil, err
		}
		s.places = places
	}
	at, ok := s.places[seq]
	if !ok {
		return nil, nil
	}
	f, err := os.Open(at.file)
	if err != nil {
		return nil, fmt.Errorf("read block %d: %w", seq, err)
	}
	defer f.Close()
	b := make([]byte, at.size)
	if _, err := f.ReadAt(b, at.at); err != nil {
		return nil, fmt.Errorf("read block %d of %s: %w", seq, at.file, err)
	}
	return b, nil
}

// window is a moving view of a file that skips holes.
type window struct {
	f    *os.File
	size int64
	at   int64  // file offset of rest()
	buf  []byte // what was read
	pos  int    // of rest() in buf
}

// rest is what was read and not skipped.
func (w *window) rest() []byte { return w.buf[w.pos:] }

// need makes at least n bytes available, fewer at the end of the file.
func (w *window) need(n int) error {
	if len(w.rest()) >= n {
		return nil
	}
	// Moved down only here, once a window, not at every block.
	w.buf = append(w.buf[:0], w.rest()...)
	w.pos = 0
	for len(w.buf) < n && w.at+int64(len(w.buf)) < w.size {
		old := len(w.buf)
		grow := int(min(max(scanWindow, int64(n-old)), w.size-w.at-int64(old)))
		w.buf = slices.Grow(w.buf, grow)[:old+grow]
		got, err := w.f.ReadAt(w.buf[old:], w.at+int64(old))
		w.buf = w.buf[:old+got]
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if got == 0 {
			w.size = w.at + int64(old) // truncated meanwhile
		}
	}
	return nil
}

func (w *window) skip(n int) {
	w.at += int64(n)
	w.pos += n
}

func scanFile(name string, k block.Sealer, fn visit, found *Found) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := noReadahead(f); err != nil {
		return err
	}
	w := &window{f: f, size: info.Size()}
	if err := w.need(20); err != nil { // the value log's own header
		return err
	}
	w.skip(min(20, len(w.rest())))
	var between []byte // what lies since the last block
	inDamage, first := false, true
	for {
		if len(w.rest()) == 0 {
			if w.at, err = nextData(f, w.at, w.size); err != nil {
				return err
			}
			if err := w.need(1); err != nil {
				return err
			}
		}
		b := w.rest()
		if len(b) == 0 {
			break
		}
		i := bytes.Index(b, blockMagic)
		gap := i
		if i < 0 {
			gap = max(1, len(b)-len(blockMagic)+1)
			if allZero(b[gap:]) {
				gap = len(b) // an empty window lets the next read jump over a hole
			}
		}
		between = appendBounded(between, b[:gap])
		w.skip(gap)
		if i < 0 {
			if len(w.rest()) == 0 {
				continue
			}
			if err := w.need(len(blockMagic)); err != nil {
				return err
			}
			if len(w.rest()) < len(blockMagic) {
				break // the end of the file
			}
			continue
		}
		n, err := scanBlock(w, k, fn)
		if err != nil {
			return err
		}
		if n == 0 { // not a block after all, or a damaged one
			between = appendBounded(between, blockMagic[:1])
			w.skip(1)
			inDamage = true
			continue
		}
		if inDamage || len(between) > maxBetween || !soundFrame(between, w.rest(), n, first) {
			found.Damaged++
		}
		between, inDamage, first = between[:0], false, false
		found.Blocks++
		w.skip(n)
	}
	found.Torn = found.Torn || inDamage
	return nil
}

// soundFrame checks what Badger put around the block of n bytes at the start
// of buf: Badger stops reading at the first entry whose checksum is wrong, and
// cuts the rest off, however sound the blocks there are. between holds the
// checksum of the entry before, unless this is the first, and this one's header
// and key.
func soundFrame(between, buf []byte, n int, first bool) bool {
	if !first {
		if len(between) < crc32.Size {
			return false
		}
		between = between[crc32.Size:]
	}
	if len(buf) < n+crc32.Size {
		return false
	}
	sum := crc32.Update(crc32.Checksum(between, castagnoli), castagnoli, buf[:n])
	return sum == binary.BigEndian.Uint32(buf[n:])
}

// appendBounded keeps enough of what lies between blocks to judge it.
func appendBounded(dst, src []byte) []byte {
	if room := 2*maxBetween - len(dst); len(src) > room {
		src = src[:max(0, room)]
	}
	return append(dst, src...)
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// scanBlock tries the bytes at the start of the window and returns the length
// of the block there, 0 if there is none.
func scanBlock(w *window, k block.Sealer, fn visit) (int, error) {
	if err := w.need(block.HeaderSize); err != nil {
		return 0, err
	}
	n, ok := block.Length(w.rest())
	if !ok || n > block.HeaderSize+block.MaxRaw || w.at+int64(n) > w.size {
		return 0, nil
	}
	if err := w.need(n + crc32.Size); err != nil {
		return 0, err
	}
	b := w.rest()
	if len(b) < n {
		return 0, nil
	}
	h, payload, err := k.Open(b[:n])
	if err != nil {
		return 0, nil // counted by the caller
	}
	return n, fn(span{w.f.Name(), w.at, n}, h, payload, b[:n])
}
