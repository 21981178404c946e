package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"forebay/buffer/block"
)

// Found sums up a scan.
type Found struct {
	Blocks  int
	Places  []int64 // where the first of them begin, at most maxPlaces
	Damaged int     // stretches of bytes before the last block that are no block, and broken frames of Badger's
	Torn    bool    // bytes after the last block that are no block: a write that a crash cut short, if Badger does not know its place
}

const (
	scanWindow = 1 << 20
	// An entry's header, key and checksum lie between two blocks. More than this
	// that is not zero means that something was there.
	maxBetween = 64
	crcSize    = crc32.Size
	maxPlaces  = 1000
)

var (
	blockMagic = []byte("FBLK")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Scan reads the value log of a segment without Badger, checks every block, and
// calls fn with the sound ones and their places in the log; payload and raw, the whole
// block, are valid during the call. Blocks come in the order of their commits, those of
// one commit in any order: Badger keeps a transaction in a map. After damage it goes
// on at the next sound block. It changes nothing. A segment without a log has no blocks.
func Scan(dir string, k block.Sealer, fn Visit) (Found, error) {
	var found Found
	err := scanFile(filepath.Join(dir, LogFile), k, fn, &found)
	if errors.Is(err, fs.ErrNotExist) {
		return Found{}, nil
	}
	if err != nil {
		return found, fmt.Errorf("scan %s: %w", dir, err)
	}
	return found, nil
}

// Visit is called with a block and its place.
type Visit func(at int64, h block.Header, payload, raw []byte) error

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

func scanFile(name string, k block.Sealer, fn Visit, found *Found) error {
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
	w := &window{f: f, size: info.Size(), buf: make([]byte, 0, min(2*scanWindow, info.Size()))}
	if err := w.need(logHeader); err != nil {
		return err
	}
	w.skip(min(logHeader, len(w.rest())))
	var between []byte                        // what lies since the last block
	inDamage, first, end := false, true, w.at // end of the last block
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
			if len(found.Places) < maxPlaces {
				found.Places = append(found.Places, end)
			}
		}
		between, inDamage, first = between[:0], false, false
		found.Blocks++
		w.skip(n)
		end = w.at
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
		if len(between) < crcSize {
			return false
		}
		between = between[crcSize:]
	}
	if len(buf) < n+crcSize {
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
func scanBlock(w *window, k block.Sealer, fn Visit) (int, error) {
	if err := w.need(block.HeaderSize); err != nil {
		return 0, err
	}
	n, ok := block.Length(w.rest())
	if !ok || n > block.Overhead+block.MaxRaw || w.at+int64(n) > w.size {
		return 0, nil
	}
	if err := w.need(n + crcSize); err != nil {
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
	return n, fn(w.at, h, payload, b[:n])
}
