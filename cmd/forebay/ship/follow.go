package ship

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// packed are the endings of what rotation compresses.
var packed = []string{".gz", ".zst", ".bz2", ".xz", ".lz4"}

// follower knows the files: which there are, and which there were.
type follower struct {
	cfg   *Config
	own   []string // files that are the process's own, and never followed
	files []*file
	at    map[place]*file // those that are read, as of the last scan and since
	known []entry         // what is not open
	said  map[string]bool // what is told once
	lost  int64           // bytes that are known to be lost
	begun bool            // the first scan is over
	atEnd bool            // files of the first scan begin at their end
}

// scan looks for names: new files, renamed ones, and those that are gone.
func (w *follower) scan(now time.Time) error {
	seen := map[*file]bool{}
	w.at = make(map[place]*file, len(w.files))
	for _, f := range w.files {
		if f.h != nil {
			w.at[f.place] = f
		}
	}
	for _, pattern := range w.cfg.Patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("%s: %w", pattern, err)
		}
		for _, path := range paths {
			if f := w.meet(path, now); f != nil {
				seen[f] = true
			}
		}
		if len(w.files) >= maxFiles && w.cfg.Once {
			return fmt.Errorf("%s: over %d files are too many at once", pattern, maxFiles)
		}
	}
	if !w.begun {
		w.begun = true
		w.findRenamed(now)
	}
	for _, f := range w.files {
		if !seen[f] && f.gone.IsZero() {
			f.gone = now
		}
	}
	return nil
}

// meet returns the file at a path; nil: there is none to follow.
func (w *follower) meet(path string, now time.Time) *file {
	if slices.Contains(w.own, path) {
		return nil
	}
	if slices.Contains(packed, filepath.Ext(path)) {
		w.once(path + " is compressed, and left out")
		return nil
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.once(fmt.Sprintf("cannot look at %s: %v", path, err))
		}
		return nil
	}
	if f := w.at[placeOf(info)]; f != nil {
		f.Path, f.gone = path, time.Time{}
		return f
	}
	if len(w.files) >= maxFiles {
		w.once(fmt.Sprintf("%d files are open, others have to wait until one is gone", maxFiles))
		return nil
	}
	f, err := w.open(path, now)
	if err != nil {
		w.once(fmt.Sprintf("cannot read %v", err))
		return nil
	}
	return f
}

// open begins to follow a file, where it was left if it is known.
func (w *follower) open(path string, now time.Time) (*file, error) {
	h, info, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	f := &file{h: h, changed: now}
	f.place = placeOf(info)
	if _, err := f.readHead(); err != nil {
		_ = h.Close()
		return nil, err
	}
	i := slices.IndexFunc(w.known, func(e entry) bool {
		return e.place == f.place && e.HeadBytes <= len(f.head) && e.HeadSum == sum(f.head[:e.HeadBytes]) && e.read() <= info.Size()
	})
	head := f.entry
	if i >= 0 {
		f.entry = w.known[i]
		w.known = slices.Delete(w.known, i, i+1)
	} else {
		f.Name = newName()
		if w.atEnd && !w.begun {
			if f.Acked, err = lastLine(h, info.Size(), w.cfg.MaxLine); err != nil {
				_ = h.Close()
				return nil, err
			}
		}
	}
	f.Path, f.GoneAt, f.HeadBytes, f.HeadSum = path, nil, head.HeadBytes, head.HeadSum
	w.files = append(w.files, f)
	w.at[f.place] = f
	return f, nil
}

// lastLine returns where the last line begins, which is still being written, unless
// the file ends with the end of a line.
func lastLine(h io.ReaderAt, size int64, maxLine int) (int64, error) {
	buf := make([]byte, min(size, int64(maxLine)))
	if _, err := h.ReadAt(buf, size-int64(len(buf))); err != nil {
		return 0, err
	}
	return size - int64(len(buf)-bytes.LastIndexByte(buf, '\n')-1), nil
}

