package buffer

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// draft is a large append whose messages come little by little: each is encoded while it
// is near the processor.
type draft struct {
	name   string
	packer *packer
	prepared
}

// Draft implements [Bookmarks].
func (e *Engine) Draft(stream string, n int, size int64) Draft {
	return &draft{name: stream, packer: e.packer(stream, max(n, 1), size)}
}

// Add implements [Draft].
func (d *draft) Add(msgs []Message) {
	for i := range msgs {
		d.look(&msgs[i])
	}
	d.packer.add(msgs)
	d.count += len(msgs)
}

// AppendFrom implements [Draft].
func (d *draft) AppendFrom(ctx context.Context, now time.Time, source string, marks []Bookmark) (Accepted, error) {
	e := d.packer.e
	if d.parts = d.packer.end(); len(d.parts) == 0 {
		return e.AppendFrom(ctx, d.name, now, nil, source, marks)
	}
	begin := time.Now()
	d.size = d.packer.length + int64(d.count)*2*binary.MaxVarintLen32
	var err error
	if d.marks, err = sourceMarks(source, marks); err == nil {
		err = d.fits()
	}
	if err != nil {
		return Accepted{}, fmt.Errorf("append to %s: %w", d.name, err)
	}
	a, _, err := e.appendPrepared(ctx, d.name, begin, now, &d.prepared, onceClaim{})
	return a, err
}
