package buffer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// blockTarget is the length of a block before compression at which another
// one is begun, in bytes.
const blockTarget = 256 << 10

// group is what one commit takes, and where its callers wait.
type group struct {
	parts   []*part
	callers int // of the messages
	onces   []*onceEntry
	moves   []*move      // rewritten blocks
	marks   []sourceMark // of sources, with their messages
	answer  *answer      // of the messages
	done    chan struct{}
	changes error // of what rode with them; set before done is closed
}

func newGroup() *group { return &group{answer: newAnswer(), done: make(chan struct{})} }

// part becomes one block.
type part struct {
	stream *stream
	first  uint64 // set by the committer, valid once the group is done
	base   int64  // accepted_at of the first message, Unix ms
	raw    []byte
	places
	closed bool // packed already: takes no more
	flags  block.Flags
	keys   []keyEntry // by index
	owners []ownerRun
	held   int64 // bytes of append memory

	packed
}

// packed is what is written of a part.
type packed struct {
	payload       []byte
	sealable      []byte // payload behind room for its envelope; nil: there is none
	codec         block.Codec
	count, rawLen int // of messages, and of what the payload inflates to
}

// maxParts bounds the blocks of one group. A large append may go over it, by
// what fits into the append memory.
const maxParts = segment.MaxCommit / 2

