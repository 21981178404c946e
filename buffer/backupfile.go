package buffer

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"
)

// A backup is one stream of bytes, little-endian, that is written and read from
// front to back:
//
//	header   magic, version of this layout, format of the buffer, time (Unix ms), files,
//	         bytes in all, program (length and text), CRC-32C of the header
//	entry    'F', length of the name, size, name, CRC-32C of these; content, CRC-32C of it
//	trailer  'E', SHA-256 of all before it
//
// Nothing is compressed: blocks are. A stream that was cut off has no trailer.

const (
	backupMagic   = "FBACKUP\n"
	backupVersion = 1
	entryMark     = 'F'
	trailerMark   = 'E'
	maxEntryName  = 255
	copyStep      = 256 << 10
)

// ErrBackup means that a stream is no backup that can be used. Its text says why.
var ErrBackup = errors.New("backup")

// BackupInfo is what the header of a backup says.
type BackupInfo struct {
	At      time.Time // the instant that it holds
	Program string    // version that wrote it
	Files   int
	Bytes   int64 // of the stream, all of it
}

func (b BackupInfo) header() []byte {
	le := binary.LittleEndian
	h := le.AppendUint32([]byte(backupMagic), backupVersion)
	h = le.AppendUint32(h, Format)
	h = le.AppendUint64(h, uint64(b.At.UnixMilli()))
	h = le.AppendUint32(h, uint32(b.Files))
	h = le.AppendUint64(h, uint64(b.Bytes))
	h = le.AppendUint16(h, uint16(len(b.Program)))
	h = append(h, b.Program...)
	return le.AppendUint32(h, crc32.Checksum(h, castagnoli))
}

const (
	headerFixed  = len(backupMagic) + 4 + 4 + 8 + 4 + 8 + 2
	entryFixed   = 1 + 2 + 8
	trailerBytes = 1 + sha256.Size
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entryBytes is what a file takes in a backup.
func entryBytes(name string, size int64) int64 {
	return int64(entryFixed+len(name)+2*crc32.Size) + size
}

// backupWriter writes a backup.
type backupWriter struct {
	w   *bufio.Writer
	all hash.Hash
}

func newBackupWriter(w io.Writer) *backupWriter {
	all := sha256.New()
	return &backupWriter{bufio.NewWriterSize(io.MultiWriter(w, all), copyStep), all}
}

// entry writes a file of size bytes, which from has to have at least.
func (b *backupWriter) entry(name string, size int64, from io.Reader) error {
	le := binary.LittleEndian
	head := le.AppendUint16([]byte{entryMark}, uint16(len(name)))
	head = append(le.AppendUint64(head, uint64(size)), name...)
	if _, err := b.w.Write(le.AppendUint32(head, crc32.Checksum(head, castagnoli))); err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	n, err := io.Copy(io.MultiWriter(b.w, sum), io.LimitReader(from, size))
	if err == nil && n < size {
		err = fmt.Errorf("it has %d bytes, not %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	_, err = b.w.Write(le.AppendUint32(nil, sum.Sum32()))
	return err
}

func (b *backupWriter) trailer() error {
	if err := b.w.WriteByte(trailerMark); err != nil {
		return err
	}
	if err := b.w.Flush(); err != nil { // all of it is hashed now
		return err
	}
	if _, err := b.w.Write(b.all.Sum(nil)); err != nil {
		return err
	}
	return b.w.Flush()
}

// backupReader reads a backup and checks it.
type backupReader struct {
	BackupInfo
	r   *bufio.Reader // beneath all
	all hash.Hash
	n   int64 // bytes read
	got int   // files
}

// openBackup reads the header. A reader that fails is an error of its own, all else
// ErrBackup.
func openBackup(from io.Reader) (*backupReader, error) {
	b := &backupReader{r: bufio.NewReaderSize(from, copyStep), all: sha256.New()}
	h := make([]byte, headerFixed)
	_, err := io.ReadFull(b, h)
	if string(h[:len(backupMagic)]) != backupMagic && (err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)) {
		return nil, fmt.Errorf("%w: this is none of Forebay's", ErrBackup)
	}
	if err != nil {
		return nil, b.cutOff(err)
	}
	le := binary.LittleEndian
	f := h[len(backupMagic):]
	if v := le.Uint32(f); v != backupVersion {
		return nil, fmt.Errorf("%w: it has version %d, this program reads %d; restore it with the program that wrote it", ErrBackup, v, backupVersion)
	}
	format := le.Uint32(f[4:])
	b.At, b.Files, b.Bytes = time.UnixMilli(int64(le.Uint64(f[8:]))), int(le.Uint32(f[16:])), int64(le.Uint64(f[20:]))
	program := make([]byte, int(le.Uint16(f[28:]))+crc32.Size)
	if _, err := io.ReadFull(b, program); err != nil {
		return nil, b.cutOff(err)
	}
	text := program[:len(program)-crc32.Size]
	if sum := crc32.Update(crc32.Checksum(h, castagnoli), castagnoli, text); sum != le.Uint32(program[len(text):]) {
		return nil, fmt.Errorf("%w: its header is damaged", ErrBackup)
	}
	b.Program = string(text)
	if format != Format {
		return nil, fmt.Errorf("%w: it is of a buffer of format %d, this program reads %d; restore it with version %s, which wrote it", ErrBackup, format, Format, b.Program)
	}
	return b, nil
}

// Read is the stream, counted and hashed.
func (b *backupReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	_, _ = b.all.Write(p[:n]) // a hash takes everything
	b.n += int64(n)
	return n, err
}

// cutOff says that a stream ended early, unless it failed in another way.
func (b *backupReader) cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if b.Bytes == 0 {
			return fmt.Errorf("%w: it is cut off after %d bytes, in its header", ErrBackup, b.n)
		}
		return fmt.Errorf("%w: it is cut off after %d of %d bytes", ErrBackup, b.n, b.Bytes)
	}
	return fmt.Errorf("read backup: %w", err)
}

