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
// inside the files comes back as Errors, all of it; a file that cannot be read as
// an error that wraps the cause.
func Load(paths []string) (*Set, error) {
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
	set, mistakes := Parse(files)
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	return set, nil
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

// readFile reads at most one byte more than Parse takes.
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
// found, in the order of the files and their lines; never both.
func Parse(files []File) (*Set, Errors) {
	found := &findings{order: make(map[*source]int, len(files))}
	zones := newZones()
	all := draft{unread: make(map[string]bool)}
	readable := true
	for i, f := range files {
		src := &source{name: f.Name}
		found.order[src] = i
		root := parseYAML(f, src, found)
		if root == nil {
			readable = false
			continue
		}
		policyFile.read(value{&decoder{src, found, zones}, root, "a policy"}, &all)
	}
	// What an unreadable file defines would look undefined in the others.
	set := link(&all, found, readable)
	if es := found.errors(); len(es) > 0 {
		return nil, es
	}
	set.Hash = hash(files)
	return set, nil
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
