package buffer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"forebay/buffer/block"
)

// Verdict is what [Verify] found.
type Verdict struct {
	Segments int
	Files    int // that were read
	Blocks   int // in segments, sound ones
	Messages uint64
	Bytes    int64 // of all files that were read
	// Encrypted says that what is stored from now on is; Clear is how many segments and
	// files of records are not, of such a directory.
	Encrypted bool
	Clear     int
	Damage    []Damage // in the order of the files
	Lost      []Loss   // what a start or a delivery would end as dead, reason damaged
	Aside     []string // quarantined segments: not looked into
	// Refused says that a start would refuse the directory as it is, for what Damage
	// has. Nothing of it is delivered then, whatever Lost has.
	Refused bool
}

// Damage is one place that is not as it was written.
type Damage struct {
	File    string // below the data directory
	At      int64  // byte; -1: the file as a whole
	What    string
	Stream  string // of messages that were there, where that is known
	First   uint64 // their first offset
	Count   uint64 // of offsets
	Remade  bool   // it is only help, or nobody needs it any more: nothing is lost by it
	control uint64 // seq of a block of changes
}

// Loss is messages of a stream that a drain would not get.
type Loss struct {
	Stream, Drain string // no Drain: none has read the stream yet
	Messages      uint64 // unfinished
	Dead          uint64 // dead letters, that could not be replayed
}

// verification is a Verify under way. Its engine has a state and neither goroutines
// nor an open segment.
type verification struct {
	e     *Engine
	ctx   context.Context
	done  func(n, of int64)
	read  atomic.Int64
	total int64

	mu      sync.Mutex // guards all below
	verdict Verdict
	blocks  []lostBlock
	ends    []segmentEnds
}

// Verify reads all of a data directory that no process serves, checks every block
// and every file, and says what is damaged. It changes nothing. An error means that
// it could not look: the directory is in use, is no buffer, or is one of another
// format. done is told how many bytes were read, and of how many, from several goroutines.
// An encrypted directory needs its master key: [WrongKeyError].
func Verify(ctx context.Context, dir string, masters []MasterKey, done func(n, of int64)) (*Verdict, error) {
	names, err := contents(dir)
	if err != nil {
		return nil, err
	}
	lock, err := shareLock(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	coder, err := block.NewCoder(runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	v := &verification{ctx: ctx, done: done, e: &Engine{
		cfg: Config{Dir: dir, MasterKeys: masters}, log: slog.New(slog.DiscardHandler), comp: coder, metrics: newMetrics(nil), records: newRecords(),
		streams: map[string]*stream{}, byNum: map[uint32]*stream{},
		drains: map[string]*drain{}, drainNums: map[uint32]*drain{}, watches: map[Ref]*watch{}, bookmarks: map[string]map[string]string{},
	}}
	isNew, err := checkFormat(dir, names)
	if err == nil && isNew && !names[formatFile] {
		return nil, fmt.Errorf("%s is no data directory: it has no %s", dir, formatFile)
	}
	if err == nil {
		err = v.e.loadKey()
	}
	if why, ok := errors.AsType[refusal](err); ok {
		v.verdict.Damage, v.verdict.Refused = append(v.verdict.Damage, Damage{File: ".", At: -1, What: why.Error()}), true
		return &v.verdict, nil // without the key nothing can be checked
	}
	if err == nil {
		v.keyCopies()
		err = v.all(names)
	}
	if err == nil {
		err = unserved(dir, lock)
	}
	if err != nil {
		return nil, err
	}
	return &v.verdict, nil
}

// shareLock keeps a server from starting meanwhile, and finds one that runs. It
// writes nothing: a directory that was never served has no file to lock, and nil is
// returned.
func shareLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(path) // only to name the other process
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s is %w by process %s", dir, ErrInUse, strings.TrimSpace(string(owner)))
		}
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return f, nil
}

// ErrInUse means that a process serves the directory.
var ErrInUse = errors.New("in use")

// unserved fails if a server started since, which only happens where there was no
// file to lock.
func unserved(dir string, lock *os.File) error {
	if lock != nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, lockFile)); err == nil {
		return fmt.Errorf("data directory %s is %w: a process began to serve it meanwhile", dir, ErrInUse)
	}
	return nil
}

