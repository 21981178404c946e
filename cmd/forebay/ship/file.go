package ship

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
	"unicode/utf8"
)

// place is what the file system knows a file by. It is given out again once the
// file is gone.
type place struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

func placeOf(info os.FileInfo) place {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return place{}
	}
	return place{uint64(st.Dev), st.Ino}
}

// file is one content that is followed. A truncated file begins another one at the
// same place.
type file struct {
	entry
	h        *os.File  // nil: nothing more is read
	head     []byte    // the first bytes, those that entry has the sum of
	size     int64     // at the last look
	held     []byte    // what is between Acked and read; nil: not read since the start
	since    time.Time // when there was first something to read; zero: there is nothing
	changed  time.Time // when it grew last
	gone     time.Time // since when no name leads to it; zero: one does
	underway bool      // its first batch is; the sender reads it, so that nobody changes entry and held
}

// newName makes a name that no other file has, on any machine.
func newName() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// openRegular opens a file without waiting for what is none.
func openRegular(path string) (*os.File, os.FileInfo, error) {
	h, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := h.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file of lines", path)
	}
	if err != nil {
		_ = h.Close()
		return nil, nil, err
	}
	return h, info, nil
}

// look notes how long the file is. It reports whether it was cut off.
func (f *file) look(now time.Time) (cut bool, err error) {
	info, err := f.h.Stat()
	if err != nil {
		return false, err
	}
	size := info.Size()
	cut = size < f.size || size < f.read()
	if size != f.size {
		f.size, f.changed = size, now
	}
	if f.since.IsZero() && size > f.read() {
		f.since = now
	}
	return cut, nil
}

// readHead compares the file's beginning with what it was, and learns more of it.
func (f *file) readHead() (same bool, err error) {
	buf := make([]byte, headBytes)
	n, err := f.h.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if !bytes.HasPrefix(buf[:n], f.head) {
		return false, nil
	}
	if n > len(f.head) {
		f.head = buf[:n]
		f.HeadBytes, f.HeadSum = n, sum(f.head)
	}
	return true, nil
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// due reports whether there is enough to send, or it has waited long enough.
func (f *file) due(now time.Time, c *Config) bool {
	if f.underway {
		return false
	}
	if len(f.Waiting) > 0 {
		return true
	}
	if f.h == nil || f.size <= f.read() {
		return false
	}
	return c.Once || f.size-f.read() >= int64(c.BatchSize) || now.Sub(f.since) >= c.BatchWait
}

// idle reports whether all there is has been taken.
func (f *file) idle() bool {
	return !f.underway && len(f.Waiting) == 0 && (f.h == nil || f.size <= f.read())
}

// next reads what is to be the next batch; false: no line is whole yet.
func (f *file) next(now time.Time, c *Config) (bool, error) {
	buf := make([]byte, min(int64(c.BatchSize)+1, f.size-f.read()))
	n, err := f.h.ReadAt(buf, f.read())
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	buf = buf[:n]
	atEnd := f.read()+int64(n) >= f.size
	hurry := atEnd && (c.Once || now.Sub(f.changed) >= c.LineWait)
	n = cut(buf, c.BatchSize, c.MaxLine, hurry)
	if atEnd {
		f.since = time.Time{}
	}
	if n == 0 {
		return false, nil
	}
	f.Waiting = append(f.Waiting, f.read()+int64(n))
	f.held = buf[:n:n]
	return true, nil
}

// cut returns how many bytes are the next batch: whole lines, of at most size bytes
// together, or alone a piece of a line that is too long. The end of what is there
// ends a line only in a hurry.
func cut(b []byte, size, maxLine int, hurry bool) int {
	n := 0
	for n < len(b) {
		line := bytes.IndexByte(b[n:], '\n')
		whole := line >= 0
		if !whole {
			line = len(b) - n
		}
		switch {
		case line > maxLine && n > 0:
			return n
		case line > maxLine:
			return piece(b, maxLine)
		case !whole && !hurry:
			return n
		case whole:
			line++
		}
		if n+line > size && n > 0 {
			return n
		}
		n += line
	}
	return n
}

// piece is maxLine, or a little less so that no character is cut in two.
func piece(b []byte, maxLine int) int {
	for n := maxLine; n > maxLine-utf8.UTFMax && n > 0; n-- {
		if utf8.RuneStart(b[n]) {
			return n
		}
	}
	return maxLine
}

// load reads again what was cut before a restart. It returns io.EOF where the file has
// become shorter.
func (f *file) load() error {
	if f.held != nil || len(f.Waiting) == 0 {
		return nil
	}
	held := make([]byte, f.read()-f.Acked)
	if _, err := f.h.ReadAt(held, f.Acked); err != nil {
		return err
	}
	f.held = held
	return nil
}

// first is the batch that is sent next.
func (f *file) first() []byte { return f.held[:f.Waiting[0]-f.Acked] }

// taken moves on behind the first batch.
func (f *file) taken() {
	n := f.Waiting[0] - f.Acked
	f.Acked, f.Waiting = f.Waiting[0], f.Waiting[1:]
	if f.held = f.held[n:]; len(f.Waiting) == 0 {
		f.held = nil
	}
}

// split makes two or three batches of the first: around line number bad, from 1, or
// in the middle where that is 0 or not there. False: it is one line.
func (f *file) split(bad int) bool {
	b := f.first()
	ends := splitAt(b, bad)
	if len(ends) < 2 {
		return false
	}
	waiting := make([]int64, 0, len(ends)+len(f.Waiting)-1)
	for _, e := range ends {
		waiting = append(waiting, f.Acked+int64(e))
	}
	f.Waiting = append(waiting, f.Waiting[1:]...)
	return true
}

// splitAt returns where the parts of b end.
func splitAt(b []byte, bad int) (ends []int) {
	var lines []int // where each ends
	for n := 0; n < len(b); {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			i = len(b) - n - 1
		}
		n += i + 1
		lines = append(lines, n)
	}
	switch {
	case len(lines) < 2:
		return lines
	case bad < 1 || bad > len(lines):
		return []int{lines[len(lines)/2-1], len(b)}
	}
	if bad > 1 {
		ends = append(ends, lines[bad-2])
	}
	if ends = append(ends, lines[bad-1]); bad < len(lines) {
		ends = append(ends, len(b))
	}
	return ends
}

// countLines counts the lines that a receiver makes messages of: not the empty ones.
func countLines(b []byte) (n int64) {
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSuffix(line, []byte("\n")); len(bytes.TrimSuffix(line, []byte("\r"))) > 0 {
			n++
		}
	}
	return n
}
