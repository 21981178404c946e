package policies

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxSecretBytes bounds a secret, and what is read of its file.
const maxSecretBytes = 64 << 10

// outside is what a policy refers to and does not hold: files and the environment.
type outside struct {
	read   func(name string) ([]byte, error)
	lookup func(variable string) (string, bool)
	mode   func(name string) fs.FileMode // of a file; 0, and nil, where that cannot be told
	// offline says that the policy is only looked at, perhaps on another machine:
	// what is missing here is a warning.
	offline bool
	// named are the files that were looked for, calendars aside.
	named []string
}

// here is this machine.
func here(offline bool) *outside {
	return &outside{read: readFile, lookup: os.LookupEnv, mode: modeOf, offline: offline}
}

func modeOf(name string) fs.FileMode {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Mode()
}

// missing reports a file or variable that is not there.
func (v value) missing(hint, format string, args ...any) {
	if v.outside.offline {
		v.found.warn(v.place(), hint, fmt.Sprintf(format, args...))
		return
	}
	v.fail(hint, format, args...)
}

// beside returns the path of a file that is named relative to the policy file.
func (v value) beside(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(v.src.name), filepath.FromSlash(name))
}

// file reads the name of a file that has to be there when the server starts, and
// returns what it holds.
func (v value) file(to *string) (data []byte, ok bool) {
	s, ok := v.str()
	if !ok {
		return nil, false
	}
	if s == "" {
		v.fail("write its path", "%s is empty", v.name)
		return nil, false
	}
	*to = v.beside(s)
	return v.content(*to)
}

// content reads a file that must not be empty. What is wrong with it is a warning
// offline, and reported without a word of what is in it.
func (v value) content(name string) ([]byte, bool) {
	v.outside.named = append(v.outside.named, name)
	data, err := v.outside.read(name)
	if err == nil && len(data) == 0 {
		err = errors.New("the file is empty")
	}
	if err != nil {
		v.missing("it has to be there, and readable, when the server starts", "%s: file %s: %v", v.name, quote(name), err)
		return nil, false
	}
	return data, true
}
