package policies

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// File is one policy file.
type File struct {
	Name string // as mistakes name it
	Data []byte
}

// maxFiles bounds how many files make one policy.
const maxFiles = 1000

// Load reads the files that paths name as one policy: their lists are joined in
// the order of the file names. It expands globs itself; a path that matches
// nothing is an error, so that a wrong directory is no empty policy. What is wrong
// inside the files, calendar files included, comes back as Errors, all of it; a
// policy file that cannot be read as an error that wraps the cause.
func Load(paths []string) (*Set, error) {
	set, _, err := load(paths, here(false))
	return set, err
}

// LoadOffline is Load for those who look at a policy and do not run it: a secret
// or a key file that is not there comes back as a warning, with mistakes or without.
func LoadOffline(paths []string) (set *Set, missing Errors, err error) {
	return load(paths, here(true))
}

func load(paths []string, o *outside) (set *Set, missing Errors, err error) {
	files, err := readAll(paths)
	if err != nil {
		return nil, nil, err
	}
	set, found, _ := parseWith(files, o)
	missing = found.list(found.warnings, Warning)
	if mistakes := found.errors(); len(mistakes) > 0 {
		return nil, missing, mistakes
	}
	return set, missing, nil
}

// Files returns the names of all that a policy is read from: the files that paths
// match, and the calendar, secret and key files that these name, there or not. A
// policy with mistakes has them too, so that mending a calendar is seen. An error
// is one of Load.
func Files(paths []string) ([]string, error) {
	files, err := readAll(paths)
	if err != nil {
		return nil, err
	}
	o := here(false)
	_, _, calendars := parseWith(files, o)
	names := o.named
	for _, f := range append(files, calendars...) {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// readAll reads the policy files.
func readAll(paths []string) ([]File, error) {
	names, err := expand(paths)
	if err != nil {
		return nil, err
	}
	files := make([]File, len(names))
	for i, name := range names {
		data, err := readFile(name)
		if err != nil {
			return nil, fmt.Errorf("read policy %s: %w", name, err)
		}
		files[i] = File{Name: name, Data: data}
	}
	return files, nil
}

// expand resolves globs to sorted names, each once.
func expand(paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, errors.New("no policy files are named")
	}
	var names []string
	for _, path := range paths {
		matches, err := filepath.Glob(path)
		if err != nil {
			return nil, fmt.Errorf("policy path %s: %w", path, err)
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("policy path %s: %w", path, os.ErrNotExist)
		}
		names = append(names, matches...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%d policy files match; at most %d make one policy", len(names), maxFiles)
	}
	return names, nil
}

// readFile reads a policy or calendar file, at most one byte more than it may have.
func readFile(name string) ([]byte, error) {
	// Before Open: that would wait for the writer of a named pipe.
	info, err := os.Stat(name)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1))
}

// Parse compiles files as one policy. It returns a Set, or every mistake that it
// found, in the order of the files and their lines; never both. Calendars and what
// else it names are read from the disk, relative to the names of the files.
func Parse(files []File) (*Set, Errors) {
	set, found, _ := parseWith(files, here(false))
	if mistakes := found.errors(); len(mistakes) > 0 {
		return nil, mistakes
	}
	return set, nil
}

// parseWith reads files and what they refer to. With mistakes found, the Set is
// what could be made of them, and not for use. It returns the calendar files too.
func parseWith(files []File, o *outside) (*Set, *findings, []File) {
	found := &findings{order: make(map[*source]int, len(files))}
	zones, calendars := newZones(), newCalendars(o)
	all := draft{unread: make(map[string]bool)}
	readable := true
	sources := make([]*source, len(files))
	for i, f := range files {
		sources[i] = &source{name: f.Name}
		found.order[sources[i]] = i // calendar files come after all of them
	}
	for i, f := range files {
		root := parseYAML(f, sources[i], found)
		if root == nil {
			readable = false
			continue
		}
		policyFile.read(value{&decoder{sources[i], found, zones, calendars}, root, "a policy"}, &all)
	}
	// What an unreadable file defines would look undefined in the others.
	set := link(&all, found, readable)
	// Secrets are no part of the hash: it is shown, and would confirm a guess.
	set.Hash = hash(append(slices.Clip(files), calendars.files...))
	return set, found, calendars.files
}

func hash(files []File) string {
	h := sha256.New()
	var size [8]byte
	for _, f := range files {
		// The length keeps two files apart from one that holds both.
		binary.BigEndian.PutUint64(size[:], uint64(len(f.Data)))
		h.Write(size[:])
		h.Write(f.Data)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}
