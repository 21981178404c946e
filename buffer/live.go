package buffer

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
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
	// What look-ups found: a key with a million messages is not looked up whole for
	// each of its requests. A message that becomes unfinished again, or a drain that
	// is new, makes all of it void.
	seen  map[uint64]seenKey
	voids int // how often that was
}

// seenKey is what is known of the messages of a key.
type seenKey struct {
	waits uint64 // the newest unfinished one and 1; 0: none was
	done  uint64 // all before it are finished
}

const (
	// maxSeen bounds what is remembered of keys, 24 bytes each.
	maxSeen = 1 << 14
	// maxScan bounds the keys of messages being committed that are looked at. While
	// there are more, requests are stored.
	maxScan = 1 << 13
)

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
	case s.live.waiting(s, hash) || e.appending(s, hash):
		return nil, nil
	}
	// The look-up takes its time, in which the key's messages must not wait for who
	// may have to wait for them.
	k := s.live.entry(hash)
	k.asking++
	appends := k.appends
	e.mu.Unlock()
	found, err := e.newest(ctx, s, key, hash)
	e.mu.Lock()
	k.asking--
	if err == nil && !found && k.appends == appends {
		return e.passage(s, hash), nil
	}
	s.live.settle(hash, k)
	if err != nil {
		return nil, fmt.Errorf("pass %s by: %w", name, err)
	}
	return nil, nil
}

// newest finds the last unfinished message of an ordering key, and remembers it.
func (e *Engine) newest(ctx context.Context, s *stream, key string, hash uint64) (found bool, err error) {
	e.mu.Lock()
	end, voids := s.next, s.live.voids
	from := max(s.lowest(), s.live.seen[hash].done)
	e.mu.Unlock()
	offsets, err := e.lookUp(ctx, s, key, keyOrder, from, end)
	if err != nil {
		return false, err
	}
	known := seenKey{done: end}
	for len(offsets) > 0 && known.waits == 0 {
		last := offsets[max(0, len(offsets)-expireStep):]
		offsets = offsets[:len(offsets)-len(last)]
		e.mu.Lock()
		if i := lastUnfinished(s, last); i >= 0 {
			known = seenKey{waits: last[i] + 1}
		}
		e.mu.Unlock()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.live.voids == voids {
		s.live.remember(hash, known)
	}
	return known.waits > 0, nil
}

func lastUnfinished(s *stream, offsets []uint64) int {
	for i, offset := range slices.Backward(offsets) {
		if s.unfinishedAt(offset) {
			return i
		}
	}
	return -1
}

// void forgets what look-ups found.
func (l *liveKeys) void() {
	l.seen = nil
	l.voids++
}

func (l *liveKeys) remember(hash uint64, known seenKey) {
	if l.seen == nil || len(l.seen) >= maxSeen {
		l.seen = map[uint64]seenKey{}
	}
	l.seen[hash] = known
}

// waiting reports whether what is remembered of a key is unfinished still.
func (l *liveKeys) waiting(s *stream, hash uint64) bool {
	known := l.seen[hash]
	return known.waits > 0 && s.unfinishedAt(known.waits-1)
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
func (s *stream) idle() bool { return s.waiting == 0 && s.lowest() == s.next }

// appending reports whether a message with an ordering key waits for its commit, or
// whether so many do that it is not looked for. The caller holds mu.
func (e *Engine) appending(s *stream, hash uint64) bool {
	scanned := 0
	for _, g := range [2]*group{e.pending, e.committing} {
		if g == nil {
			continue
		}
		for _, p := range g.parts {
			if p.stream != s {
				continue
			}
			if scanned += len(p.keys); scanned > maxScan {
				return true
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
