//go:build !linux

package segment

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Reserve does nothing here: a full disk ends the process, and what was
// answered is recovered at the next start.
func Reserve(*os.File, int64) error { return nil }

// sync makes the log durable: by way of Badger's mapping, which fsync of the file is
// not known to cover here.
func (s *Segment) sync() error { return s.db.Sync() }

// mapping is nothing here.
type mapping struct{}

func adviseRandom(string) (mapping, error) { return mapping{}, nil }

func (mapping) letGo(int64, int64) error { return nil }

func noReadahead(*os.File) error { return nil }

func nextData(_ *os.File, at, _ int64) (int64, error) { return at, nil }

// Free is what the volume of path has left for this process, in bytes.
func Free(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// Promise warns: production is Linux.
func Promise(string) (warning string, err error) {
	return "not Linux: no space is reserved, and a power cut may lose what was answered", nil
}

// DiskBytes is what a file takes on disk, at most.
func DiskBytes(info os.FileInfo) int64 { return info.Size() }
