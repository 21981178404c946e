package buffer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// temporary ends the name of a file that is being written.
const temporary = ".tmp"

// removeTemporary removes what a crash left of files that were being written.
func removeTemporary(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+temporary))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove what a crash left: %w", err)
		}
	}
	return nil
}

// mapChecked checks a file that is one block, by reads, and maps it: a page that the
// disk has to give while it is checked would hold up a processor. The caller unmaps
// data, of which payload is a part; a page may still fail later, as a fault where it is read.
func mapChecked(c *block.Coder, path string) (h block.Header, data, payload []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return h, nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return h, nil, nil, err
	}
	if h, err = c.Check(f, info.Size()); err != nil {
		return h, nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if h.Flags&block.Encrypted != 0 && c.Keys == nil {
		return h, nil, nil, fmt.Errorf("%w: %s is encrypted, and the directory is not", block.ErrDamaged, path)
	}
	if data, err = segment.Map(path); err != nil {
		return h, nil, nil, err
	}
	if int64(len(data)) != info.Size() {
		return h, nil, nil, errors.Join(fmt.Errorf("%s: %w: it changed meanwhile", path, block.ErrDamaged), segment.Unmap(data))
	}
	return h, data, data[block.HeaderSize:], nil
}

// writeFile replaces a file whole, durable when it returns.
func writeFile(path string, b []byte) error {
	return writeFileFrom(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// writeFileFrom is writeFile with what a function writes.
func writeFileFrom(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	tmp := path + temporary
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	w := bufio.NewWriter(f)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // or the next start does
		return fmt.Errorf("write %s: %w", path, err)
	}
	return segment.SyncDir(filepath.Dir(path))
}