// findRenamed looks for files that were renamed while nobody followed them, in the
// folders where they were.
func (w *follower) findRenamed(now time.Time) {
	folders := map[string]map[place]string{}
	for _, e := range slices.Clone(w.known) {
		if e.GoneAt != nil {
			continue
		}
		dir := filepath.Dir(e.Path)
		if folders[dir] == nil {
			folders[dir] = places(dir)
		}
		if path, ok := folders[dir][e.place]; ok && w.at[e.place] == nil {
			if f, err := w.open(path, now); err == nil {
				if f.gone = now; f.Name == e.Name {
					continue
				}
				w.drop(f) // another file has the number
			}
		}
		w.missing(e.Name, now)
	}
}

// places are the files of a folder.
func places(dir string) map[place]string {
	found := map[place]string{}
	list, _ := os.ReadDir(dir) // what cannot be listed has nothing
	for _, d := range list {
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			found[placeOf(info)] = filepath.Join(dir, d.Name())
		}
	}
	return found
}

// missing gives up a file that cannot be found again.
func (w *follower) missing(name string, now time.Time) {
	for i := range w.known {
		if e := &w.known[i]; e.Name == name {
			w.cfg.Say(fmt.Sprintf("%s is gone, or begins with something else, since it was read up to byte %d: what came after that is lost, if there was any", e.Path, e.Acked))
			w.lost += e.read() - e.Acked
			e.Waiting, e.GoneAt = nil, &now
		}
	}
}

// check looks at an open file. One that was cut off or written anew goes on as
// another one.
func (w *follower) check(f *file, now time.Time) {
	before := f.size
	cut, err := f.look(now)
	if err == nil && !cut && f.size != before {
		var same bool
		same, err = f.readHead()
		cut = err == nil && !same
	}
	if err != nil {
		w.once(fmt.Sprintf("cannot read %v", err))
		return
	}
	if cut {
		w.restart(f, before, now)
	}
}

// restart begins a file's new content. What was read of the old one is sent still.
func (w *follower) restart(f *file, before int64, now time.Time) {
	if n := before - f.read(); n > 0 {
		w.cfg.Say(fmt.Sprintf("%s was truncated with %d bytes that were not read yet: they are lost", f.Path, n))
		w.lost += n
	}
	if len(f.Waiting) > 0 && f.held == nil {
		w.cfg.Say(fmt.Sprintf("%s was truncated with %d bytes that were to be sent again: they are lost", f.Path, f.read()-f.Acked))
		w.lost += f.read() - f.Acked
		f.Waiting = nil
	}
	next := &file{h: f.h, changed: now}
	next.entry = entry{Name: newName(), Path: f.Path, place: f.place}
	next.gone = f.gone
	f.h = nil
	w.files = append(w.files, next)
	if _, err := next.readHead(); err != nil {
		w.once(fmt.Sprintf("cannot read %v", err))
	}
	_, _ = next.look(now) // the next look says what is wrong
}

// tidy closes what has nothing more to give.
func (w *follower) tidy(now time.Time) {
	for _, f := range slices.Clone(w.files) {
		switch {
		case !f.idle():
		case f.h == nil: // its place has a new file
			w.drop(f)
		case !f.gone.IsZero() && now.Sub(f.gone) >= w.cfg.Linger && now.Sub(f.changed) >= w.cfg.Linger:
			w.drop(f)
			f.GoneAt = &now
			w.known = append(w.known, f.entry)
		}
	}
	w.known = remembered(w.known, now)
}

// drop closes a file.
func (w *follower) drop(f *file) {
	if f.h != nil {
		_ = f.h.Close()
		delete(w.at, f.place)
	}
	w.files = slices.DeleteFunc(w.files, func(g *file) bool { return g == f })
}

// entries is all that is to be remembered.
func (w *follower) entries() []entry {
	all := make([]entry, 0, len(w.files)+len(w.known))
	for _, f := range w.files {
		all = append(all, f.entry)
	}
	return append(all, w.known...)
}

// once says something the first time.
func (w *follower) once(text string) {
	if w.said[text] || len(w.said) >= maxFiles {
		return
	}
	w.said[text] = true
	w.cfg.Say(text)
}
