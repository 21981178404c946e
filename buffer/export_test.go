package buffer

import (
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"forebay/buffer/block"
	"forebay/buffer/segment"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Settled waits until every change so far is durable.
func (e *Engine) Settled() error {
	e.mu.Lock()
	g, err := e.join()
	e.mu.Unlock()
	if err != nil {
		return err
	}
	<-g.done
	return g.changes
}

// Halt ends the engine's goroutines as a crash would, and leaves the files as
// they are; LetGo then closes them.
func (e *Engine) Halt() {
	e.fail(errors.New("halted by a test"))
	e.done.Wait()
}

// LetGo closes the files of a halted engine.
func (e *Engine) LetGo() error { return errors.Join(e.closeSegments(), e.Close()) }

// FailCommits makes every commit from now on fail, before it is written or after.
func (e *Engine) FailCommits(stored bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.commitBlocks = func(s *segment.Segment, blocks []segment.Block) error {
		if stored {
			if err := s.Commit(blocks); err != nil {
				return err
			}
		}
		return errors.New("input/output error")
	}
}

// KeepHouse does at once what the engine does every minute, when it seals nothing: one
// goroutine does both.
func (e *Engine) KeepHouse(now time.Time) {
	for e.sealUnderWay() && e.Err() == nil {
		<-time.After(time.Millisecond)
	}
	e.keepHouse(now)
	_ = e.Rewrite() // a failure is the engine's, which says so at the next call
}

// Rewrite rewrites what is sparse, without waiting to see whether it stays so.
func (e *Engine) Rewrite() error {
	for _, s := range e.sealedSegments() {
		e.look(s)
	}
	return e.rewrite()
}

// Decode reads all messages of a payload; rewritten says that some may be left out.
func Decode(raw string, count int, rewritten bool) ([]Message, error) {
	h := block.Header{Count: uint32(count)}
	if rewritten {
		h.Flags = block.Rewritten
	}
	dec, err := decode(h, []byte(raw))
	if err != nil {
		return nil, err
	}
	msgs := make([]Message, len(dec.at))
	for i := range msgs {
		dec.keys(i)
		if _, err = dec.message(&msgs[i], i); err != nil {
			return nil, err
		}
	}
	return msgs, nil
}

// RewritePayload returns the payload of a rewritten block that has those of the
// messages of another that keep says. It has to be sound.
func RewritePayload(raw string, count int, keep func(offset int) bool) string {
	dec, err := decode(block.Header{Count: uint32(count)}, []byte(raw))
	if err != nil {
		panic(err)
	}
	m := &move{from: []*blockRef{{count: uint32(count)}}}
	for i := range dec.at {
		if keep(i) {
			m.add(dec, i)
		}
	}
	return string(m.raw)
}

// Cached is what blocks in memory take, in bytes.
func (e *Engine) Cached() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cached
}

// Packed is one block of a large append.
type Packed struct {
	Raw    string
	Count  int // of messages
	Stored int // bytes of payload
}

// PackBatch does what a large append does before it waits for a commit.
func (e *Engine) PackBatch(msgs []Message) (blocks []Packed) {
	p, err := e.prepare("orders", msgs)
	if err != nil {
		panic(err)
	}
	for _, x := range p.parts {
		blocks = append(blocks, Packed{asString(x.raw), x.count, len(x.payload)})
	}
	return blocks
}

// Seq is the newest block that can be read.
func (e *Engine) Seq() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.active.last
}

// Hook puts fn in the place of segment.Commit.
func (e *Engine) Hook(fn func(*segment.Segment, []segment.Block) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.commitBlocks = fn
}

// FillVolume lets no segment be reserved while full says so, and counts those
// that were asked for.
func (e *Engine) FillVolume(full func() bool) (asked *atomic.Int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	create := e.createSegment
	asked = &atomic.Int64{}
	e.createSegment = func(dir string, capacity int64, log *slog.Logger) (*segment.Segment, error) {
		if asked.Add(1); full() {
			return nil, segment.ErrNoSpace
		}
		return create(dir, capacity, log)
	}
	return asked
}

// PendingParts is how many blocks gather for the next commit.
func (e *Engine) PendingParts() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.pending.parts)
}

