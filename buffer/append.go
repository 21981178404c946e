package buffer

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"forebay/buffer/block"
)

// blockTarget is the length of a block before compression at which another
// one is begun, in bytes.
const blockTarget = 256 << 10

// packAt is the length from which an append compresses on its caller's own
// goroutine, so that the committer has only to write.
const packAt = 64 << 10

// group is what one commit takes, and where its callers wait.
type group struct {
	parts    []*part
	messages int
	done     chan struct{}
	err      error // of the messages; set before done is closed
	changes  error // of what rode with them
}

func newGroup() *group { return &group{done: make(chan struct{})} }

// part becomes one block.
type part struct {
	stream *stream
	first  uint64 // set by the committer, valid once the group is done
	base   int64  // accepted_at of the first message, Unix ms
	raw    []byte
	at     []uint32 // where each record starts in raw
	closed bool     // packed already: takes no more
	held   int64    // bytes of append memory

	payload []byte
	codec   block.Codec
}

// scratch is where appends of single messages encode before they take the lock.
type scratch struct{ b []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Append implements [Buffer].
func (e *Engine) Append(ctx context.Context, name string, now time.Time, msgs []Message) (Accepted, error) {
	start := time.Now()
	a, err := e.append(ctx, name, now, msgs)
	if err == nil {
		e.metrics.appended(name, time.Since(start))
	}
	return a, err
}

func (e *Engine) append(ctx context.Context, name string, now time.Time, msgs []Message) (Accepted, error) {
	if len(msgs) == 0 {
		return Accepted{}, fmt.Errorf("append to %s: no messages", name)
	}
	size, largest := int64(0), int64(0)
	for i := range msgs {
		size += int64(recordLen(&msgs[i])) + 2*binary.MaxVarintLen32
		largest = max(largest, int64(len(msgs[i].Body)))
	}
	var parts []*part
	var s *scratch
	if size >= packAt {
		if size > appendMemory {
			return Accepted{}, fmt.Errorf("append to %s: %w: %d bytes at once", name, ErrTooLarge, size)
		}
		parts = e.packParts(msgs)
	} else {
		s = scratches.Get().(*scratch)
		defer scratches.Put(s)
		s.b = s.b[:0]
		for i := range msgs {
			s.b = appendRecord(s.b, &msgs[i])
		}
	}

	e.mu.Lock()
	st, err := e.admit(name, size, largest)
	if err != nil {
		e.mu.Unlock()
		return Accepted{}, fmt.Errorf("append to %s: %w", name, err)
	}
	st.lastAt = max(st.lastAt, now.UnixMilli())
	acc := Accepted{Count: len(msgs), At: time.UnixMilli(st.lastAt)}
	g := e.pending
	var p *part
	var index int
	if s == nil {
		p = parts[0]
		for _, x := range parts {
			x.stream, x.base = st, st.lastAt
		}
		g.parts = append(g.parts, parts...)
	} else {
		p = g.part(st)
		index = len(p.at)
		p.add(s.b, len(msgs), st.lastAt)
	}
	g.messages += len(msgs)
	p.held += size
	st.waiting += size
	e.held += size
	e.mu.Unlock()
	signal(e.kick)

	select {
	case <-g.done:
	case <-ctx.Done():
		return Accepted{}, fmt.Errorf("append to %s: %w", name, ctx.Err())
	}
	if g.err != nil {
		return Accepted{}, fmt.Errorf("append to %s: %w", name, g.err)
	}
	acc.First = p.first + uint64(index)
	return acc, nil
}

// admit says whether size bytes may wait for a commit. The caller holds mu.
func (e *Engine) admit(name string, size, largest int64) (*stream, error) {
	st := e.streams[name]
	switch {
	case e.err != nil:
		return nil, e.err
	case st == nil || st.orphaned:
		return nil, ErrNoStream
	case largest > st.MaxMessageBytes:
		return nil, fmt.Errorf("%w: %d bytes, the most is %d", ErrTooLarge, largest, st.MaxMessageBytes)
	case e.full != nil:
		return nil, e.full
	case st.MaxBytes > 0 && st.bytes+st.waiting >= st.MaxBytes:
		return nil, ErrBufferFull
	case e.held+size > appendMemory:
		return nil, ErrOverloaded
	}
	return st, nil
}

// part returns the block under construction for a stream.
func (g *group) part(st *stream) *part {
	for _, p := range slices.Backward(g.parts) {
		if p.stream != st {
			continue
		}
		if p.closed || len(p.raw) >= blockTarget {
			break
		}
		return p
	}
	// About as much as last time: growing would copy it several times over.
	p := &part{stream: st, raw: make([]byte, 0, st.lastRaw+st.lastRaw/8), at: make([]uint32, 0, st.lastCount+st.lastCount/8)}
	g.parts = append(g.parts, p)
	return p
}

// add appends n records that have no times yet.
func (p *part) add(records []byte, n int, at int64) {
	if len(p.at) == 0 {
		p.base = at
	}
	ms := uint64(at - p.base)
	for range n {
		p.at = append(p.at, uint32(len(p.raw)))
		size, k := binary.Uvarint(records)
		end := k + int(size)
		p.raw = binary.AppendUvarint(p.raw, ms)
		p.raw = append(p.raw, records[:end]...)
		records = records[end:]
	}
}

// packParts makes finished blocks of a large append. Their offsets and times
// are in the envelope, which is written last.
func (e *Engine) packParts(msgs []Message) []*part {
	var parts []*part
	for i := 0; i < len(msgs); {
		p := &part{closed: true}
		for ; i < len(msgs) && len(p.raw) < blockTarget; i++ {
			p.at = append(p.at, uint32(len(p.raw)))
			p.raw = append(p.raw, 0) // accepted_at is the base time
			p.raw = appendRecord(p.raw, &msgs[i])
		}
		p.payload, p.codec = e.comp.Pack(p.raw)
		parts = append(parts, p)
	}
	return parts
}

// join adds the caller to the next commit and asks for it. The caller holds mu
// and waits for the group after it let go.
func (e *Engine) join() (*group, error) {
	if e.err != nil {
		return nil, e.err
	}
	signal(e.kick)
	return e.pending, nil
}
