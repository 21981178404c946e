// Package segment is one Badger directory: it is written once, by one
// committer, sealed, read, and removed whole. Nothing is deleted, compacted or
// rotated inside it.
//
// Every block goes to the value log, also the small ones, so that one file
// holds all of a segment in the order of writing and [Scan] can read it without
// Badger, whose recovery cuts a log off at the first bad byte. Badger writes; what
// is read is read from that file.
package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"forebay/buffer/block"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const (
	// MaxBlocks is the most a segment holds: its memtable must never fill, since the
	// log would rotate with it.
	MaxBlocks = 100_000

	bytesPerBlock = 160 // in Badger's arena, and as many in its write-ahead log; fewer than 70 are used
	// Badger takes at most 15 % of the memtable, at 96 bytes an entry, in one
	// transaction: this is room for MaxCommit.
	minMemTable    = 3 << 20
	entryOverhead  = 64 // value-log header, key, checksum
	maxValueLog    = 2<<30 - 1
	controlReserve = 8 // a share of 1/8 stays for control blocks when data may not be written
)

// MaxCommit is the most blocks that one Commit takes.
const MaxCommit = 4096

// ErrNoSpace means that the disk has no room for a segment.
var ErrNoSpace = errors.New("no space to reserve a segment")

// Block is one sealed block to be written.
type Block struct {
	Seq  uint64
	Data []byte
	At   uint32 // its place in the log; Commit says it
}

// Segment is a directory of blocks. Read is safe for concurrent use, all else is
// for one goroutine at a time.
type Segment struct {
	Dir string

	capacity  int64 // bytes for data; the control reserve comes on top
	maxBlocks int
	memtable  int64 // bytes
	fault     *faultLog

	db     *badger.DB // while it is written
	log    *os.File   // likewise
	mapped mapping    // of the log, by Badger
	end    int64      // of what is in the log
	blocks int        // written
	bytes  int64      // of the value log, about
}

// Create makes a directory for blocks of capacity bytes and reserves all of
// its space, so that a full disk is ErrNoSpace here and never a fault later.
// It blocks for several syncs. On an error nothing is left behind.
func Create(dir string, capacity int64, log *slog.Logger) (*Segment, error) {
	s := plan(dir, capacity, log)
	if s.vlogSize() > maxValueLog {
		return nil, fmt.Errorf("segment of %d bytes: the most is %d", capacity, MaxCapacity())
	}
	if err := s.create(); err != nil {
		_ = s.Drop() // the error that matters is the first
		_ = os.RemoveAll(dir)
		if noSpace(err) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		return nil, err
	}
	return s, nil
}

// noSpace recognizes a full disk. Badger does not wrap errors for errors.Is.
func noSpace(err error) bool {
	if errors.Is(err, ErrNoSpace) {
		return false // it says so already
	}
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) || strings.Contains(err.Error(), full.Error()) {
			return true
		}
	}
	return false
}

func (s *Segment) create() error {
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		return fmt.Errorf("create segment: %w", err)
	}
	db, err := badger.OpenManaged(s.options())
	if err != nil {
		return fmt.Errorf("create segment %s: %w", s.Dir, err)
	}
	s.db = db
	if s.log, err = os.Open(filepath.Join(s.Dir, LogFile)); err != nil {
		return fmt.Errorf("create segment: %w", err)
	}
	for pattern, size := range map[string]int64{"*.vlog": s.vlogSize(), "*.mem": s.memtable * 5 / 4} {
		if err := reserveAll(filepath.Join(s.Dir, pattern), size); err != nil {
			return err
		}
	}
	if s.mapped, err = adviseRandom(s.Dir); err != nil {
		return fmt.Errorf("segment %s: %w", s.Dir, err)
	}
	if err := SyncDir(s.Dir); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(s.Dir))
}

func reserveAll(pattern string, size int64) error {
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) != 1 {
		return fmt.Errorf("reserve %s: %d files, want 1", pattern, len(names))
	}
	f, err := os.OpenFile(names[0], os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	defer f.Close()
	if err := Reserve(f, size); err != nil {
		return fmt.Errorf("reserve %d bytes for %s: %w", size, names[0], err)
	}
	return nil
}

// Sealed returns a segment that is only read any more.
func Sealed(dir string) *Segment { return &Segment{Dir: dir} }

// Reserved is what a segment of that capacity takes from the disk while it is
// open, in bytes.
func Reserved(capacity int64) int64 {
	s := plan("", capacity, nil)
	return s.vlogSize() + s.memtable*5/4
}

// plan sizes a segment by its capacity: a block for each KiB of it, within bounds.
func plan(dir string, capacity int64, log *slog.Logger) *Segment {
	blocks := min(MaxBlocks, max(2000, capacity>>10))
	return &Segment{
		Dir: dir, capacity: capacity, maxBlocks: int(blocks), end: logHeader,
		memtable: max(minMemTable, blocks*bytesPerBlock), fault: &faultLog{log: log},
	}
}

func (s *Segment) vlogSize() int64 {
	return s.capacity + max(s.capacity/controlReserve, 256<<10)
}

