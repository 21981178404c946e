package buffer

import (
	"encoding/binary"
	"fmt"
	"time"

	"forebay/buffer/block"
	"forebay/buffer/segment"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// Control blocks hold changes of state, snapshots all of it, both as a row of
// operations. Applying an operation twice changes nothing, but for opFinish on
// top of a snapshot that has it: the engine cuts changes and snapshot in one
// step, so that no change is in both.
const (
	opStream     = 1  // num, name, next, lastAt, read
	opDrain      = 2  // num, stream, name, from
	opDropStream = 3  // num
	opDropDrain  = 4  // num
	opFinish     = 5  // drain, offset, state, at, acceptedAt, attempts, status
	opBury       = 6  // drain, offset, at, acceptedAt, firstAt, attempts, status, size, reason, error, key
	opRetry      = 7  // drain, offset, due, attempts, answers, firstAt, status, error, key
	opGone       = 8  // segment that is about to be removed
	opMarks      = 9  // drain, low, finished, delivered, cancelled, expired, dead by reason; snapshots alone
	opGrave      = 10 // as opBury, without counting; snapshots alone
	opLive       = 11 // segment with messages that may still be read; snapshots alone
	opNums       = 12 // the last number given to a stream or drain; snapshots alone
	opRevive     = 13 // drain, offset: a dead message is unfinished again
	opDropDead   = 14 // as opFinish, for a dead message
	opOnce       = 15 // stream, first, count, acceptedAt, until, key, body
	opAnswer     = 16 // drain, offset, at, answer
	opCancel     = 17 // drain, offset, at, acceptedAt: in flight, and not to be tried again
	opFinishRun  = 18 // as opFinish, of the first of some messages in a row, and how many
	opOwner      = 19 // stream, first, count, owner
	opBookmark   = 20 // source, part, at
	opUnmark     = 21 // source: all of its bookmarks go
)

// maxError bounds what is kept of a sink's words, in bytes.
const maxError = 256

// ops is operations in a row, in parts that each become one block.
type ops struct {
	parts [][]byte
	run   finishRun // comes last
}

// finishRun is messages in a row that ended alike: a drain that keeps up acks many in
// one millisecond. It becomes one operation.
type finishRun struct {
	drain uint32
	first outcome
	n     uint64
}

// opsPart is the length at which another part is begun, in bytes; one drain's
// finished set may be more.
const opsPart = 8 << 20

func (o *ops) empty() bool { return len(o.parts) == 0 && o.run.n == 0 }

// size is how many blocks the operations take, and how many bytes.
func (o *ops) size() (n int, bytes int64) {
	o.endRun()
	for _, part := range o.parts {
		bytes += segment.Size(part) + block.Overhead
	}
	return len(o.parts), bytes
}

func (o *ops) add(later ops) {
	o.endRun()
	later.endRun()
	o.parts = append(o.parts, later.parts...)
}

// finish says how a message ended.
func (o *ops) finish(drain uint32, x outcome) {
	if r := &o.run; r.n > 0 && r.drain == drain && r.first.at == x.at {
		alike := r.first
		if alike.offset += r.n; alike == x {
			r.n++
			return
		}
	}
	o.endRun()
	o.run = finishRun{drain, x, 1}
}

// endRun makes an operation of the messages that ended alike.
func (o *ops) endRun() {
	r := o.run
	o.run = finishRun{}
	switch r.n {
	case 0:
	case 1:
		o.ended(opFinish, r.drain, r.first)
	default:
		o.ended(opFinishRun, r.drain, r.first)
		o.number(r.n)
	}
}

// ended is an operation that tells an outcome.
func (o *ops) ended(code byte, drain uint32, x outcome) {
	o.op(code, uint64(drain), x.offset, uint64(x.state), uint64(x.at), uint64(x.accepted), uint64(x.attempts), uint64(x.status))
}

func (o *ops) op(code byte, nums ...uint64) {
	o.endRun()
	if n := len(o.parts); n == 0 || len(o.parts[n-1]) > opsPart {
		o.parts = append(o.parts, nil)
	}
	part := append(o.parts[len(o.parts)-1], code)
	for _, n := range nums {
		part = binary.AppendUvarint(part, n)
	}
	o.parts[len(o.parts)-1] = part
}

// text goes with the operation before it.
func (o *ops) text(s string) {
	last := &o.parts[len(o.parts)-1]
	*last = block.AppendString(*last, s)
}

func (o *ops) number(n uint64) {
	last := &o.parts[len(o.parts)-1]
	*last = binary.AppendUvarint(*last, n)
}

func (o *ops) stream(s *stream) {
	o.op(opStream, uint64(s.num), s.next, uint64(s.lastAt), b2u(s.read))
	o.text(s.Name)
}

func (o *ops) drain(d *drain) {
	o.op(opDrain, uint64(d.num), uint64(d.stream.num), d.from)
	o.text(d.name)
}

func (o *ops) retry(d *drain, offset uint64, r Retry, key string) {
	o.op(opRetry, uint64(d.num), offset, millis(r.Due), uint64(r.Attempts), uint64(r.Answers), millis(r.FirstAt), uint64(r.Status))
	o.text(clip(r.Error))
	o.text(key)
}

func (o *ops) cancel(d *drain, offset uint64, f *flight) {
	o.op(opCancel, uint64(d.num), offset, uint64(f.cancelAt), uint64(f.acceptedAt))
}

func (o *ops) death(code byte, d *drain, offset uint64, x *death) {
	o.op(code, uint64(d.num), offset, uint64(x.at), uint64(x.acceptedAt), uint64(x.firstAt), uint64(x.attempts), uint64(x.status), uint64(x.size))
	o.text(string(x.reason))
	o.text(x.err)
	o.text(x.key)
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func clip(s string) string {
	if len(s) > maxError {
		s = s[:maxError]
	}
	return s
}

func millis(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMilli())
}

func fromMillis(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// snapshot is the whole state as operations. The caller holds mu.
func (e *Engine) snapshot() (o ops, err error) {
	o.op(opNums, uint64(e.lastNum))
	for _, s := range e.sortedStreams() {
		o.stream(s)
		for _, d := range s.drains {
			o.drain(d)
			if err := d.marks(&o); err != nil {
				return o, err
			}
			for offset, r := range d.retries {
				o.retry(d, offset, e.shown(r.Retry), r.key)
			}
			for offset, f := range d.flight.all() {
				if f.last != nil {
					o.retry(d, offset, e.shown(*f.last), d.holding[offset])
				}
				if f.cancelAt != 0 {
					o.cancel(d, offset, f)
				}
			}
			for offset, x := range d.dead {
				o.death(opGrave, d, offset, x)
			}
		}
	}
	for _, seg := range e.segments {
		if seg.live > 0 {
			o.op(opLive, seg.id)
		}
	}
	for source, parts := range e.bookmarks {
		for part, at := range parts {
			o.bookmark(source, Bookmark{part, at})
		}
	}
	return o, nil
}

// names is which streams and drains there are. It is kept beside the segments,
// so that one damaged block of changes cannot make messages nobody's.
func (e *Engine) names() (o ops) {
	o.op(opNums, uint64(e.lastNum))
	for _, s := range e.sortedStreams() {
		o.stream(s)
		for _, d := range s.drains {
			o.drain(d)
		}
	}
	return o
}

func (d *drain) marks(o *ops) error {
	set, err := d.done.ToBytes()
	if err != nil {
		return fmt.Errorf("encode what %s finished: %w", d.name, err)
	}
	o.op(opMarks, uint64(d.num), d.low, d.delivered, d.cancelled, d.expired, uint64(len(d.deadBy)))
	for reason, n := range d.deadBy {
		o.text(string(reason))
		o.number(n)
	}
	o.text(string(set))
	return nil
}

// operation is one decoded operation.
type operation struct {
	code                     byte
	n                        uint64 // for how many offsets in a row it holds
	num, stream              uint32
	offset, at, accepted     uint64
	first, attempts, answers uint64
	status                   uint64
	state                    State
	reason                   Reason
	size                     uint64
	name                     string // or error, or source
	key                      string
	mark                     Bookmark
	marks                    marks
}

type marks struct {
	low, delivered, cancelled, expired uint64
	dead                               map[Reason]uint64
	done                               *roaring64.Bitmap
}

// stateCodes are the final states as they are stored; the order is for good.
var stateCodes = [...]State{Delivered, Cancelled, Expired, Dead}

func stateCode(s State) uint64 {
	for i, x := range stateCodes {
		if x == s {
			return uint64(i)
		}
	}
	return 0 // not reached: only final states are stored
}

// eachOp decodes a control block's payload. fn keeps nothing of an operation.
func eachOp(payload string, fn func(*operation) error) error {
	r := block.NewReader(payload)
	var op operation
	for r.Len() > 0 {
		if err := op.read(r); err != nil {
			return err
		}
		for n := op.n; n > 0; n-- {
			if err := fn(&op); err != nil {
				return err
			}
			op.offset++
		}
	}
	return r.Err()
}

func (op *operation) read(r *block.Reader) error {
	*op = operation{code: r.Byte(), n: 1}
	switch op.code {
	case opStream:
		op.num, op.offset, op.at, op.status = uint32(r.Uint()), r.Uint(), r.Uint(), r.Uint()
		op.name = r.String()
	case opDrain:
		op.num, op.stream, op.offset = uint32(r.Uint()), uint32(r.Uint()), r.Uint()
		op.name = r.String()
	case opDropStream, opDropDrain:
		op.num = uint32(r.Uint())
	case opGone, opLive, opNums:
		op.offset = r.Uint()
	case opFinish, opDropDead, opFinishRun:
		op.num, op.offset = uint32(r.Uint()), r.Uint()
		code := r.Uint()
		op.at, op.accepted, op.attempts, op.status = r.Uint(), r.Uint(), r.Uint(), r.Uint()
		if code >= uint64(len(stateCodes)) {
			return fmt.Errorf("%w: final state %d", block.ErrDamaged, code)
		}
		op.state = stateCodes[code]
		if op.code == opFinishRun {
			op.code, op.n = opFinish, r.Uint()
		}
	case opBury, opGrave:
		op.num, op.offset = uint32(r.Uint()), r.Uint()
		op.at, op.accepted, op.first, op.attempts, op.status, op.size = r.Uint(), r.Uint(), r.Uint(), r.Uint(), r.Uint(), r.Uint()
		op.state, op.reason, op.name, op.key = Dead, Reason(r.String()), r.String(), r.String()
	case opRetry:
		op.num, op.offset = uint32(r.Uint()), r.Uint()
		op.at, op.attempts, op.answers, op.first, op.status = r.Uint(), r.Uint(), r.Uint(), r.Uint(), r.Uint()
		op.name, op.key = r.String(), r.String()
	case opRevive:
		op.num, op.offset = uint32(r.Uint()), r.Uint()
	case opCancel:
		op.num, op.offset, op.at, op.accepted = uint32(r.Uint()), r.Uint(), r.Uint(), r.Uint()
	case opAnswer:
		op.num, op.offset, op.at = uint32(r.Uint()), r.Uint(), r.Uint()
		op.name = r.String()
	case opOnce:
		op.num, op.offset, op.attempts, op.accepted, op.at = uint32(r.Uint()), r.Uint(), r.Uint(), r.Uint(), r.Uint()
		op.key, op.name = r.String(), r.String()
	case opOwner:
		op.num, op.offset, op.n, op.accepted = uint32(r.Uint()), r.Uint(), r.Uint(), r.Uint()
	case opBookmark:
		op.name, op.mark.Part, op.mark.At = r.String(), r.String(), r.String()
	case opUnmark:
		op.name = r.String()
	case opMarks:
		op.num = uint32(r.Uint())
		m, err := readMarks(r)
		if err != nil {
			return err
		}
		op.marks = m
	default:
		return fmt.Errorf("%w: operation %d", block.ErrDamaged, op.code)
	}
	return r.Err()
}

func readMarks(r *block.Reader) (marks, error) {
	m := marks{dead: map[Reason]uint64{}, done: roaring64.New()}
	m.low, m.delivered, m.cancelled, m.expired = r.Uint(), r.Uint(), r.Uint(), r.Uint()
	for range r.Count(2) {
		reason := Reason(r.String())
		m.dead[reason] = r.Uint()
	}
	set := r.String()
	if err := r.Err(); err != nil {
		return m, err
	}
	if err := m.done.UnmarshalBinary([]byte(set)); err != nil {
		return m, fmt.Errorf("%w: finished set: %w", block.ErrDamaged, err)
	}
	return m, nil
}

// apply changes the state by one operation. It is for recovery: the owed
// counts of blocks are made afterwards, from what is then unfinished.
func (e *Engine) apply(op *operation) {
	switch op.code {
	case opStream:
		s := e.byNum[op.num]
		if s == nil {
			s = e.newStream(op.num, op.name)
		}
		s.next, s.lastAt, s.read = max(s.next, op.offset), max(s.lastAt, int64(op.at)), op.status == 1
		return
	case opDropStream:
		if s := e.byNum[op.num]; s != nil {
			e.forgetStream(s)
		}
		return
	case opDrain:
		if s := e.byNum[op.stream]; s == nil {
			e.unknown("drain", op)
		} else if e.drainNums[op.num] == nil {
			e.newDrain(s, op.num, op.name, op.offset)
			s.read = true
		}
		return
	case opNums:
		e.lastNum = max(e.lastNum, uint32(op.offset))
		return
	case opBookmark:
		e.setBookmark(op.name, op.mark)
		return
	case opUnmark:
		delete(e.bookmarks, op.name)
		return
	case opGone, opLive, opOnce, opAnswer, opOwner:
		return // read before, where directories are compared with what should be there
	}
	if d := e.drainNums[op.num]; d != nil {
		e.applyToDrain(d, op)
	} else if op.code != opDropDrain {
		e.unknown("change", op)
	}
}

// unknown counts what cannot be applied, because the block that made its
// stream or drain is damaged, or what it belongs to was dropped since.
func (e *Engine) unknown(what string, op *operation) {
	e.log.Debug("passed over: its drain or stream is not known", "what", what, "operation", op.code, "number", op.num)
}

func (e *Engine) applyToDrain(d *drain, op *operation) {
	switch op.code {
	case opDropDrain:
		e.forgetDrain(d)
	case opFinish:
		if d.finish(op.offset) {
			d.count(op.state)
		}
	case opBury:
		if d.finish(op.offset) {
			d.bury(op.offset, op.death())
		}
	case opGrave:
		d.dead[op.offset] = op.death()
		d.stream.deadBytes += int64(op.size)
	case opRevive:
		if x := d.dead[op.offset]; x != nil {
			d.exhume(op.offset, x)
			d.revive(op.offset)
		}
	case opDropDead:
		if x := d.dead[op.offset]; x != nil {
			d.exhume(op.offset, x)
			d.count(op.state)
		}
	case opRetry:
		if !d.finished(op.offset) {
			if op.key != "" {
				d.holding[op.offset] = op.key // sorted out by openKeys once all are known
			}
			d.addRetry(op.offset, Retry{
				Due: fromMillis(op.at), Tries: Tries{Attempts: int(op.attempts), Answers: int(op.answers), FirstAt: fromMillis(op.first)},
				Status: int(op.status), Error: op.name,
			})
		}
	case opCancel:
		if !d.finished(op.offset) {
			d.flight.put(op.offset, flight{cancelAt: int64(op.at), acceptedAt: int64(op.accepted)}) // until endAttempts
		}
	case opMarks:
		d.low, d.done = op.marks.low, op.marks.done
		d.delivered, d.cancelled, d.expired = op.marks.delivered, op.marks.cancelled, op.marks.expired
		d.deadBy = op.marks.dead
		d.raiseLow()
		d.head = d.low
	}
}

func (op *operation) death() *death {
	return &death{
		reason: op.reason, at: int64(op.at), acceptedAt: int64(op.accepted), firstAt: int64(op.first),
		attempts: int(op.attempts), status: int(op.status), size: int64(op.size), key: op.key, err: op.name,
	}
}

func (d *drain) count(s State) {
	switch s {
	case Delivered:
		d.delivered++
	case Cancelled:
		d.cancelled++
	case Expired:
		d.expired++
	}
}

func (d *drain) bury(offset uint64, x *death) {
	d.deadBy[x.reason]++
	d.buried[x.reason]++
	d.dead[offset] = x
	d.stream.deadBytes += x.size
}

// exhume takes a message out of the dead.
func (d *drain) exhume(offset uint64, x *death) {
	d.deadBy[x.reason]--
	delete(d.dead, offset)
	d.stream.deadBytes -= x.size
}
