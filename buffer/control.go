package buffer

import (
	"encoding/binary"
	"fmt"
	"time"

	"forebay/buffer/block"

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
)

// maxError bounds what is kept of a sink's words, in bytes.
const maxError = 256

type ops []byte

func (o *ops) op(code byte, nums ...uint64) {
	*o = append(*o, code)
	for _, n := range nums {
		*o = binary.AppendUvarint(*o, n)
	}
}

func (o *ops) text(s string) { *o = block.AppendString(*o, s) }

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

// snapshotPart bounds a snapshot's blocks; one drain's finished set may be more.
const snapshotPart = 8 << 20

// snapshot is the whole state as operations, in parts of about snapshotPart
// bytes. The caller holds mu.
func (e *Engine) snapshot() ([]ops, error) {
	parts := []ops{nil}
	next := func() *ops {
		if len(parts[len(parts)-1]) > snapshotPart {
			parts = append(parts, nil)
		}
		return &parts[len(parts)-1]
	}
	next().op(opNums, uint64(e.lastNum))
	for _, s := range e.sortedStreams() {
		next().stream(s)
		for _, d := range s.drains {
			next().drain(d)
			if err := d.marks(next()); err != nil {
				return nil, err
			}
			for offset, r := range d.retries {
				next().retry(d, offset, r.Retry, r.key)
			}
			for offset, f := range d.flight {
				if f.last.Attempts > 0 {
					next().retry(d, offset, f.last, d.holding[offset])
				}
			}
			for offset, x := range d.dead {
				next().death(opGrave, d, offset, x)
			}
		}
	}
	for _, seg := range e.segments {
		if seg.live > 0 {
			next().op(opLive, seg.id)
		}
	}
	return parts, nil
}

func (d *drain) marks(o *ops) error {
	set, err := d.done.ToBytes()
	if err != nil {
		return fmt.Errorf("encode what %s finished: %w", d.name, err)
	}
	o.op(opMarks, uint64(d.num), d.low, d.delivered, d.cancelled, d.expired, uint64(len(d.deadBy)))
	for reason, n := range d.deadBy {
		o.text(string(reason))
		*o = binary.AppendUvarint(*o, n)
	}
	o.text(string(set))
	return nil
}

// operation is one decoded operation.
type operation struct {
	code                     byte
	num, stream              uint32
	offset, at, accepted     uint64
	first, attempts, answers uint64
	status                   uint64
	state                    State
	reason                   Reason
	size                     uint64
	name                     string // or error
	key                      string
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

// eachOp decodes a control block's payload.
func eachOp(payload string, fn func(*operation) error) error {
	r := block.NewReader(payload)
	for r.Len() > 0 {
		op, err := readOp(r)
		if err != nil {
			return err
		}
		if err := fn(op); err != nil {
			return err
		}
	}
	return r.Err()
}

func readOp(r *block.Reader) (*operation, error) {
	op := &operation{code: r.Byte()}
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
	case opFinish, opDropDead:
		op.num, op.offset = uint32(r.Uint()), r.Uint()
		code := r.Uint()
		op.at, op.accepted, op.attempts, op.status = r.Uint(), r.Uint(), r.Uint(), r.Uint()
		if code >= uint64(len(stateCodes)) {
			return nil, fmt.Errorf("%w: final state %d", block.ErrDamaged, code)
		}
		op.state = stateCodes[code]
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
	case opOnce:
		op.num, op.offset, op.attempts, op.accepted, op.at = uint32(r.Uint()), r.Uint(), r.Uint(), r.Uint(), r.Uint()
		op.key, op.name = r.String(), r.String()
	case opMarks:
		op.num = uint32(r.Uint())
		m, err := readMarks(r)
		if err != nil {
			return nil, err
		}
		op.marks = m
	default:
		return nil, fmt.Errorf("%w: operation %d", block.ErrDamaged, op.code)
	}
	return op, r.Err()
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
func (e *Engine) apply(op *operation) error {
	switch op.code {
	case opStream:
		s := e.byNum[op.num]
		if s == nil {
			s = e.newStream(op.num, op.name)
		}
		s.next, s.lastAt, s.read = max(s.next, op.offset), max(s.lastAt, int64(op.at)), op.status == 1
		return nil
	case opDropStream:
		if s := e.byNum[op.num]; s != nil {
			e.forgetStream(s)
		}
		return nil
	case opDrain:
		s := e.byNum[op.stream]
		if s == nil {
			return fmt.Errorf("%w: drain %s of stream %d, which is not known", block.ErrDamaged, op.name, op.stream)
		}
		if e.drainNums[op.num] == nil {
			e.newDrain(s, op.num, op.name, op.offset)
		}
		return nil
	case opNums:
		e.lastNum = max(e.lastNum, uint32(op.offset))
		return nil
	case opGone, opLive, opOnce:
		return nil // read before, where directories are compared with what should be there
	}
	d := e.drainNums[op.num]
	if d == nil {
		return fmt.Errorf("%w: operation %d for drain %d, which is not known", block.ErrDamaged, op.code, op.num)
	}
	e.applyToDrain(d, op)
	return nil
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
			d.addRetry(op.offset, Retry{
				Due: fromMillis(op.at), Tries: Tries{Attempts: int(op.attempts), Answers: int(op.answers), FirstAt: fromMillis(op.first)},
				Status: int(op.status), Error: op.name,
			})
			if op.key != "" {
				d.holding[op.offset] = op.key // sorted out by openKeys once all are known
			}
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
	d.dead[offset] = x
	d.stream.deadBytes += x.size
}

// exhume takes a message out of the dead.
func (d *drain) exhume(offset uint64, x *death) {
	d.deadBy[x.reason]--
	delete(d.dead, offset)
	d.stream.deadBytes -= x.size
}