// next returns the next file; size is -1 at the end of a whole backup.
func (b *backupReader) next() (name string, size int64, err error) {
	mark := make([]byte, entryFixed)
	if _, err := io.ReadFull(b, mark[:1]); err != nil {
		return "", 0, b.cutOff(err)
	}
	if mark[0] == trailerMark {
		return "", -1, b.end()
	}
	if _, err := io.ReadFull(b, mark[1:]); err != nil {
		return "", 0, b.cutOff(err)
	}
	le := binary.LittleEndian
	n, size := int(le.Uint16(mark[1:])), int64(le.Uint64(mark[3:]))
	if mark[0] != entryMark || n > maxEntryName {
		return "", 0, b.damaged("between two files")
	}
	rest := make([]byte, n+crc32.Size)
	if _, err := io.ReadFull(b, rest); err != nil {
		return "", 0, b.cutOff(err)
	}
	if sum := crc32.Update(crc32.Checksum(mark, castagnoli), castagnoli, rest[:n]); sum != le.Uint32(rest[n:]) || size < 0 {
		return "", 0, b.damaged("at the beginning of a file")
	}
	b.got++
	return string(rest[:n]), size, nil
}

func (b *backupReader) damaged(where string) error {
	return fmt.Errorf("%w: it is damaged %s, before byte %d", ErrBackup, where, b.n)
}

// content copies the content of a file, and checks it. An error of to is returned as it is.
func (b *backupReader) content(to io.Writer, name string, size int64) error {
	sum := crc32.New(castagnoli)
	step := make([]byte, min(size, copyStep))
	for left := size; left > 0; {
		step = step[:min(left, int64(len(step)))]
		if _, err := io.ReadFull(b, step); err != nil {
			return b.cutOff(err)
		}
		_, _ = sum.Write(step) // a hash takes everything
		if _, err := to.Write(step); err != nil {
			return err
		}
		left -= int64(len(step))
	}
	var want [crc32.Size]byte
	if _, err := io.ReadFull(b, want[:]); err != nil {
		return b.cutOff(err)
	}
	if sum.Sum32() != binary.LittleEndian.Uint32(want[:]) {
		return b.damaged("in " + name)
	}
	return nil
}

// end checks the trailer.
func (b *backupReader) end() error {
	sum := b.all.Sum(nil)
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(b, want); err != nil {
		return b.cutOff(err)
	}
	if string(sum) != string(want) || b.got != b.Files || b.n != b.Bytes {
		return fmt.Errorf("%w: its trailer does not fit what is before it", ErrBackup)
	}
	if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it goes on after its end", ErrBackup)
	}
	return nil
}

// CheckBackup reads a backup to its end and checks all of it. Nothing is written.
func CheckBackup(r io.Reader) (BackupInfo, error) {
	b, err := openBackup(r)
	if err != nil {
		return BackupInfo{}, err
	}
	for {
		name, size, err := b.next()
		if err != nil || size < 0 {
			return b.BackupInfo, err
		}
		if err := b.content(io.Discard, name, size); err != nil {
			return b.BackupInfo, err
		}
	}
}