// StoredBlocks is how many blocks hold what a stream has.
func (e *Engine) StoredBlocks(stream string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.streams[stream].blocks)
}

// Unfinished reports whether a message is not finished with a drain.
func (e *Engine) Unfinished(drain string, offset uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.drains[drain].finished(offset)
}

// SetMaxBytes sets the bound of an engine that is idle.
func (e *Engine) SetMaxBytes(n int64) { e.cfg.MaxBytes = n }

// HashKey is the hash of a key with a secret.
func HashKey(k0, k1 uint64, key string) uint64 { return keyHash{k0, k1}.of(key) }

// ActiveDir is where the open segment lies.
func (e *Engine) ActiveDir() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.active.seg.Dir
}

// CompactOnces merges files of idempotency records.
func (e *Engine) CompactOnces() error { return e.compactOnces() }

// JoinOnces makes one outer filter for all files of idempotency records, few as they are.
func (e *Engine) JoinOnces() error {
	e.mu.Lock()
	row := e.settledOnces()
	e.mu.Unlock()
	return e.joinRow(row)
}

// OnceShelves is how many filters a look-up asks.
func (e *Engine) OnceShelves() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.onceShelves)
}

// Coder is what packs and seals the engine's blocks.
func (e *Engine) Coder() (*block.Coder, block.Sealer) { return e.comp, e.comp.Sealer }

// DecodeBlock unpacks a block of messages and finds its records.
func DecodeBlock(c *block.Coder, data []byte) error {
	_, _, err := unpack(c, data)
	return err
}

// BlocksRead is how many blocks of messages were read from segments.
func (e *Engine) BlocksRead() int { return int(testutil.ToFloat64(e.metrics.read)) }

// ClaimAhead is what a take does before it starts those who read ahead for a drain.
func (e *Engine) ClaimAhead(drain string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.claimAhead(e.drains[drain])
}

// Readers is how many goroutines read ahead.
func (e *Engine) Readers() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.readers
}

// ForgetBlocks empties the memory for blocks.
func (e *Engine) ForgetBlocks() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for x := e.cache.Front(); x != nil; x = e.cache.Front() {
		e.forget(x.Value.(*cachedBlock).ref)
	}
}

// Dir is the data directory.
func (e *Engine) Dir() string { return e.cfg.Dir }

// Dirs are those of the segments that are known.
func (e *Engine) Dirs() (dirs []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.segments {
		dirs = append(dirs, s.seg.Dir)
	}
	return dirs
}

// CheckKey reads the secrets of a directory.
func CheckKey(dir string, masters ...MasterKey) error {
	_, err := readKey(dir, masters)
	return err
}

// OnceScope is what of an idempotency key is stored.
func OnceScope(stream string, key [16]byte) [16]byte { return onceScope(stream, key) }

// AwaitDurable waits until every change so far is durable by itself, without asking
// for it, which takes 100 ms at most.
func (e *Engine) AwaitDurable() error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(time.Millisecond) {
		e.mu.Lock()
		durable, err := e.delta.empty() && e.committing == nil, e.broken
		e.mu.Unlock()
		if durable || err != nil {
			return err
		}
	}
	return errors.New("changes are not durable after 10 s")
}

// SettledOnces is how many files of idempotency records may be merged while a segment
// is to be sealed again.
func (e *Engine) SettledOnces(id uint64) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.segments {
		if s.id == id {
			defer func(was phase) { s.phase = was }(s.phase)
			s.phase = sealing
		}
	}
	return len(e.settledOnces())
}

// StallKeys keeps look-ups of keys out of sealed segments until it is released.
func (e *Engine) StallKeys() (release func()) {
	e.mu.Lock()
	segments := slices.Clone(e.segments)
	e.mu.Unlock()
	for _, s := range segments {
		s.keysOnce.Lock()
	}
	return func() {
		for _, s := range segments {
			s.keysOnce.Unlock()
		}
	}
}

// Asking counts who asks whether they may pass a stream by.
func (e *Engine) Asking(stream, key string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := e.streams[stream].live.keys[e.keyHash.of(key)]
	if k == nil {
		return 0
	}
	return k.asking
}
