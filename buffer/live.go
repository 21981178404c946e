package buffer

import (
	"container/heap"
	"context"
	"fmt"
)

// Requests may pass a stream by, to the sink that its drain delivers to. Of one key
// they keep their order with what is stored: a request passes only while nothing of
// its key is unfinished, and what is appended while it is under way is not handed out
// before it ended. The engine keeps both, so that it does not matter how a message
// came in. All of this is in memory: after a crash no request is under way.

// liveKey is a key with requests that pass its stream by, or ask whether they may.
type liveKey struct {
	under   int    // way
	asking  int    // whether anything of the key is unfinished
	appends uint64 // of messages of the key since there is this entry
	parked  []parked
}

// parked is a message that a take came across while its key was live.
type parked struct {
	drain  *drain
	offset uint64
}

// liveKeys are those of one stream, by hash: keys that share one wait for each other.
type liveKeys struct {
	hash keyHash
	keys map[uint64]*liveKey
}

func (l *liveKeys) entry(hash uint64) *liveKey {
	k := l.keys[hash]
	if k == nil {
		k = &liveKey{}
		if l.keys == nil {
			l.keys = map[uint64]*liveKey{}
		}
		l.keys[hash] = k
	}
	return k
}

// settle forgets a key that nobody is about any more, and lets go of what was parked
// once no request is under way.
func (l *liveKeys) settle(hash uint64, k *liveKey) {
	if k.under > 0 {
		return
	}
	for _, p := range k.parked {
		heap.Push(&p.drain.returned, p.offset)
		p.drain.signal()
	}
	k.parked = nil
	if k.asking == 0 {
		delete(l.keys, hash)
	}
}

// stored takes note of messages that are about to be.
func (l *liveKeys) stored(list []keyEntry) {
	if len(l.keys) == 0 {
		return
	}
	for _, x := range list {
		// An ordering key's entry is its hash or, beside cancel keys, that and keyOrder.
		for _, hash := range [2]uint64{x.hash, x.hash ^ keyOrder} {
			if k := l.keys[hash]; k != nil {
				k.appends++
			}
		}
	}
}

// park keeps an untried message of a live key from being handed out; false: it may be.
func (d *drain) park(key string, offset uint64) bool {
	l := &d.stream.live
	if key == "" || len(l.keys) == 0 {
		return false
	}
	k := l.keys[l.hash.of(key)]
	if k == nil || k.under == 0 {
		return false
	}
	k.parked = append(k.parked, parked{d, offset})
	return true
}

// passage is one request under way.
type passage struct {
	engine  *Engine
	stream  *stream
	hash    uint64
	key     *liveKey // nil: it has none
	appends uint64   // of the key when it began
}

// BeginLive implements [Live].
func (e *Engine) BeginLive(ctx context.Context, name, key string) (Passage, error) {
	hash := e.keyHash.of(key)
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.streams[name]
	switch {
	case s == nil || s.orphaned:
		return nil, fmt.Errorf("pass %s by: %w", name, ErrNoStream)
	case key == "":
		return &passage{engine: e}, nil
	case s.idle():
		return e.passage(s, hash), nil
	case e.appending(s, hash):
		return nil, nil
	}
	// The look-up takes its time, in which the key's messages must not wait for who
	// may have to wait for them.
	k := s.live.entry(hash)
	k.asking++
	appends := k.appends
	e.mu.Unlock()
	_, found, err := e.search(ctx, name, key, keyOrder, 1)
	e.mu.Lock()
	k.asking--
	if err == nil && len(found) == 0 && k.appends == appends {
		return e.passage(s, hash), nil
	}
	s.live.settle(hash, k)
	if err != nil {
		return nil, fmt.Errorf("pass %s by: %w", name, err)
	}
	return nil, nil
}

// passage begins a request. The caller holds mu.
func (e *Engine) passage(s *stream, hash uint64) *passage {
	k := s.live.entry(hash)
	k.under++
	return &passage{e, s, hash, k, k.appends}
}

// Clear implements [Passage].
func (p *passage) Clear() bool {
	if p.key == nil {
		return true
	}
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	return p.key.appends == p.appends
}

// End implements [Passage].
func (p *passage) End() {
	if p.key == nil {
		return
	}
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	p.key.under--
	p.stream.live.settle(p.hash, p.key)
}

// idle reports whether nothing of a stream is unfinished or being appended.
func (s *stream) idle() bool {
	if s.waiting > 0 {
		return false
	}
	for _, d := range s.drains {
		if d.low < s.next {
			return false
		}
	}
	return true
}

// appending reports whether a message with an ordering key waits for its commit. The
// caller holds mu.
func (e *Engine) appending(s *stream, hash uint64) bool {
	for _, g := range [2]*group{e.pending, e.committing} {
		if g == nil {
			continue
		}
		for _, p := range g.parts {
			if p.stream != s {
				continue
			}
			for _, x := range p.keys {
				if x.hash == hash || x.hash == hash^keyOrder {
					return true
				}
			}
		}
	}
	return false
}
