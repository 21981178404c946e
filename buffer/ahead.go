package buffer

import (
	"runtime"
	"slices"
)

// Who reads in order is about to want the next blocks: they are read and unpacked
// while it is busy with what it has, and lie in memory with what was read last. Only
// a take begins that, and what it begins ends by itself: a drain that is paused, gone
// or reads elsewhere leaves nothing behind but blocks that nobody asks for, and those
// are the first to be forgotten.

const (
	aheadMemory  = 2 << 20   // of unpacked blocks ahead of a drain
	stretchBytes = 256 << 10 // of a log, that are read at once
)

// loading is a block that someone reads. dec and err are set when done is closed.
type loading struct {
	ref  *blockRef
	dec  *decoded
	err  error
	done chan struct{}
	in   *stretch
}

// stretch is blocks that are read in one go. Who reads them unpacks them from the
// front; who waits for one of them meanwhile helps from the back.
type stretch struct {
	list       []*loading
	begun, end int // in list; between them nobody is at work yet; guarded by Engine.mu
}

// add puts a block behind the others.
func (t *stretch) add(x *loading) {
	t.list = append(t.list, x)
	t.end++
	x.in = t
}

// next is the next block to unpack; nil: others are at work on the rest.
func (e *Engine) next(t *stretch) *loading {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.begun == t.end {
		return nil
	}
	t.begun++
	return t.list[t.begun-1]
}

// help reads the last block of a stretch that nobody is at work on; false: there is none.
func (e *Engine) help(s *stream, t *stretch) bool {
	e.mu.Lock()
	if t.begun == t.end {
		e.mu.Unlock()
		return false
	}
	t.end--
	x := t.list[t.end]
	e.mu.Unlock()
	dec, err := e.fetch(s, x.ref)
	e.loaded(s, x, dec, err)
	return true
}

// await returns what another goroutine reads, and is of use meanwhile.
func (e *Engine) await(s *stream, x *loading) (*decoded, error) {
	for {
		select {
		case <-x.done:
			return x.dec, x.err
		default:
		}
		if !e.help(s, x.in) {
			<-x.done
			return x.dec, x.err
		}
	}
}

// claim says that a block is about to be read. The caller holds mu.
func (e *Engine) claim(ref *blockRef) *loading {
	x := &loading{ref: ref, done: make(chan struct{})}
	e.loading[ref] = x
	return x
}

// loaded ends what claim began. The caller does not hold mu.
func (e *Engine) loaded(s *stream, x *loading, dec *decoded, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x.dec, x.err = dec, err
	if err == nil {
		e.remember(x.ref, dec)
		s.inflates = int(dec.size()) / max(1, int(x.ref.size))
	}
	delete(e.loading, x.ref)
	close(x.done)
}

// fill reads blocks that were claimed, and lie together in one segment. The caller
// does not hold mu.
func (e *Engine) fill(s *stream, t *stretch) {
	x := e.next(t)
	if x == nil {
		return // who waited for them was faster
	}
	first, end := t.list[0].ref.at, uint32(0)
	for _, y := range t.list {
		first, end = min(first, y.ref.at), max(end, y.ref.at+y.ref.size)
	}
	buf := e.scratch(int(end - first))
	err := t.list[0].ref.seg.seg.Read(*buf, int64(first))
	for ; x != nil; x = e.next(t) {
		var dec *decoded
		each := err
		if err == nil {
			dec, each = e.decode(s, x.ref, (*buf)[x.ref.at-first:][:x.ref.size])
		} else if len(t.list) > 1 {
			dec, each = e.fetch(s, x.ref) // the others may be there
		}
		e.loaded(s, x, dec, each)
	}
	e.free.Put(buf)
}

// fetch reads a block and leaves it to the caller alone.
func (e *Engine) fetch(s *stream, ref *blockRef) (*decoded, error) {
	buf := e.scratch(int(ref.size))
	defer e.free.Put(buf)
	if err := ref.seg.seg.Read(*buf, int64(ref.at)); err != nil {
		return nil, err
	}
	return e.decode(s, ref, *buf)
}

// scratch is memory for what is read of a log, from e.free.
func (e *Engine) scratch(n int) *[]byte {
	buf, ok := e.free.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	*buf = slices.Grow((*buf)[:0], n)[:n]
	return buf
}

// readAhead begins to read what a drain will want after what it takes now, once half
// of what was read ahead is used up. What is in memory anyway, as it is for a drain
// that keeps up, is left. One processor is left to others, and one is the committer's, who
// waits for the disk with it. The caller holds mu.
func (e *Engine) readAhead(d *drain) {
	free := max(1, runtime.GOMAXPROCS(0)-2) - e.readers
	if (d.aheadFrom <= d.head && d.head < d.aheadDue) || free <= 0 {
		return
	}
	stretches := e.claimAhead(d)
	free = min(free, len(stretches))
	for i := range free {
		e.startReader(d.stream, stretches, i, free)
	}
}

// claimAhead claims what a drain will want, and is not in memory. The caller holds mu.
func (e *Engine) claimAhead(d *drain) (stretches []*stretch) {
	s, budget := d.stream, min(aheadMemory, cacheMemory/2/len(e.drains))
	d.aheadFrom, d.aheadDue = d.head, d.head
	half := budget / 2
	i, _ := s.covered(d.head, d.head)
	for _, ref := range s.blocks[i:] {
		if budget -= int(ref.size) * max(1, s.inflates); budget < 0 {
			break
		}
		if budget > half {
			d.aheadDue = ref.end()
		}
		if ref.elem != nil || e.loading[ref] != nil {
			continue
		}
		if n := len(stretches); n == 0 || !stretches[n-1].list[0].ref.near(ref) {
			stretches = append(stretches, &stretch{})
		}
		stretches[len(stretches)-1].add(e.claim(ref))
	}
	return stretches
}

// near reports whether a block is read in one go with an earlier one.
func (b *blockRef) near(later *blockRef) bool {
	return b.seg == later.seg && later.at > b.at && later.at+later.size-b.at <= stretchBytes
}

// startReader lets a goroutine read every nth stretch from one on. The caller holds mu.
func (e *Engine) startReader(s *stream, stretches []*stretch, from, n int) {
	e.readers++
	e.done.Go(func() {
		for i := from; i < len(stretches); i += n {
			e.fill(s, stretches[i])
		}
		e.mu.Lock()
		e.readers--
		e.mu.Unlock()
	})
}
