package buffer

import (
	"sync"

	"forebay/buffer/block"
)

// packAt is the length from which an append compresses on its caller's own
// goroutine, so that the committer has only to write.
const packAt = 64 << 10

// hurryAt is the length from which an append is compressed in less time and not to
// the least: whoever sends so much at once has more that waits.
const hurryAt = 1 << 20

// rooms are where blocks that nobody reads soon are gathered: memory that is new costs more
// than what is done in it.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

// packer makes finished blocks of a large append. Their offsets and times are in the
// envelope, which is written last.
type packer struct {
	e      *Engine
	mean   int     // bytes of a message, about
	left   int     // messages to come
	hurry  bool    // less time is worth more than disk
	room   *[]byte // where a block of which is kept only what is written is gathered; nil: all of it is kept
	part   *part   // that is not finished; nil: none
	parts  []*part
	length int64 // of parts, before compression
}

// packer begins an append of n messages of together size bytes, about.
func (e *Engine) packer(name string, n int, size int64) *packer {
	w := &packer{e: e, mean: int(size)/n + 1, left: n, hurry: size >= hurryAt}
	if w.hurry && !e.readsSoon(name, w.mean) {
		w.room = rooms.Get().(*[]byte)
	}
	return w
}

// add encodes messages and keeps nothing of them.
func (w *packer) add(msgs []Message) {
	for i := range msgs {
		p, first := w.part, w.part == nil
		if first {
			p = w.begin(&msgs[i])
		}
		start := len(p.raw)
		p.keys = w.e.keyHash.entries(p.keys, uint64(p.count), msgs[i].Key, msgs[i].CancelKeys)
		p.owners = own(p.owners, p.count, 1, msgs[i].Owner)
		p.raw = append(p.raw, 0) // accepted_at is the base time
		p.raw = appendRecord(p.raw, &msgs[i], !first && alike(msgs, i))
		if w.room == nil {
			p.mark(start)
		}
		if p.count++; len(p.raw) >= blockTarget {
			w.endPart()
		}
	}
	w.left -= len(msgs)
}

func (w *packer) begin(m *Message) *part {
	most := max(1, min(blockTarget/w.mean+2, w.left))
	w.part = &part{closed: true, keys: make([]keyEntry, 0, most)}
	if w.room != nil {
		w.part.raw = (*w.room)[:0]
	} else {
		w.part.raw = make([]byte, 0, most*w.mean+headLen(m))
		w.part.at = make([]recordPlace, 0, most)
	}
	return w.part
}

func (w *packer) endPart() {
	p := w.part
	raw := p.raw
	w.part, w.parts, w.length = nil, append(w.parts, p), w.length+int64(len(raw))
	p.rawLen = len(raw)
	if w.hurry {
		p.sealable, p.codec = w.e.comp.PackSealable(raw)
		p.payload = p.sealable[block.HeaderSize:]
	} else {
		p.payload, p.codec = w.e.comp.Pack(raw)
	}
	if w.room == nil {
		return
	}
	if cap(raw) <= 4*blockTarget { // unless a message is large
		*w.room = raw
	}
	p.raw = nil
}

// end returns the blocks. Nothing is added any more.
func (w *packer) end() []*part {
	if w.part != nil {
		w.endPart()
	}
	if w.room != nil {
		rooms.Put(w.room)
	}
	return w.parts
}

func (p *part) pack(pack func([]byte) ([]byte, block.Codec)) {
	p.count, p.rawLen = len(p.at), len(p.raw)
	p.payload, p.codec = pack(p.raw)
}

// readsSoon reports whether a drain comes to what is appended to a stream now before newer
// messages, mean bytes each, take its place in memory.
func (e *Engine) readsSoon(name string, mean int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := e.streams[name]
	if st == nil {
		return false
	}
	for _, d := range st.drains {
		if d.unfinished(st.next) < uint64(cacheMemory/mean) {
			return true
		}
	}
	return false
}

// packing is how what small appends made together is compressed. Where many callers wait
// for it processors are short, and less time is worth more than disk.
func (e *Engine) packing(callers int) func([]byte) ([]byte, block.Codec) {
	if callers >= crowdAt {
		return e.comp.PackFast
	}
	return e.comp.Pack
}
