package buffer

import "errors"

const (
	// A segment is sparse with less than this share of its bytes unfinished.
	sparseShare = 0.1
	tightShare  = 0.5 // while the disk has room for less than two more segments
	// tinyBlock is the mean size of blocks below which a segment has tiny ones.
	tinyBlock = 16 << 10
	// Blocks from a quarter of that on do little harm: their rewrite waits until fewer
	// than so many came since the last look, not to take the cores from those who append.
	quietBlocks = 1000
	// From so many blocks on, about 50 MiB of places, merging cannot wait for that.
	manyBlocks = 1 << 19
	// fullBlock is what a rewritten block takes at least, about, in bytes on disk.
	fullBlock = 32 << 10
)

// content is what a sealed segment holds that is still needed.
type content struct {
	all, unfinished int64 // bytes of blocks; of messages that are needed, about
	pinned          int64 // bytes of the blocks that have those
	again           int64 // of them, bytes that were rewritten before
	blocks          int
	streams         map[*stream]int64 // bytes that are needed
}

func (c *content) add(x content) {
	c.pinned += x.pinned
	c.again += x.again
	c.blocks += x.blocks
	if c.streams == nil {
		c.streams = map[*stream]int64{}
	}
	for s, n := range x.streams {
		c.streams[s] += n
	}
}

// contentOf measures a segment. The caller holds mu.
func contentOf(s *segmentRef) content {
	c := content{streams: map[*stream]int64{}}
	for _, b := range s.blocks {
		size := int64(b.size)
		c.all += size
		if !b.pinned() {
			continue
		}
		c.blocks++
		c.pinned += size
		if b.rewritten() {
			c.again += size
		}
		needed := size * int64(min(b.kept, b.owed+b.dead)) / int64(max(1, b.kept))
		c.unfinished += needed
		c.streams[b.stream] += needed
	}
	return c
}

// fewer reports whether a rewrite at least halves the number of blocks.
func (c *content) fewer() bool {
	after := 0
	for _, n := range c.streams {
		after += 1 + int(n/fullBlock)
	}
	return c.blocks >= 2*after
}

// worthMerging reports whether tiny blocks are enough for a rewrite. What was
// rewritten before is copied again with them, so that has to be the lesser part, or
// a trickle would be copied whole every hour.
func (c *content) worthMerging() bool {
	return c.fewer() && (c.pinned-c.again >= c.again/2 || c.blocks >= 8*len(c.streams))
}

// chooseVictims returns the segments to be rewritten now, marked as such. A
// segment that a drain is about to finish is left alone: of what was needed at the
// last look, half is needed still.
func (e *Engine) chooseVictims(busy bool) map[*segmentRef]bool {
	share := sparseShare
	if errors.Is(e.room(2*e.cfg.SegmentBytes), ErrDiskFull) {
		share = tightShare
	}
	victims := map[*segmentRef]bool{}
	var tiny []*segmentRef
	var merged content
	budget := max(e.cfg.SegmentBytes/2, 2*rewriteBundle)
	least := e.tinyNow(busy)
	for _, s := range e.sealedSegments() {
		c, lasting := e.look(s)
		switch {
		case !lasting || budget <= 0:
		case float64(c.unfinished) < share*float64(c.all):
			victims[s] = true
			budget -= c.pinned
		case c.pinned < least*int64(c.blocks):
			tiny = append(tiny, s)
			merged.add(c)
			budget -= c.pinned
		}
	}
	if merged.worthMerging() {
		for _, s := range tiny {
			victims[s] = true
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range victims {
		if s.phase != sealed {
			delete(victims, s)
		} else {
			s.rewriting = true
		}
	}
	return victims
}

// busy reports whether much was appended since the last look.
func (e *Engine) busy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	came := e.active.last - e.looked
	e.looked = e.active.last
	return came >= quietBlocks
}

// tinyNow is the mean size of blocks below which they are merged now.
func (e *Engine) tinyNow(busy bool) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	blocks := 0
	for _, s := range e.streams {
		blocks += len(s.blocks)
	}
	if !busy || blocks >= manyBlocks {
		return tinyBlock
	}
	return tinyBlock / 4
}

// sealedSegments are those that something is still needed of, oldest first.
func (e *Engine) sealedSegments() (list []*segmentRef) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.segments {
		if s.phase == sealed && s.live > 0 {
			list = append(list, s)
		}
	}
	return list
}

// look measures a segment, and says whether what it has will stay for a while.
func (e *Engine) look(s *segmentRef) (c content, lasting bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c = contentOf(s)
	lasting = s.left > 0 && c.unfinished > s.left/2
	s.left = c.unfinished
	return c, lasting
}
