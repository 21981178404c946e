package buffer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"forebay/buffer/segment"
)

// Restore makes a data directory of a backup, which it reads to the end; durable
// when it returns. The directory must not exist, or be empty. After an error there
// is nothing in it, and it is not there if it was not before. done, if not nil, is
// told the bytes of the backup that were read, and of how many.
func Restore(ctx context.Context, from io.Reader, dir string, done func(n, of int64)) (BackupInfo, error) {
	b, err := openBackup(from)
	if err != nil {
		return BackupInfo{}, err
	}
	isThere, err := emptyDir(dir)
	if err != nil {
		return BackupInfo{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return BackupInfo{}, fmt.Errorf("restore: %w", err)
	}
	r := &restoring{backupReader: b, dir: dir, made: map[string]bool{}, done: done}
	if err := r.all(ctx); err != nil {
		return BackupInfo{}, errors.Join(err, r.undo(isThere))
	}
	return b.BackupInfo, nil
}

// emptyDir reports whether a directory is there, and fails if something is in it.
// A fresh volume has lost+found.
func emptyDir(dir string) (isThere bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(dir); err == nil {
			return false, fmt.Errorf("%s is a link that leads nowhere", dir)
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		if entry.Name() != "lost+found" {
			return true, fmt.Errorf("%s is not empty: it has %s; restore into a new directory", dir, entry.Name())
		}
	}
	return true, nil
}

// restoring is a restore under way.
type restoring struct {
	*backupReader
	dir    string
	made   map[string]bool // folders, to be synced
	format []byte          // written last: a directory without it is no buffer
	done   func(n, of int64)
}

func (r *restoring) all(ctx context.Context) error {
	for {
		name, size, err := r.next()
		if err != nil {
			return err
		}
		if size < 0 {
			break
		}
		if err := r.file(ctx, name, size); err != nil {
			return err
		}
	}
	if r.format == nil {
		return fmt.Errorf("%w: it has no %s", ErrBackup, formatFile)
	}
	for sub := range r.made {
		if err := segment.SyncDir(sub); err != nil {
			return err
		}
	}
	if err := segment.SyncDir(r.dir); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(r.dir, formatFile), r.format); err != nil {
		return err
	}
	return segment.SyncDir(filepath.Dir(filepath.Clean(r.dir)))
}

// file writes one file, durable but for its name.
func (r *restoring) file(ctx context.Context, name string, size int64) error {
	local := filepath.FromSlash(name)
	if !filepath.IsLocal(local) || strings.Count(name, "/") > 1 {
		return fmt.Errorf("%w: it has a file %q, which would not be in the directory", ErrBackup, name)
	}
	if name == formatFile {
		var text strings.Builder
		err := r.content(&text, name, min(size, 1<<10))
		r.format = []byte(text.String())
		return err
	}
	path := filepath.Join(r.dir, local)
	if sub := filepath.Dir(path); sub != filepath.Clean(r.dir) && !r.made[sub] {
		if err := os.Mkdir(sub, 0o700); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		r.made[sub] = true
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	err = r.content(untilDone{ctx, f, r}, name, size)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// undo removes what was written.
func (r *restoring) undo(isThere bool) error {
	if !isThere {
		return os.RemoveAll(r.dir)
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(x os.DirEntry) bool { return x.Name() == "lost+found" })
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.dir, entry.Name())))
	}
	return err
}

// untilDone writes until a context is done, and says how far it is.
type untilDone struct {
	ctx context.Context
	to  io.Writer
	r   *restoring
}

func (w untilDone) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, fmt.Errorf("restore: %w", err)
	}
	if w.r.done != nil {
		w.r.done(w.r.n, w.r.Bytes)
	}
	n, err := w.to.Write(p)
	if err != nil {
		err = fmt.Errorf("restore: %w", err)
	}
	return n, err
}
