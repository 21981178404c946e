package buffer

import (
	"container/heap"
	"container/list"
	"maps"
	"sort"
	"time"

	"forebay/buffer/block"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/prometheus/client_golang/prometheus"
)

// The types of this file are the engine's picture of what is stored. All of
// them are guarded by Engine.mu.

// stream is one stream and the places of its blocks.
type stream struct {
	Stream
	num                uint32
	next               uint64 // offset of the next message to be committed; all before are durable
	lastAt             int64  // accepted_at of the newest message, Unix ms
	blocks             []*blockRef
	near               int   // in blocks: the last that was asked for
	inflates           int   // how many times its size the last block that was read takes in memory
	bytes              int64 // encoded bytes of blocks with unfinished messages
	deadBytes          int64 // of dead messages, about
	waiting            int64 // bytes of messages being committed
	lastRaw, lastCount int   // room for the next block of single messages: what they lately took
	drains             []*drain
	live               liveKeys
	timed              map[uint64]struct{} // blocks with times of messages, by first offset: see times.go
	orphaned           bool
	read               bool                // has ever had a drain
	appends            prometheus.Observer // how long they took
}

// blockRef is the place of a block of messages and what is still to be done with it.
// There may be millions of them: 64 bytes each.
type blockRef struct {
	first uint64
	base  int64
	seg   *segmentRef
	elem  *list.Element // of a *cachedBlock, while it is in memory
	nth   uint32        // its seq, counted from the segment's first
	at    uint32        // in the segment's log
	size  uint32        // there
	count uint32        // of offsets
	kept  uint32        // of messages: fewer where some were left out in a rewrite
	owed  uint32        // (message, drain) pairs unfinished
	dead  uint32        // pairs that are dead and can be read
	flags block.Flags
}

func (b *blockRef) seq() uint64 { return b.seg.first + uint64(b.nth) }

// dec is what the block holds, if that is in memory; else nil.
func (b *blockRef) dec() *decoded {
	if b.elem == nil {
		return nil
	}
	return b.elem.Value.(*cachedBlock).dec
}

func (b *blockRef) end() uint64 { return b.first + uint64(b.count) }

func (b *blockRef) timed() bool { return b.flags&block.Timed != 0 }

func (b *blockRef) keyed() bool { return b.flags&block.Keyed != 0 }

// hold adds a block to a segment.
func (s *segmentRef) hold(st *stream, b *blockRef) {
	s.blocks = append(s.blocks, segBlock{st, b})
	if b.timed() {
		st.timed[b.first] = struct{}{}
		for _, d := range st.drains {
			delete(d.lates, b.first) // of what it was rewritten from
		}
	}
	s.keyed = s.keyed || b.flags&(block.Keyed|block.Cancels) != 0
}

func (b *blockRef) rewritten() bool { return b.flags&block.Rewritten != 0 }

func (b *blockRef) pinned() bool { return b.owed > 0 || b.dead > 0 }

// block returns the block that holds an offset, or nil. Mostly it is the one that was
// asked for before.
func (s *stream) block(offset uint64) *blockRef {
	if i := s.near; i < len(s.blocks) && s.blocks[i].first <= offset && offset < s.blocks[i].end() {
		return s.blocks[i]
	}
	i := sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].end() > offset })
	if i == len(s.blocks) || s.blocks[i].first > offset {
		return nil
	}
	s.near = i
	return s.blocks[i]
}

// covered is the range of the blocks that have offsets of a range.
func (s *stream) covered(first, end uint64) (i, j int) {
	i = sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].end() > first })
	j = sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].first >= end })
	return i, max(i, j)
}

// timeNear is about when a message was accepted, in Unix ms, where it is not read
// for that: the time of its block, or of the one before it. Messages of a rewritten
// block may be far apart: who ends one that was not taken reads it first, see warm.
func (s *stream) timeNear(offset uint64) int64 {
	i := sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].first > offset })
	switch {
	case i > 0 && s.blocks[i-1].rewritten() && s.blocks[i-1].elem != nil:
		return s.blocks[i-1].dec().acceptedAt(offset)
	case i > 0:
		return s.blocks[i-1].base
	case len(s.blocks) > 0:
		return s.blocks[0].base
	}
	return s.lastAt
}

// drain is one reader of a stream.
type drain struct {
	name   string
	num    uint32
	stream *stream
	from   uint64            // the first offset it reads
	low    uint64            // all before are finished
	done   *roaring64.Bitmap // finished, at or above low
	head   uint64            // the first offset that was never taken since the start

	aheadFrom, aheadDue uint64 // between them head is before the middle of what was read ahead

	orphaned bool

	lates    map[uint64]int64 // of the stream's timed blocks: when the next message is late, Unix ms
	flight   flights
	retries  map[uint64]*retry
	late     lateHeap  // retries, the last one due first
	due      retryHeap // retries whose time has not been seen to come
	ready    offsets   // the others; may hold offsets that are no retries any more
	returned offsets   // untried, taken and put back

	keyless   bool                 // keys are nothing to it
	keys      map[string]*keyState // that are open: see order.go
	holding   map[uint64]string    // the key that an offset holds
	parked    int                  // followers, in all keys
	displaced map[uint64]bool      // held a key before a replayed message did; may be in returned still
	blocked   bool                 // the last pick stopped at the bound of keys

	delivered, cancelled, expired uint64
	deadBy, buried                map[Reason]uint64 // at present, and as they came since the start
	dead                          map[uint64]*death
	wake                          chan struct{}
}

