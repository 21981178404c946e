package buffer

import (
	"errors"
	"fmt"

	"forebay/buffer/block"
)

// load returns the messages of a block: from memory, where the newest blocks
// and the last read ones are, or from disk. Bytes that are not what was
// written are block.ErrDamaged. Where the block was rewritten meanwhile, its
// successor is read, which may have more messages, and fewer.
func (e *Engine) load(s *stream, ref *blockRef) (*decoded, error) {
	if ref == nil {
		return nil, fmt.Errorf("%w: no block holds it", block.ErrDamaged)
	}
	for {
		dec, err := e.loadOnce(s, ref)
		if err == nil {
			return dec, nil
		}
		now := e.successor(s, ref)
		if now == ref {
			return nil, err
		}
		ref = now
	}
}

// successor is the block that holds the messages of ref now: itself, mostly.
func (e *Engine) successor(s *stream, ref *blockRef) *blockRef {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := s.block(ref.first); now != nil {
		return now
	}
	return ref
}

func (e *Engine) loadOnce(s *stream, ref *blockRef) (*decoded, error) {
	e.mu.Lock()
	if ref.elem != nil {
		defer e.mu.Unlock()
		e.cache.MoveToFront(ref.elem)
		return ref.dec(), nil
	}
	x := e.loading[ref]
	if x == nil {
		x = e.claim(ref)
		x.in = &stretch{list: []*loading{x}, end: 1}
	}
	e.mu.Unlock()
	return e.await(s, x)
}

// cold is the block of a message whose time only the message itself says, if
// that is not in memory. The caller holds mu.
func (s *stream) cold(offset uint64) *blockRef {
	if b := s.block(offset); b != nil && b.rewritten() && b.elem == nil {
		return b
	}
	return nil
}

// warm brings such a block into memory, for timeNear. Where it cannot be read, the
// time of the block has to do.
func (e *Engine) warm(s *stream, offset uint64) {
	e.mu.Lock()
	b := s.cold(offset)
	e.mu.Unlock()
	if b != nil {
		_, _ = e.load(s, b)
	}
}

// loadOwed is load for a block that was owed to some drain. It returns nil where
// nothing is left to do in the block: all of it was finished meanwhile, when its
// segment may be gone, or it is damaged, which is then accounted for.
func (e *Engine) loadOwed(s *stream, ref *blockRef) (*decoded, error) {
	dec, err := e.load(s, ref)
	if err == nil {
		return dec, nil
	}
	switch now := e.successor(s, ref); {
	case !e.pinned(now):
		return nil, nil
	case errors.Is(err, block.ErrDamaged):
		e.reportDamage(s, now.first, now.end(), err)
		return nil, nil
	}
	return nil, err
}

// pinned reports whether a block has to be readable.
func (e *Engine) pinned(ref *blockRef) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return ref.pinned()
}

// decode checks and unpacks what was read of a block. It keeps nothing of data.
func (e *Engine) decode(s *stream, ref *blockRef, data []byte) (*decoded, error) {
	e.metrics.read.Inc()
	h, dec, err := unpack(e.comp, data)
	if err != nil {
		return nil, err
	}
	if h.Kind != block.Messages || h.Seq != ref.seq() || h.Stream != s.num || h.First != ref.first || h.Count != ref.count {
		return nil, fmt.Errorf("%w: block %d is another one than the index says", block.ErrDamaged, ref.seq())
	}
	return dec, nil
}

// unpack checks a sealed block of messages and finds its records.
func unpack(c *block.Coder, data []byte) (h block.Header, dec *decoded, err error) {
	h, payload, err := c.Open(data)
	if err != nil {
		return h, nil, err
	}
	raw, err := c.Unpack(h, payload)
	if err != nil {
		return h, nil, err
	}
	dec, err = decode(h, raw)
	return h, dec, err
}

// cachedBlock is a block in memory.
type cachedBlock struct {
	ref *blockRef
	dec *decoded
}

// remember keeps a block in memory, at the cost of those not used for longest.
// The caller holds mu.
func (e *Engine) remember(ref *blockRef, dec *decoded) {
	ref.elem = e.cache.PushFront(&cachedBlock{ref, dec})
	e.cached += dec.size()
	for e.cached > cacheMemory && e.cache.Len() > 1 {
		e.forget(e.cache.Back().Value.(*cachedBlock).ref)
	}
}

func (e *Engine) forget(ref *blockRef) {
	if ref.elem == nil {
		return
	}
	e.cached -= ref.dec().size()
	e.cache.Remove(ref.elem)
	ref.elem = nil
}
