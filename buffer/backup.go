package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"forebay/buffer/segment"
)

// ErrBackingUp means that another backup is being written.
var ErrBackingUp = errors.New("another backup is being written")

// Backup is what a buffer has on disk at one instant between two commits. Appends
// and all else go on meanwhile; what is removed stays until Close.
type Backup struct {
	BackupInfo
	e     *Engine
	files []backedUp
}

// BackupFile is a file of the data directory that is not the buffer's own.
type BackupFile struct {
	Name string
	Data []byte
}

// backedUp is one file of a backup.
type backedUp struct {
	name string // with slashes, below the data directory
	size int64
	data []byte // nil: it is read
}

// cutSegment is a segment at the instant of a backup.
type cutSegment struct {
	dir    string
	sealed bool
	logged int64 // bytes of its log; -1: all
}

// Backup makes durable what waits and takes down what there is then. One backup
// is written at a time: ErrBackingUp. The caller writes it and then closes it.
func (e *Engine) Backup(ctx context.Context, program string, besides []BackupFile) (*Backup, error) {
	b := &Backup{e: e, BackupInfo: BackupInfo{Program: program}}
	segs, records, err := e.hold(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	if err := b.list(segs, records, besides); err != nil {
		b.Close()
		return nil, fmt.Errorf("back up: %w", err)
	}
	return b, nil
}

// hold lets the committer take down, between two commits, which files there are,
// and has them kept.
func (e *Engine) hold(ctx context.Context, b *Backup) (segs []cutSegment, records []string, err error) {
	e.mu.Lock()
	busy := e.copying
	e.copying = true
	e.mu.Unlock()
	if busy {
		return nil, nil, ErrBackingUp
	}
	taken := make(chan struct{})
	cut := func() {
		e.commit()
		b.At = time.Now()
		e.mu.Lock()
		segs, records = e.holdAll()
		e.mu.Unlock()
		close(taken)
	}
	select {
	case e.between <- cut:
		<-taken
		err = e.Err()
	case <-ctx.Done():
		err = ctx.Err()
	case <-e.stop:
		err = ErrClosed
	case <-e.failed:
		err = e.Err()
	}
	if err != nil {
		b.Close()
	}
	return segs, records, err
}

// holdAll is what there is. Only the committer calls it, and it holds mu: no
// segment is half begun. What is to be removed, by a change that is durable, is not
// there any more.
func (e *Engine) holdAll() (segs []cutSegment, records []string) {
	var unsettled []uint64
	for _, s := range e.segments {
		if s.phase == removable {
			continue
		}
		s.held = true
		segs = append(segs, cutSegment{filepath.Base(s.seg.Dir), s.phase >= sealed, s.seg.Logged()})
		if s.records != nil {
			unsettled = append(unsettled, s.id)
		}
	}
	for _, s := range e.outcomeFiles {
		records = append(records, s.path)
	}
	for _, s := range e.answerFiles {
		records = append(records, s.path)
	}
	for _, t := range e.onceFiles {
		records = append(records, t.path, filterPath(t.path))
	}
	return segs, slices.DeleteFunc(records, func(path string) bool {
		return slices.ContainsFunc(unsettled, func(id uint64) bool { return recordsOfOne(path, id) })
	})
}

// recordsOfOne reports whether a file has the records of one segment alone. While that
// is being sealed a file that a crash left is replaced; a backup has its log instead.
func recordsOfOne(path string, id uint64) bool {
	if first, last, ok := onceSpan(path); ok {
		return first == id && last == id
	}
	return strings.HasPrefix(filepath.Base(path), fmt.Sprintf("%016x", id))
}

// list looks up how large the files are. The format comes last, so that what was
// restored in part is not taken for a buffer.
func (b *Backup) list(segs []cutSegment, records []string, besides []BackupFile) error {
	dir := b.e.cfg.Dir
	for _, s := range segs {
		if err := b.add(path.Join(s.dir, segment.LogFile), s.logged); err != nil {
			return err
		}
		names := []string{"MANIFEST", usedFile}
		if s.sealed {
			names = append(names, keysFile, indexFile)
		}
		for _, name := range names {
			if err := b.add(path.Join(s.dir, name), -1); err != nil && (name != keysFile || !errors.Is(err, fs.ErrNotExist)) {
				return err
			}
		}
	}
	for _, record := range records {
		name, err := filepath.Rel(dir, record)
		if err == nil {
			err = b.add(filepath.ToSlash(name), -1)
		}
		if err != nil {
			return err
		}
	}
	for _, f := range besides {
		b.files = append(b.files, backedUp{f.Name, int64(len(f.Data)), f.Data})
	}
	for _, name := range []string{namesFile, keyFile, formatFile} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && (name != namesFile || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
		if err == nil {
			b.files = append(b.files, backedUp{name, int64(len(data)), data})
		}
	}
	b.Files = len(b.files)
	b.Bytes = int64(trailerBytes + len(b.header()))
	for _, f := range b.files {
		b.Bytes += entryBytes(f.name, f.size)
	}
	return nil
}

// add takes a file of size bytes; -1: as many as it has.
func (b *Backup) add(name string, size int64) error {
	info, err := os.Stat(filepath.Join(b.e.cfg.Dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	if size < 0 {
		size = info.Size()
	}
	b.files = append(b.files, backedUp{name: name, size: size})
	return nil
}

// Write writes the backup, Bytes in all. It fails where the engine stops meanwhile.
// What was written is no backup then, and [CheckBackup] says so.
func (b *Backup) Write(ctx context.Context, w io.Writer) error {
	out := newBackupWriter(w)
	if _, err := out.w.Write(b.header()); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	for _, f := range b.files {
		if err := b.copyFile(ctx, out, f); err != nil {
			return fmt.Errorf("back up: %w", err)
		}
	}
	if err := out.trailer(); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

func (b *Backup) copyFile(ctx context.Context, out *backupWriter, x backedUp) error {
	if x.data != nil {
		return out.entry(x.name, x.size, bytes.NewReader(x.data))
	}
	f, err := os.Open(filepath.Join(b.e.cfg.Dir, filepath.FromSlash(x.name)))
	if err != nil {
		return err
	}
	defer f.Close()
	return out.entry(x.name, x.size, &whileRunning{ctx, b.e, f})
}

// whileRunning reads until a context is done or an engine stops.
type whileRunning struct {
	ctx context.Context
	e   *Engine
	r   io.Reader
}

func (w *whileRunning) Read(p []byte) (int, error) {
	select {
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	case <-w.e.stop:
		return 0, ErrClosed
	case <-w.e.failed:
		return 0, w.e.Err()
	default:
		return w.r.Read(p)
	}
}

// Close lets go of the files: what should have been removed meanwhile goes now, or
// at the next start where the engine stopped.
func (b *Backup) Close() {
	e := b.e
	e.mu.Lock()
	for _, s := range e.segments {
		s.held = false
	}
	e.copying = false
	late := e.late
	e.late = nil
	if e.stopped() != nil {
		late = nil // the directory may be another process's by now
	}
	e.mu.Unlock()
	signal(e.sweep)
	if err := e.removeRecords(late...); err != nil {
		e.log.Error("what is past its time stays", "err", err)
	}
}

// removeRecords removes files of records that are not known any more. Those that a
// backup may have to copy go at its end.
func (e *Engine) removeRecords(paths ...string) error {
	e.mu.Lock()
	if e.copying {
		e.late = append(e.late, paths...)
		e.mu.Unlock()
		return nil
	}
	e.mu.Unlock()
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove old records: %w", err))
		}
	}
	return errors.Join(errs...)
}