// scratch is where appends of single messages encode before they take the lock.
type scratch struct {
	b      []byte
	keys   []keyEntry
	owners []ownerRun
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Append implements [Buffer].
func (e *Engine) Append(ctx context.Context, name string, now time.Time, msgs []Message) (Accepted, error) {
	a, _, err := e.appendNew(ctx, name, now, msgs, onceClaim{}, nil)
	return a, err
}

// appendNew appends, unless the key is taken: then it returns who has it. A
// zero key is none.
func (e *Engine) appendNew(ctx context.Context, name string, now time.Time, msgs []Message, key onceClaim, marks []sourceMark) (Accepted, *onceEntry, error) {
	begin := time.Now()
	p, err := e.prepare(name, msgs)
	if err != nil {
		return Accepted{}, nil, fmt.Errorf("append to %s: %w", name, err)
	}
	p.marks = marks
	return e.appendPrepared(ctx, name, begin, now, p, key)
}

func (e *Engine) appendPrepared(ctx context.Context, name string, begin, now time.Time, p *prepared, key onceClaim) (Accepted, *onceEntry, error) {
	defer p.recycle()
	a, at, first, err := e.enqueue(name, now, p, key)
	if err != nil {
		return Accepted{}, nil, fmt.Errorf("append to %s: %w", name, err)
	}
	if first != nil {
		return Accepted{}, first, nil
	}
	if left := ctx.Done(); left == nil {
		<-at.answer.given // a select would cost as much as the rest of the wait
	} else {
		select {
		case <-at.answer.given:
		case <-left:
			return Accepted{}, nil, fmt.Errorf("append to %s: %w", name, ctx.Err())
		}
	}
	if err := at.answer.err; err != nil {
		return Accepted{}, nil, fmt.Errorf("append to %s: %w", name, err)
	}
	at.part.stream.appends.Observe(time.Since(begin).Seconds())
	a.First = at.part.first + uint64(at.index)
	return a, nil, nil
}

// prepared is an append before it takes the lock.
type prepared struct {
	count         int
	size, largest int64
	flags         block.Flags
	parts         []*part  // where it is large: packed on its caller's goroutine
	records       *scratch // else
	marks         []sourceMark
}

func (p *prepared) recycle() {
	if p.records != nil {
		scratches.Put(p.records)
	}
}

func (e *Engine) prepare(name string, msgs []Message) (*prepared, error) {
	if len(msgs) == 0 {
		return nil, errors.New("no messages")
	}
	p := &prepared{count: len(msgs)}
	for i := range msgs {
		p.size += int64(recordLen(&msgs[i], alike(msgs, i))) + 2*binary.MaxVarintLen32
		p.look(&msgs[i])
	}
	if err := p.fits(); err != nil {
		return nil, err
	}
	if p.size >= packAt {
		w := e.packer(name, len(msgs), p.size)
		w.add(msgs)
		p.parts = w.end()
		return p, nil
	}
	p.records = scratches.Get().(*scratch)
	p.records.b, p.records.keys, p.records.owners = p.records.b[:0], p.records.keys[:0], p.records.owners[:0]
	for i := range msgs {
		p.records.b = appendRecord(p.records.b, &msgs[i], alike(msgs, i))
		p.records.keys = e.keyHash.entries(p.records.keys, uint64(i), msgs[i].Key, msgs[i].CancelKeys)
		p.records.owners = own(p.records.owners, i, 1, msgs[i].Owner)
	}
	return p, nil
}

func (p *prepared) fits() error {
	if p.size > appendMemory {
		return fmt.Errorf("%w: %d bytes at once", ErrTooLarge, p.size)
	}
	return nil
}

// look notes what admission asks of a message.
func (p *prepared) look(m *Message) {
	p.largest = max(p.largest, int64(len(m.Body)))
	p.flags |= flagsOf(m)
}

func flagsOf(m *Message) (f block.Flags) {
	if m.Key != "" {
		f |= block.Keyed
	}
	if len(m.CancelKeys) > 0 {
		f |= block.Cancels
	}
	if m.timed() {
		f |= block.Timed
	}
	return f
}

// spot is where in a group an append is.
type spot struct {
	answer *answer
	part   *part
	index  int
}

func (e *Engine) enqueue(name string, now time.Time, p *prepared, key onceClaim) (a Accepted, at spot, first *onceEntry, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	keyed := key.OnceKey != (OnceKey{})
	if keyed {
		if key.moves != e.onceMoves {
			return a, at, nil, errFilesMoved
		}
		// Before admission: a full stream still knows what it has.
		if first = e.knownOnce(key.OnceKey, now); first != nil {
			return a, at, first, nil
		}
	}
	st, err := e.admit(name, p.size, p.largest)
	if err == nil && len(p.marks) > 0 && e.held > 0 && e.held+p.size > sourceMemory {
		err = ErrOverloaded
	}
	if err != nil {
		return a, at, nil, err
	}
	var once *onceEntry
	if keyed {
		once = e.claimOnce(key.OnceKey)
	}
	e.hear(now)
	st.lastAt = max(st.lastAt, now.UnixMilli())
	a = Accepted{Count: p.count, At: time.UnixMilli(st.lastAt)}
	g := e.pending
	at.answer = g.answer
	if p.parts != nil {
		at.part = p.parts[0]
		for _, x := range p.parts {
			x.stream, x.base, x.flags = st, st.lastAt, p.flags
			st.live.stored(x.keys)
		}
		g.parts = append(g.parts, p.parts...)
	} else {
		at.part = g.part(st)
		at.index = len(at.part.at)
		st.live.stored(p.records.keys)
		for _, x := range p.records.keys {
			at.part.keys = append(at.part.keys, keyEntry{x.hash, uint64(at.index) + x.offset})
		}
		for _, x := range p.records.owners {
			at.part.owners = own(at.part.owners, at.index+x.index, x.count, x.owner)
		}
		at.part.add(p.records.b, p.count, st.lastAt)
		at.part.flags |= p.flags
	}
	if once != nil {
		once.part, once.index, once.count = at.part, at.index, uint32(p.count)
		once.at, once.until = st.lastAt, now.Add(key.TTL).UnixMilli()
	}
	g.marks = append(g.marks, p.marks...)
	at.part.held += p.size
	st.waiting += p.size
	e.held += p.size
	if g.callers++; g.callers == 1 || g.callers >= e.crowd.enough {
		signal(e.kick)
	}
	return a, at, nil, nil
}

// admit says whether size bytes may wait for a commit. The caller holds mu.
func (e *Engine) admit(name string, size, largest int64) (*stream, error) {
	st := e.streams[name]
	switch {
	case e.stopped() != nil:
		return nil, e.stopped()
	case st == nil || st.orphaned:
		return nil, ErrNoStream
	case largest > st.MaxMessageBytes:
		return nil, fmt.Errorf("%w: %d bytes, the most is %d", ErrTooLarge, largest, st.MaxMessageBytes)
	case e.full != nil:
		return nil, e.full
	case e.stall:
		return nil, ErrStalled
	case st.MaxBytes > 0 && st.bytes+st.waiting >= st.MaxBytes:
		return nil, ErrBufferFull
	case st.deadBytes >= st.DeadMaxBytes:
		return nil, ErrDeadFull
	case e.held+size > appendMemory || len(e.pending.parts) >= maxParts:
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
	// About as much as it lately took: growing would copy it several times over.
	p := &part{stream: st, raw: make([]byte, 0, st.lastRaw), places: places{at: make([]recordPlace, 0, st.lastCount)}}
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
		size, k := binary.Uvarint(records)
		end := k + int(size)
		start := len(p.raw)
		p.raw = binary.AppendUvarint(p.raw, ms)
		p.raw = append(p.raw, records[:end]...)
		p.mark(start)
		records = records[end:]
	}
}

// mark notes the record that was encoded last.
func (p *part) mark(start int) {
	_, _ = p.note(asString(p.raw), start) // as it was written here
}

// join adds the caller to the next commit and asks for it. The caller holds mu
// and waits for the group after it let go.
func (e *Engine) join() (*group, error) {
	if err := e.stopped(); err != nil {
		return nil, err
	}
	signal(e.kick)
	return e.pending, nil
}

// wait returns once what rode with the group is durable.
func (g *group) wait(ctx context.Context) error {
	select {
	case <-g.done:
		return g.changes
	case <-ctx.Done():
		return ctx.Err()
	}
}
