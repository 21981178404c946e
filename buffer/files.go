package buffer

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"forebay/buffer/segment"
)

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
	tmp := path + ".tmp"
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
		return fmt.Errorf("write %s: %w", path, err)
	}
	return segment.SyncDir(filepath.Dir(path))
}
