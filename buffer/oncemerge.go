package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"

	"forebay/buffer/block"
)

// onceCursor goes through the records of a table. Chunks that are damaged are passed
// over; the first one says so.
type onceCursor struct {
	t      *onceTable
	next   int // chunk
	x      onceChunk
	i      int
	head   onceRecord // the one the cursor is at
	lead   uint64     // the first bytes of its key, which order most
	more   bool       // it is not at the end
	damage error
}

func (c *onceCursor) advance() (err error) {
	if c.i++; c.i >= c.x.n {
		if c.more, err = c.load(); !c.more || err != nil {
			return err
		}
	}
	c.head = c.x.record(c.i)
	c.lead = binary.BigEndian.Uint64(c.head.Key[:])
	return nil
}

// load goes to the first record of the next chunk that can be read, if there is one. A
// disk that does not give where chunks are is an error, and no damage: they may be sound.
func (c *onceCursor) load() (more bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			more, err = false, fmt.Errorf("read %s: %v", filterPath(c.t.path), p)
		}
	}()
	for c.next < c.t.dir.chunks() {
		x, err := c.t.chunk(c.next, c.x.sealed)
		c.next++
		switch {
		case err == nil:
			c.x, c.i = x, 0
			return true, nil
		case errors.Is(err, fs.ErrClosed): // all that it had is over, and it was removed meanwhile
			return false, nil
		case !errors.Is(err, block.ErrDamaged):
			return false, err
		case c.damage == nil:
			c.damage = err
		}
	}
	return false, nil
}

// upTo reports whether the key of a cursor is not above that of another.
func (c *onceCursor) upTo(other *onceCursor) bool {
	return c.lead < other.lead || c.lead == other.lead && compareKeys(c.head.Key, other.head.Key) <= 0
}

// mergeOnces gives the records of tables in the order of their keys, of each key the
// newest: that of the last table. What is damaged is left out and told.
func mergeOnces(tables []*onceTable, each func(onceRecord) error) (damage, err error) {
	cursors := make([]*onceCursor, len(tables))
	for i, t := range tables {
		cursors[i] = &onceCursor{t: t}
		if err := cursors[i].advance(); err != nil {
			return nil, err
		}
	}
	for {
		var least *onceCursor
		for _, c := range cursors {
			if c.more && (least == nil || c.upTo(least)) {
				least = c
			}
		}
		if least == nil {
			break
		}
		r := least.head
		if err := each(r); err != nil {
			return nil, err
		}
		for _, c := range cursors {
			if c.more && c.head.Key == r.Key {
				if err := c.advance(); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, c := range cursors {
		if damage == nil {
			damage = c.damage
		}
	}
	return damage, nil
}
