package buffer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// openKeyTable checks the table of a segment and maps it.
func openKeyTable(c *block.Coder, dir string) (t *keyTable, err error) {
	h, data, raw, err := mapChecked(c, filepath.Join(dir, keysFile))
	if err != nil {
		return nil, err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err = fmt.Errorf("%w: no table of keys", block.ErrDamaged); h.Kind == block.Keys {
		t, err = parseKeys(raw, mask{keysFor(c, h), h.First})
	}
	if err != nil {
		return nil, errors.Join(err, segment.Unmap(data))
	}
	// Lookups hold t, not a lock: the mapping ends when nobody has it any more.
	runtime.AddCleanup(t, func(b []byte) { _ = segment.Unmap(b) }, data)
	return t, nil
}

// keysFor is what a mapped file is encrypted with; nil: it is not.
func keysFor(c *block.Coder, h block.Header) *block.DataKeys {
	if h.Flags&block.Encrypted == 0 {
		return nil
	}
	return c.Keys
}

func (e *Engine) saveKeys(dir string, byStream map[uint32][][]keyEntry) error {
	m, h := mask{keys: e.comp.Keys}, block.Header{Kind: block.Keys}
	if m.keys != nil {
		m.salt = rand.Uint64()
		h.Flags, h.First = block.Encrypted, m.salt
	}
	raw, secret := encodeKeys(byStream, m)
	if m.keys != nil {
		var err error
		if secret, err = m.keys.SealChunks(secret); err != nil {
			return err
		}
	}
	return writeFileFrom(filepath.Join(dir, keysFile), func(w io.Writer) error {
		return e.comp.SealTo(w, &h, raw, secret)
	})
}

// keyTableOf returns the table of a sealed segment, which is opened at its first use,
// and made again from the blocks where it is missing or damaged; nil: nothing in the
// segment is needed any more.
func (e *Engine) keyTableOf(s *segmentRef) (*keyTable, error) {
	s.keysOnce.Lock()
	defer s.keysOnce.Unlock()
	e.mu.Lock()
	t, gone, whole := s.table, s.phase >= dropping, s.phase == sealed
	e.mu.Unlock()
	if t != nil || gone {
		return t, nil
	}
	t, err := openKeyTable(e.comp, s.seg.Dir)
	if errors.Is(err, block.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		if whole {
			e.log.Warn("a table of keys is missing or damaged; it is made again from the blocks", "segment", s.seg.Dir, "err", err)
		}
		if err = e.rebuildKeys(s); err == nil {
			t, err = openKeyTable(e.comp, s.seg.Dir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", s.seg.Dir, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.table = t
	return t, nil
}

// openTables opens the tables that a start found, so that no look-up waits for it.
func (e *Engine) openTables() error {
	e.mu.Lock()
	segments := slices.Clone(e.segments)
	e.mu.Unlock()
	for _, s := range segments {
		e.mu.Lock()
		asked := s.keyed && s.open == nil
		e.mu.Unlock()
		if !asked {
			continue
		}
		if _, err := e.keyTableOf(s); err != nil || e.Err() != nil {
			return err
		}
	}
	return nil
}

// rebuildKeys makes the table of a segment from its blocks, and saves it. Blocks
// that cannot be read have none: their messages end when they are met.
func (e *Engine) rebuildKeys(s *segmentRef) error {
	e.mu.Lock()
	blocks := slices.Clone(s.blocks)
	e.mu.Unlock()
	byStream := openKeys{}
	for _, b := range blocks {
		if b.flags&(block.Keyed|block.Cancels) == 0 {
			continue
		}
		dec, err := e.fetch(b.stream, b.blockRef)
		if errors.Is(err, block.ErrDamaged) {
			continue
		}
		if err != nil {
			return err
		}
		byStream.gather(b.stream.num, e.keysIn(dec))
	}
	return e.saveKeys(s.seg.Dir, allRuns(byStream))
}

// keysIn is what the messages of a block can be found by.
func (e *Engine) keysIn(dec *decoded) []keyEntry {
	list := make([]keyEntry, 0, len(dec.at))
	for i := range dec.at {
		key, cancel := dec.keys(i)
		list = e.keyHash.entries(list, dec.offset(i), key, cancel)
	}
	return list
}