// retry is a message that waits for its next attempt.
type retry struct {
	Retry
	offset uint64
	index  int    // in due, or one of the following
	late   int    // in the drain's late
	key    string // ordering key; empty: none
}

const (
	inReady   = -1 // its time came
	following = -2 // its key is held by another message
)

// death is what is kept of a dead message besides the message itself.
type death struct {
	reason     Reason
	at         int64
	acceptedAt int64
	firstAt    int64
	attempts   int
	status     int
	size       int64
	key        string
	err        string
}

func newDrain(name string, num uint32, s *stream, from uint64) *drain {
	return &drain{
		name: name, num: num, stream: s, from: from, low: from, head: from,
		done: roaring64.New(), retries: map[uint64]*retry{}, lates: map[uint64]int64{},
		keys: map[string]*keyState{}, displaced: map[uint64]bool{}, holding: map[uint64]string{},
		deadBy: map[Reason]uint64{}, buried: map[Reason]uint64{}, dead: map[uint64]*death{}, wake: make(chan struct{}, 1),
	}
}

// finished reports whether nothing more will happen to a message by itself.
// What the drain never reads counts as finished.
func (d *drain) finished(offset uint64) bool { return offset < d.low || d.done.Contains(offset) }

// finish marks a message; false if it was finished before.
func (d *drain) finish(offset uint64) bool {
	switch {
	case offset < d.low:
		return false
	case offset == d.low: // never in done: as they come, mostly
		d.low++
		if d.done.Contains(d.low) {
			d.raiseLow()
		}
		d.head = max(d.head, d.low)
	case !d.done.CheckedAdd(offset):
		return false
	}
	d.flight.remove(offset)
	d.dropRetry(offset)
	d.letGo(offset)
	return true
}

// revive undoes finish.
func (d *drain) revive(offset uint64) {
	d.stream.live.void()
	if offset >= d.low {
		d.done.Remove(offset)
		return
	}
	d.done.AddRange(offset+1, d.low)
	d.low = offset
}

func (d *drain) raiseLow() {
	from := d.low
	for d.done.Contains(d.low) {
		d.low++
	}
	d.done.RemoveRange(from, d.low)
	d.head = max(d.head, d.low)
}

// unfinished counts the messages below end that are not finished.
func (d *drain) unfinished(end uint64) uint64 {
	if end <= d.low {
		return 0
	}
	return end - d.low - d.done.Rank(end-1)
}

// empty reports whether the drain needs nothing of its stream any more.
func (d *drain) empty() bool { return d.unfinished(d.stream.next) == 0 && len(d.dead) == 0 }

// signal tells the drain's loop to look again.
func (d *drain) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// addRetry schedules a message that holds its key, if it has one.
func (d *drain) addRetry(offset uint64, r Retry) {
	d.dropRetry(offset)
	x := &retry{Retry: r, offset: offset, key: d.holding[offset]}
	d.schedule(x)
	heap.Push(&d.due, x)
}

func (d *drain) schedule(x *retry) {
	d.retries[x.offset] = x
	heap.Push(&d.late, x)
}

func (d *drain) unschedule(x *retry) {
	heap.Remove(&d.late, x.late)
	delete(d.retries, x.offset)
}

func (d *drain) dropRetry(offset uint64) {
	x := d.retries[offset]
	if x == nil {
		return
	}
	if x.index >= 0 {
		heap.Remove(&d.due, x.index)
	}
	d.unschedule(x)
}

// state is where a message stands with the drain.
func (d *drain) state(offset uint64) State {
	if d.flight.get(offset) != nil {
		return Delivering
	}
	if d.retries[offset] != nil {
		return Scheduled
	}
	return Queued
}

// nextDue is when the next scheduled message becomes due; zero: none.
func (d *drain) nextDue() time.Time {
	if len(d.due) == 0 {
		return time.Time{}
	}
	return d.due[0].Due
}

// putBack undoes pick for one message.
func (d *drain) putBack(offset uint64) {
	f := d.flight.get(offset)
	if f == nil {
		return
	}
	last := f.last
	d.flight.remove(offset)
	switch {
	case last != nil:
		d.addRetry(offset, *last)
	case d.holding[offset] != "":
		// Its key may have got an earlier message meanwhile: one that was replayed.
		d.follow(d.keys[d.holding[offset]], offset)
		d.letGo(offset)
	default:
		heap.Push(&d.returned, offset)
	}
	d.signal()
}

// ahead counts the unfinished messages before offset that are not in flight.
func (d *drain) ahead(offset uint64) uint64 {
	return d.unfinished(offset) - d.flight.before(offset)
}

// pending is how many messages wait for their first attempt.
func (d *drain) pending() uint64 {
	return d.unfinished(d.stream.next) - uint64(d.flight.n) - uint64(len(d.retries))
}

func (d *drain) stats() DrainStats {
	s := DrainStats{
		Drain: d.name, Stream: d.stream.Name, Orphaned: d.orphaned,
		InFlight: uint64(d.flight.n), Scheduled: uint64(len(d.retries)),
		Delivered: d.delivered, Expired: d.expired, Cancelled: d.cancelled, Dead: map[Reason]uint64{},
	}
	s.ParkedKeys, s.Blocked = d.parkedKeys(), d.blocked
	if len(d.late) > 0 {
		s.LastDue = d.late[0].Due
	}
	s.Pending = d.pending()
	maps.Copy(s.Dead, d.deadBy)
	s.Buried = maps.Clone(d.buried)
	if b := d.stream.block(d.low); b != nil && d.low < d.stream.next {
		s.Oldest = time.UnixMilli(b.base)
	}
	return s
}
