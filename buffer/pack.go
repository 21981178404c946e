package buffer

import (
	"bytes"
	"sync"

	"forebay/buffer/block"
)

// packAt is the length from which an append compresses on its caller's own
// goroutine, so that the committer has only to write.
const packAt = 64 << 10

// hurryAt is the length from which an append is compressed in less time and not to
// the least: whoever sends so much at once has more that waits.
const hurryAt = 2 << 20

// rooms are where blocks that nobody reads soon are gathered: memory that is new costs more
// than what is done in it.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

// packParts makes finished blocks of a large append. Their offsets and times
// are in the envelope, which is written last.
func (e *Engine) packParts(name string, msgs []Message, size int64) []*part {
	mean := int(size)/len(msgs) + 1
	if size >= hurryAt {
		if !e.readsSoon(name, mean) {
			return e.packUnread(msgs, mean)
		}
		return e.packEach(msgs, mean, e.comp.PackFast)
	}
	return e.packEach(msgs, mean, e.comp.Pack)
}

func (e *Engine) packEach(msgs []Message, mean int, pack func([]byte) ([]byte, block.Codec)) (parts []*part) {
	for i := 0; i < len(msgs); {
		most := min(blockTarget/mean+2, len(msgs)-i)
		p := &part{closed: true, raw: make([]byte, 0, most*mean+headLen(&msgs[i])), places: places{at: make([]recordPlace, 0, most)}}
		for first := i; i < len(msgs) && len(p.raw) < blockTarget; i++ {
			start := len(p.raw)
			e.record(p, msgs, first, i)
			p.mark(start)
		}
		p.pack(pack)
		parts = append(parts, p)
	}
	return parts
}

// packUnread keeps of a block only what is written.
func (e *Engine) packUnread(msgs []Message, mean int) (parts []*part) {
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	for i := 0; i < len(msgs); {
		first := i
		p := &part{closed: true, raw: (*room)[:0], keys: make([]keyEntry, 0, min(blockTarget/mean+2, len(msgs)-i))}
		for ; i < len(msgs) && len(p.raw) < blockTarget; i++ {
			e.record(p, msgs, first, i)
		}
		if cap(p.raw) <= 4*blockTarget { // unless a message is large
			*room = p.raw
		}
		if p.pack(e.comp.PackFast); p.codec == block.Raw {
			p.payload = bytes.Clone(p.payload)
		}
		p.raw, p.count = nil, i-first
		parts = append(parts, p)
	}
	return parts
}

// record appends the ith message to a part that begins with the first.
func (e *Engine) record(p *part, msgs []Message, first, i int) {
	p.keys = e.keyHash.entries(p.keys, uint64(i-first), msgs[i].Key, msgs[i].CancelKeys)
	p.owners = own(p.owners, i-first, 1, msgs[i].Owner)
	p.raw = append(p.raw, 0) // accepted_at is the base time
	p.raw = appendRecord(p.raw, &msgs[i], i > first && alike(msgs, i))
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
