package buffer

import (
	"container/heap"
	"context"
	"maps"
	"slices"
	"strings"
)

// Order per key: of the messages with one key, only the first unfinished one is
// handed out. While it is in flight, scheduled or about to be handed out it
// holds the key, and those that a pick comes across meanwhile follow it. All of
// this is in memory; after a start it is found again, since low starts over.

const (
	// maxKeys bounds the open keys of a drain, about 100 bytes each. At the bound
	// only those are served, until one of them ends.
	maxKeys = 100_000
	// maxFollowers bounds the messages that wait for their key's first, 8 bytes each.
	maxFollowers = 1_000_000
)

// keyState is one open key.
type keyState struct {
	holder    uint64
	followers []uint64 // ascending; may hold offsets that are finished
}

// open makes a message the holder of its key, or a follower: false. At the
// bounds it does neither, and sets blocked.
func (d *drain) open(key string, offset uint64) bool {
	k := d.keys[key]
	if k == nil && len(d.keys) < maxKeys {
		key = strings.Clone(key) // not to keep a block in memory
		d.keys[key] = &keyState{holder: offset}
		d.holding[offset] = key
		return true
	}
	if k != nil && k.holder == offset {
		return true
	}
	if d.blocked = k == nil || d.parked >= maxFollowers; d.blocked {
		return false
	}
	d.follow(k, offset)
	return false
}

// parkedKeys counts the open keys that something is done with.
func (d *drain) parkedKeys() (n int) {
	for offset := range d.holding {
		if d.state(offset) != Queued {
			n++
		}
	}
	return n
}

// follow adds a follower in its place.
func (d *drain) follow(k *keyState, offset uint64) {
	if n := len(k.followers); n == 0 || k.followers[n-1] < offset {
		k.followers = append(k.followers, offset)
		d.parked++
		return
	}
	if i, ok := slices.BinarySearch(k.followers, offset); !ok {
		k.followers = slices.Insert(k.followers, i, offset)
		d.parked++
	}
}

// letGo passes the key of a finished message on to the next.
func (d *drain) letGo(offset uint64) {
	key, ok := d.holding[offset]
	if !ok {
		return
	}
	delete(d.holding, offset)
	k := d.keys[key]
	if k == nil {
		return // recovery has not opened the keys yet
	}
	for len(k.followers) > 0 {
		next := k.followers[0]
		k.followers = k.followers[1:]
		d.parked--
		if d.finished(next) {
			continue
		}
		k.holder = next
		d.holding[next] = key
		delete(d.displaced, next)
		if x := d.retries[next]; x != nil {
			x.index = len(d.due)
			heap.Push(&d.due, x)
		} else {
			heap.Push(&d.returned, next)
		}
		d.signal()
		return
	}
	delete(d.keys, key)
	d.signal() // a drain at the bound may go on
}

// retryKeyed schedules a message with a key: at once if it holds the key or
// nobody does, else when its turn comes.
func (d *drain) retryKeyed(offset uint64, r Retry, key string) {
	if d.keyless {
		key = ""
	}
	k := d.keys[key]
	if key == "" || (k != nil && k.holder == offset) {
		d.addRetry(offset, r)
		return
	}
	if k != nil && offset < k.holder && d.state(k.holder) == Queued {
		// The holder waits to be handed out, and comes after this one.
		delete(d.holding, k.holder)
		d.displaced[k.holder] = true
		d.follow(k, k.holder)
		k.holder = offset
		d.holding[offset] = strings.Clone(key)
		d.addRetry(offset, r)
		return
	}
	if k == nil {
		key = strings.Clone(key)
		d.keys[key] = &keyState{holder: offset} // beyond the bound too: it was tried before
		d.holding[offset] = key
		d.addRetry(offset, r)
		return
	}
	d.dropRetry(offset)
	d.schedule(&retry{Retry: r, offset: offset, index: following, key: key})
	d.follow(k, offset)
}

// keyOf is the key of a message as far as memory has it.
func (d *drain) keyOf(ref *blockRef, offset uint64) string {
	if key, ok := d.holding[offset]; ok {
		return key
	}
	if x := d.retries[offset]; x != nil {
		return x.key
	}
	if ref == nil || !ref.keyed() || ref.elem == nil || d.keyless {
		return ""
	}
	return strings.Clone(ref.dec().keyAt(offset))
}

// setKeyless says whether keys are something to a drain. What follows others of its key
// goes on by itself then. Where keys are something again, that is from what is taken next
// on. The caller holds mu.
func (d *drain) setKeyless(keyless bool) {
	if d.keyless == keyless {
		return
	}
	d.keyless = keyless
	for _, k := range d.keys {
		for _, offset := range k.followers {
			if x := d.retries[offset]; x != nil {
				x.index = len(d.due)
				heap.Push(&d.due, x)
			} else if !d.finished(offset) {
				heap.Push(&d.returned, offset)
			}
		}
	}
	for _, x := range d.retries {
		x.key = ""
	}
	clear(d.keys)
	clear(d.holding)
	clear(d.displaced)
	d.parked, d.blocked = 0, false
	d.signal()
}

// openKeys opens the keys of what recovery found scheduled, first things first.
// Mostly that is the scheduled message itself, since all before it are finished;
// but before one that was replayed there may be others that were not tried.
func (e *Engine) openKeys(d *drain) error {
	tried := d.holding
	d.holding = map[uint64]string{}
	untried, err := e.untriedBefore(d, tried)
	if err != nil {
		return err
	}
	for _, offset := range slices.Sorted(maps.Keys(tried)) {
		if x := d.retries[offset]; x != nil {
			d.openFor(tried[offset], untried)
			d.retryKeyed(offset, x.Retry, tried[offset])
		}
	}
	return nil
}

// openFor opens a key that nobody holds for a message that waits and was not
// tried, if it has one.
func (d *drain) openFor(key string, untried map[string]uint64) {
	if at, ok := untried[key]; ok && d.keys[key] == nil && d.waits(at) {
		if d.open(key, at) {
			heap.Push(&d.returned, at)
		}
	}
}

// untriedBefore finds, for the keys of some messages, the first message of the
// key that waits before them and was not tried.
func (e *Engine) untriedBefore(d *drain, of map[uint64]string) (map[string]uint64, error) {
	before := map[string]uint64{}
	for offset, key := range of {
		if at, ok := before[key]; (!ok || offset < at) && key != "" {
			before[key] = offset
		}
	}
	e.mu.Lock()
	low := d.low
	e.mu.Unlock()
	found := map[string]uint64{}
	for key, end := range before {
		offsets, err := e.lookUp(context.Background(), d.stream, key, keyOrder, low, max(low, end))
		if err != nil {
			return nil, err
		}
		e.mu.Lock()
		if i := slices.IndexFunc(offsets, d.waits); i >= 0 {
			found[strings.Clone(key)] = offsets[i]
		}
		e.mu.Unlock()
	}
	return found, nil
}

// blockKeys are decoded blocks by reference, for their keys.
type blockKeys map[*blockRef]*decoded

// of is the key of a message, or the block that has to be read for it.
func (have blockKeys) of(s *stream, offset uint64) (key string, need *blockRef) {
	ref := s.block(offset)
	if ref == nil || !ref.keyed() {
		return "", nil
	}
	dec := ref.dec()
	if dec == nil {
		dec = have[ref]
	}
	if dec == nil {
		return "", ref
	}
	return dec.keyAt(offset), nil
}