func (v *verification) all(names map[string]bool) error {
	segs, whole, err := v.findSegments()
	if err != nil {
		return err
	}
	records, err := v.recordFiles()
	if err != nil {
		return err
	}
	if whole {
		if err := v.makeState(segs); err != nil {
			return err
		}
	}
	for _, f := range segs {
		v.total += fileSize(filepath.Join(f.ref.seg.Dir, logName))
	}
	for _, path := range records {
		v.total += fileSize(path)
	}
	if err := v.readAll(segs, records); err != nil {
		return err
	}
	v.names()
	v.checkEnds()
	v.judge()
	for name := range names {
		if strings.HasPrefix(name, "quarantine-") {
			v.verdict.Aside = append(v.verdict.Aside, name)
		}
	}
	slices.Sort(v.verdict.Aside)
	v.verdict.Segments = len(segs)
	return nil
}

// readAll reads the files, as many at a time as there are processors.
func (v *verification) readAll(segs []*foundSegment, records []string) error {
	work := make(chan func() error)
	errs := make([]error, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for do := range work {
				if errs[i] == nil && v.ctx.Err() == nil {
					errs[i] = do()
				}
			}
		})
	}
	for _, f := range segs {
		work <- func() error { return v.segment(f) }
	}
	for _, path := range records {
		work <- func() error { return v.recordFile(path) }
	}
	close(work)
	all.Wait()
	return errors.Join(append(errs, v.ctx.Err())...)
}

// report takes damage.
func (v *verification) report(d Damage) {
	if rel, err := filepath.Rel(v.e.cfg.Dir, d.File); err == nil {
		d.File = rel
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.verdict.Damage = append(v.verdict.Damage, d)
}

// unreadable takes a file that the disk does not give; other errors are returned.
func (v *verification) unreadable(path string, err error) error {
	if err == nil || !errors.Is(err, syscall.EIO) {
		return err
	}
	v.report(Damage{File: path, At: -1, What: "the disk does not give it: " + err.Error()})
	return nil
}

// progress counts bytes.
func (v *verification) progress(n int64) {
	if read := v.read.Add(n); v.done != nil {
		v.done(read, v.total)
	}
}

// counted adds a file that was read to the sum.
func (v *verification) counted(bytes int64, blocks int, messages uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.verdict.Files++
	v.verdict.Bytes += bytes
	v.verdict.Blocks += blocks
	v.verdict.Messages += messages
}

// judge says what the damage costs.
func (v *verification) judge() {
	for _, b := range v.blocks {
		v.loseBlock(b)
	}
	for i := range v.verdict.Damage {
		d := &v.verdict.Damage[i]
		if d.control != 0 && d.control < v.e.snapshotSeq {
			d.Remade = true
			d.What += ", older than the newest snapshot"
		}
	}
	slices.SortFunc(v.verdict.Damage, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.At, b.At), cmp.Compare(a.First, b.First))
	})
	slices.SortFunc(v.verdict.Lost, func(a, b Loss) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Drain, b.Drain))
	})
}

// lose counts what is unfinished of a range of offsets, for every drain.
func (v *verification) lose(s *stream, first, end uint64) (lost bool) {
	if len(s.drains) == 0 {
		v.addLoss(Loss{Stream: s.Name, Messages: end - first})
		return true
	}
	for _, d := range s.drains {
		x := Loss{Stream: s.Name, Drain: d.name}
		for offset := max(first, d.from); offset < end; offset++ {
			if !d.finished(offset) {
				x.Messages++
			} else if letter := d.dead[offset]; letter != nil && letter.reason != ReasonDamaged {
				x.Dead++
			}
		}
		if x.Messages+x.Dead > 0 {
			v.addLoss(x)
			lost = true
		}
	}
	return lost
}

func (v *verification) addLoss(x Loss) {
	for i := range v.verdict.Lost {
		if l := &v.verdict.Lost[i]; l.Stream == x.Stream && l.Drain == x.Drain {
			l.Messages += x.Messages
			l.Dead += x.Dead
			return
		}
	}
	v.verdict.Lost = append(v.verdict.Lost, x)
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // said where it is read
	}
	return info.Size()
}