func (s *Segment) options() badger.Options {
	o := badger.DefaultOptions(s.Dir)
	o.SyncWrites = false // Commit syncs once for all its blocks
	// All blocks, but not Badger's end-of-transaction marker, whose value is a
	// timestamp of up to 20 digits: its replay needs that in the write-ahead log.
	o.ValueThreshold = block.HeaderSize
	o.ValueLogFileSize = min(maxValueLog, max(1<<20, s.vlogSize()+(1<<20))) // never rotates
	o.ValueLogMaxEntries = math.MaxUint32
	o.MemTableSize = s.memtable
	o.NumMemtables = 1
	o.NumCompactors = 0
	o.NumLevelZeroTables, o.NumLevelZeroTablesStall = 1<<20, 1<<21
	o.CompactL0OnClose, o.LmaxCompaction = false, false
	o.Compression, o.BlockCacheSize, o.IndexCacheSize = options.None, 0, 0
	o.NumVersionsToKeep, o.DetectConflicts, o.MetricsEnabled = 1, false, false
	// Badger turns a failed check into an empty value; the envelope has a checksum of its own.
	o.VerifyValueChecksum, o.ChecksumVerificationMode = false, options.NoVerification
	o.Logger = s.fault
	return o
}

func key(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{'b'}, seq)
}

// Size is the length of a block in the value log.
func Size(data []byte) int64 { return int64(len(data)) + entryOverhead }

// Fits reports whether n blocks of together size bytes may be committed as data.
func (s *Segment) Fits(n int, size int64) bool {
	return s.blocks+n <= s.maxBlocks-s.maxBlocks/controlReserve && s.bytes+size <= s.capacity
}

// FitsControl is Fits for control blocks, which may use the reserve too.
func (s *Segment) FitsControl(n int, size int64) bool {
	return s.blocks+n <= s.maxBlocks && s.bytes+size <= s.vlogSize()
}

// Blocks is the number written.
func (s *Segment) Blocks() int { return s.blocks }

// Logged is the length of the log up to the end of what was committed; -1: all of the
// file is. Only who commits may ask.
func (s *Segment) Logged() int64 {
	if s.end == 0 { // it was written by a process before
		return -1
	}
	return s.end
}

// Bytes is what was written, in the value log.
func (s *Segment) Bytes() int64 { return s.bytes }

// Commit writes blocks, in the order of their sequence numbers without a gap, in one
// transaction, says where each of them lies, and returns after the fsync that covers
// it. After any error the outcome is unknown and the process must end:
// a second sync may claim success for pages that the first one lost.
func (s *Segment) Commit(blocks []Block) error {
	txn := s.db.NewTransactionAt(math.MaxUint64, true)
	defer txn.Discard()
	end := s.end // of what is committed, or behind it
	for _, b := range blocks {
		if err := txn.SetEntry(badger.NewEntry(key(b.Seq), b.Data)); err != nil {
			return fmt.Errorf("commit block %d: %w", b.Seq, err)
		}
		s.blocks++
		s.bytes += Size(b.Data)
		end += Size(b.Data)
	}
	if err := txn.CommitAt(blocks[len(blocks)-1].Seq+1, nil); err != nil {
		return fmt.Errorf("write %s: %w", s.Dir, err)
	}
	if err := s.mapped.letGo(s.end, end); err != nil {
		return fmt.Errorf("sync %s: %w", s.Dir, err)
	}
	if err := s.sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.Dir, err)
	}
	if err := s.place(blocks); err != nil {
		return err
	}
	return s.fault.err()
}

// Seal ends writing: it closes Badger, which takes some syncs. A sealed segment stays
// as it is.
func (s *Segment) Seal() error {
	if s.db == nil {
		return nil
	}
	for pattern, least := range map[string]int64{"*.mem": 0, "*.vlog": 20} {
		if n, err := filesOver(s.Dir, pattern, least); err != nil || n != 1 {
			return fmt.Errorf("seal %s: %d files %s, want 1: one rotated away and was not synced", s.Dir, n, pattern)
		}
	}
	if err := s.Drop(); err != nil {
		return fmt.Errorf("seal %s: %w", s.Dir, err)
	}
	return s.fault.err()
}

func filesOver(dir, pattern string, least int64) (n int, err error) {
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Size() > least {
			n++
		}
	}
	return n, err
}

// Drop closes what is open of a segment.
func (s *Segment) Drop() error {
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.Close())
		s.log = nil
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
		s.db = nil
	}
	return errors.Join(errs...)
}

// End is where the log goes on behind a block of size bytes at a place.
func End(at, size uint32) int64 { return int64(at) + int64(size) + crcSize }

// Settle makes a sealed segment of one that a crash left open: it gives back what was
// reserved beyond end, and syncs the log, of which the disk may not have all. Badger's
// own index of the blocks goes: nobody reads it.
func Settle(dir string, end int64) error {
	f, err := os.OpenFile(filepath.Join(dir, LogFile), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("settle segment: %w", err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(end), f.Sync()); err != nil {
		return fmt.Errorf("settle segment %s: %w", dir, err)
	}
	mems, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	for _, mem := range mems {
		err = errors.Join(err, os.Remove(mem))
	}
	if err != nil {
		return fmt.Errorf("settle segment: %w", err)
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// faultLog is Badger's logger. Badger logs some failures that it does not
// return; those are kept and end the process.
type faultLog struct {
	log *slog.Logger

	mu    sync.Mutex
	first error
}

func (l *faultLog) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *faultLog) Errorf(format string, args ...any) {
	msg := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.Error("badger", "detail", msg)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = fmt.Errorf("badger: %s", msg)
	}
}

func (l *faultLog) Warningf(format string, args ...any) {
	l.log.Warn("badger", "detail", strings.TrimSpace(fmt.Sprintf(format, args...)))
}
func (*faultLog) Infof(string, ...any)  {}
func (*faultLog) Debugf(string, ...any) {}

// MaxCapacity is the largest capacity of a segment, in bytes.
func MaxCapacity() int64 { return maxValueLog * controlReserve / (controlReserve + 1) }

// CapacityFor is a capacity at which n blocks of together size bytes fit into
// a new segment.
func CapacityFor(n int, size int64) int64 {
	return max(size+size/8, int64(n+n/4)<<10)
}
