package segment

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Reserve allocates size bytes for f, or fails with ENOSPC.
func Reserve(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// sync makes the log durable, and it alone: what Badger keeps beside it, its places
// and their write-ahead log, is needed by no reader and no start.
func (s *Segment) sync() error {
	for {
		err := unix.Fdatasync(int(s.log.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// mapping is where Badger has mapped a log.
type mapping struct{ from, to uintptr }

// adviseRandom keeps the kernel from backing the mappings of the files in dir
// with large folios, of which every msync would write up to 1 MiB for a page.
// Badger does not hand its mappings out, so they are found by path. It returns that of
// the log.
func adviseRandom(dir string) (log mapping, err error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs) // as the kernel names them
	}
	if err != nil {
		return log, fmt.Errorf("find mappings: %w", err)
	}
	found := 0
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return log, fmt.Errorf("find mappings: %w", err)
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		line := lines.Text()
		i := strings.IndexByte(line, '/')
		if i < 0 || filepath.Dir(line[i:]) != abs {
			continue
		}
		var m mapping
		if _, err := fmt.Sscanf(line, "%x-%x", &m.from, &m.to); err != nil {
			return log, fmt.Errorf("read mapping %q: %w", line, err)
		}
		if err := m.advise(0, m.len(), unix.MADV_RANDOM); err != nil {
			return log, err
		}
		if filepath.Base(line) == LogFile {
			log = m
		}
		found++
	}
	if err := lines.Err(); err != nil || found > 0 {
		return log, err
	}
	return log, fmt.Errorf("find mappings: none of %s", abs)
}

func (m mapping) len() int64 { return int64(m.to - m.from) }

func (m mapping) advise(from, to int64, advice uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from+uintptr(from), uintptr(to-from), advice); errno != 0 {
		return fmt.Errorf("madvise: %w", errno)
	}
	return nil
}

// letGo takes what was written from one place of the log to another out of the mapping
// that it was written through, at once. It stays in the page cache, and dirty. A sync
// would otherwise write-protect page after page, each with an interrupt to all processors
// that run the process: half of what it costs. Beyond the end of the mapping nothing is
// done: Badger may have moved it then.
func (m mapping) letGo(from, to int64) error {
	const few = 16 << 10
	page := int64(os.Getpagesize())
	from &^= page - 1
	if to = (to + page - 1) &^ (page - 1); to-from < few || to >= m.len() {
		return nil
	}
	if err := m.advise(from, to, unix.MADV_DONTNEED); !errors.Is(err, unix.EINVAL) { // as pages are that are locked
		return err
	}
	return nil
}

// noReadahead keeps the kernel from caching pages that were reserved and never
// written: once cached they count as data, and a scan would read all of them.
func noReadahead(f *os.File) error {
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		return fmt.Errorf("fadvise: %w", err)
	}
	return nil
}

// nextData is the offset of the first byte at or after at that was written.
func nextData(f *os.File, at, size int64) (int64, error) {
	if at >= size {
		return size, nil
	}
	next, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, nil // a hole up to the end
	}
	if err != nil {
		return at, nil // a file system without holes is read whole
	}
	return next, nil
}

// Free is what the volume of path has left for this process, in bytes.
func Free(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Promise says what the file system of path is known to hold of our promises.
// A file system that cannot hold them is an error.
func Promise(path string) (warning string, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "", fmt.Errorf("file system of %s: %w", path, err)
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC:
		return "", nil
	case unix.NFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC:
		return "", fmt.Errorf("%s is on NFS or FUSE, where a shared mapping is not safe; use a local ext4 or XFS", path)
	case unix.TMPFS_MAGIC:
		return "tmpfs: nothing survives a power cut or a restart of the machine", nil
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs: a power cut may lose what was answered", nil
	}
	return fmt.Sprintf("file system type %#x is not one of those tried (ext4, XFS): a power cut may lose what was answered", st.Type), nil
}

// DiskBytes is what a file takes on disk.
func DiskBytes(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
