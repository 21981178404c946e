package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"forebay/buffer/block"
)

// checkKey refuses a key that is not the one the directory was written with:
// checksums start from it, and all that is stored would be put aside as damaged.
// Names and segments are two witnesses.
func (e *Engine) checkKey(segs []*foundSegment) error {
	damaged := false
	for _, f := range segs {
		if f.index != nil || len(f.scan) > 0 {
			return nil
		}
		damaged = damaged || f.Damaged > 0 || f.Torn
	}
	if !damaged {
		return nil
	}
	file, err := os.ReadFile(filepath.Join(e.cfg.Dir, namesFile))
	if err != nil {
		return nil // there are none, or who needs them says so
	}
	if _, _, err := e.comp.Open(file); err == nil {
		return nil
	}
	return fmt.Errorf("data directory %s: nothing in it can be read with its %s; restore that from a backup", e.cfg.Dir, keyFile)
}

// writeNames keeps the names of streams and drains; durable when it returns. A
// policy that changes rates alone has to take effect on a full disk: there, names
// that are kept already need not be written.
func (e *Engine) writeNames(names ops) error {
	path := filepath.Join(e.cfg.Dir, namesFile)
	h := block.Header{Kind: block.Control, Count: 1, RawLen: uint32(len(names.parts[0]))}
	err := writeFile(path, e.comp.Seal(nil, &h, names.parts[0]))
	if errors.Is(err, syscall.ENOSPC) && e.keepsNames(path, names) {
		e.log.Warn("the disk is full; the names of streams and drains are those already kept", "err", err)
		return nil
	}
	return err
}

// keepsNames reports whether a file has the same streams and drains.
func (e *Engine) keepsNames(path string, names ops) bool {
	file, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	_, payload, err := e.comp.Open(file)
	if err != nil {
		return false
	}
	kept, err := namesOf(string(payload))
	if err != nil {
		return false
	}
	wanted, err := namesOf(string(names.parts[0]))
	return err == nil && slices.Equal(kept, wanted)
}

func namesOf(payload string) (names []string, err error) {
	err = eachOp(payload, func(op *operation) error {
		names = append(names, fmt.Sprintf("%d %d %d %s", op.code, op.num, op.stream, op.name))
		return nil
	})
	return names, err
}

// readNames makes streams and drains known whose change was damaged. What was
// dropped since, by a change that can be read, stays dropped. There are no names
// before the first Configure.
func (e *Engine) readNames(dropped map[uint32]bool) error {
	b, err := os.ReadFile(filepath.Join(e.cfg.Dir, namesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	_, payload, err := e.comp.Open(b)
	if err == nil {
		err = eachOp(string(payload), func(op *operation) error {
			if !dropped[op.num] {
				e.apply(op)
			}
			return nil
		})
	}
	if err != nil {
		e.log.Error("the names of streams and drains are damaged; the segments have them too", "err", err)
	}
	return nil
}
