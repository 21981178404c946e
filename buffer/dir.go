package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"forebay/buffer/segment"
)

const (
	formatFile  = "FORMAT"
	namesFile   = "NAMES"
	keyFile     = "KEY" // of receipt ids: who has it can make ids, nothing else; and of what is encrypted
	lockFile    = "LOCK"
	ballastFile = "BALLAST"

	formatName = "forebay buffer"
	formatNew  = " (new)" // until the first segment is there
	// Format is the version of what is on disk. A program refuses any other: before 2,
	// every message stored a head of its own.
	Format = 2
)

// prepareDir checks the directory, locks it, and makes it where it is new.
// Apart from the lock nothing is changed in a directory that is refused.
func (e *Engine) prepareDir() error {
	dir := e.cfg.Dir
	if dir == "" {
		return errors.New("no data directory is given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	names, err := contents(dir)
	if err != nil {
		return err
	}
	if err := e.takeLock(); err != nil {
		return err
	}
	if e.isNew, err = checkFormat(dir, names); err != nil {
		return err
	}
	warning, err := segment.Promise(dir)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	if warning != "" {
		e.log.Warn("data directory", "dir", dir, "file_system", warning)
	}
	if e.isNew && !names[formatFile] {
		if err := createDir(dir, e.cfg.MasterKeys); err != nil {
			return fmt.Errorf("data directory %s: %w", dir, err)
		}
	}
	return e.loadKey()
}

// refusal is why a start refuses a directory in which something is missing or damaged.
type refusal struct{ error }

// contents is the names in a directory that are the buffer's.
func contents(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	names := map[string]bool{}
	for _, entry := range entries {
		names[entry.Name()] = true
	}
	return names, nil
}

// checkFormat says whether a directory is new: it has never had a segment for
// sure.
func checkFormat(dir string, names map[string]bool) (isNew bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, formatFile))
	held := oneSegment(names)
	if errors.Is(err, fs.ErrNotExist) {
		if held != "" {
			return false, refusal{fmt.Errorf("data directory %s is half deleted: it has %s but no %s; restore it, or start with an empty directory", dir, held, formatFile)}
		}
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("data directory: %w", err)
	}
	text, isNew := strings.CutSuffix(strings.TrimSpace(string(b)), formatNew)
	version, ok := strings.CutPrefix(text, formatName+" ")
	n, err := strconv.Atoi(version)
	if (!ok || err != nil) && held != "" {
		return false, refusal{fmt.Errorf("data directory %s: %s is damaged; write \"%s %d\" into it if this program wrote the directory, or restore a backup", dir, formatFile, formatName, Format)}
	}
	if !ok || err != nil {
		return false, fmt.Errorf("data directory %s: %s is not that of a forebay buffer", dir, formatFile)
	}
	if n > Format {
		return false, fmt.Errorf("data directory %s has format %d, this program reads %d; start the newer program that wrote it", dir, n, Format)
	}
	if n < Format {
		return false, fmt.Errorf("data directory %s has format %d, this program reads %d; drain it with the older program that wrote it, then start with an empty directory", dir, n, Format)
	}
	half := "data directory %s is half deleted: %s; restore it, or start with an empty directory"
	if !names[keyFile] {
		return false, refusal{fmt.Errorf(half, dir, keyFile+" is missing")}
	}
	begun := false
	for name := range names {
		begun = begun || strings.HasPrefix(name, "seg-")
	}
	if !begun && !isNew {
		return false, refusal{fmt.Errorf(half, dir, "all of its segments are missing")}
	}
	return isNew, nil
}

// oneSegment is the name of a segment, sound or put aside, if there is any.
func oneSegment(names map[string]bool) string {
	for name := range names {
		if strings.HasPrefix(name, "seg-") || strings.HasPrefix(name, "quarantine-") {
			return name
		}
	}
	return ""
}

// createDir writes the format last: a directory without it is begun again.
func createDir(dir string, masters []MasterKey) error {
	for _, sub := range []string{outcomeDir, onceDirName} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	key := newSecrets(len(masters) > 0)
	if err := writeKey(dir, &key, masters); err != nil {
		return err
	}
	if err := writeFormat(dir, formatNew); err != nil {
		return err
	}
	return segment.SyncDir(filepath.Dir(dir))
}

func writeFormat(dir, state string) error {
	return writeFile(filepath.Join(dir, formatFile), fmt.Appendf(nil, "%s %d%s\n", formatName, Format, state))
}

// takeLock keeps a second process out. The kernel lets go of it when the
// process ends, however that happens.
func (e *Engine) takeLock() error {
	path := filepath.Join(e.cfg.Dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("data directory %s is not writable: %w", e.cfg.Dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(path) // only to name the other process
		reader := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) && reader { // the number is an older one's
			return fmt.Errorf("data directory %s is %w: a verify reads it", e.cfg.Dir, ErrInUse)
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("data directory %s is %w by process %s", e.cfg.Dir, ErrInUse, strings.TrimSpace(string(owner)))
		}
		return fmt.Errorf("lock data directory %s: %w", e.cfg.Dir, err)
	}
	e.lock = f
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("data directory %s is not writable: %w", e.cfg.Dir, err)
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		return fmt.Errorf("data directory %s is not writable: %w", e.cfg.Dir, err)
	}
	return nil
}

func (e *Engine) unlock() {
	if e.lock != nil {
		_ = e.lock.Close() // lets go of the lock
		e.lock = nil
	}
}

// holdBallast keeps half a segment of space back, which a start on a full disk
// gives up so that recovery has somewhere to write, and so does the change that
// lets segments go.
func (e *Engine) holdBallast() error {
	path := filepath.Join(e.cfg.Dir, ballastFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("ballast: %w", err)
	}
	defer f.Close()
	if err := segment.Reserve(f, e.cfg.SegmentBytes/2); err != nil {
		_ = f.Truncate(0) // what could be had is given back; the error is the reservation's
		return fmt.Errorf("ballast: %w", err)
	}
	return nil
}

func (e *Engine) dropBallast() error {
	err := os.Remove(filepath.Join(e.cfg.Dir, ballastFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
