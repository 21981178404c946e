package ship

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	stateVersion = 1
	// A file that is gone is remembered for so long, and so many are: it may come back
	// under a name that is followed.
	remember      = 24 * time.Hour
	maxRemembered = 1000
	// maxWaiting bounds what a state may say of batches under way: more bytes are nobody's.
	maxWaiting = 64 << 20
)

// ErrState is a state file that cannot be used.
var ErrState = errors.New("is no state of forebay ship")

// ErrInUse is a state file that another process uses.
var ErrInUse = errors.New("in use")

// entry is what is remembered of a file.
type entry struct {
	Name string `json:"name"` // that its batches have
	Path string `json:"path"`
	place
	HeadBytes int        `json:"head_bytes"`
	HeadSum   string     `json:"head_sha256"`
	Acked     int64      `json:"acked"`             // up to here it was taken
	Waiting   []int64    `json:"waiting,omitempty"` // where the batches after that end
	GoneAt    *time.Time `json:"gone_at,omitempty"`
}

// read is up to where the file is in batches.
func (e *entry) read() int64 {
	if n := len(e.Waiting); n > 0 {
		return e.Waiting[n-1]
	}
	return e.Acked
}

// same compares all that changes. Ends of batches are never changed in place.
func (e entry) same(o entry) bool {
	return e.Name == o.Name && e.Path == o.Path && e.HeadBytes == o.HeadBytes && e.Acked == o.Acked &&
		slices.Equal(e.Waiting, o.Waiting) && goneAt(e).Equal(goneAt(o))
}

func (e *entry) sound() bool {
	at := e.Acked
	for _, end := range e.Waiting {
		if end <= at {
			return false
		}
		at = end
	}
	return e.Name != "" && e.Acked >= 0 && at-e.Acked <= maxWaiting && e.HeadBytes >= 0 && e.HeadBytes <= headBytes
}

// state is the file that remembers.
type state struct {
	path string
	lock *os.File
	last []entry // what it holds; nil: that is not known
}

type stateDocument struct {
	Version int     `json:"version"`
	Files   []entry `json:"files"`
}

// openState takes the state for this process. found is false where there was none.
func openState(path string) (s *state, entries []entry, found bool, err error) {
	s = &state{path: path}
	if s.lock, err = os.OpenFile(s.lockPath(), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, nil, false, fmt.Errorf("state: %w", err)
	}
	if err = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		entries, found, err = readState(path)
	} else if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("state %s is %w by another forebay ship", path, ErrInUse)
	}
	if err != nil {
		s.close()
		return nil, nil, false, err
	}
	return s, entries, found, nil
}

func readState(path string) (entries []entry, found bool, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("state: %w", err)
	}
	var doc stateDocument
	if err := json.Unmarshal(raw, &doc); err != nil || doc.Version != stateVersion {
		return nil, false, fmt.Errorf("%s %w", path, ErrState)
	}
	for _, e := range doc.Files {
		if !e.sound() {
			return nil, false, fmt.Errorf("%s %w: what it says of %q cannot be", path, ErrState, e.Path)
		}
	}
	return doc.Files, true, nil
}

func (s *state) lockPath() string { return s.path + ".lock" }

func (s *state) close() { _ = s.lock.Close() }

// save puts the entries on disk, all or none of them. Without a change it does nothing.
func (s *state) save(entries []entry) error {
	if s.last != nil && slices.EqualFunc(entries, s.last, entry.same) {
		return nil
	}
	s.last = nil
	raw, err := json.Marshal(stateDocument{Version: stateVersion, Files: entries})
	if err != nil {
		return err
	}
	if err := writeSynced(s.path+".new", raw); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := os.Rename(s.path+".new", s.path); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	s.last = entries
	return nil
}

func writeSynced(path string, raw []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// remembered leaves out what has been gone for long, or too much of it.
func remembered(gone []entry, now time.Time) []entry {
	gone = slices.DeleteFunc(gone, func(e entry) bool { return e.GoneAt != nil && now.Sub(*e.GoneAt) > remember })
	slices.SortStableFunc(gone, func(a, b entry) int { return goneAt(a).Compare(goneAt(b)) })
	return gone[max(0, len(gone)-maxRemembered):]
}

func goneAt(e entry) time.Time {
	if e.GoneAt == nil {
		return time.Time{}
	}
	return *e.GoneAt
}
