package buffertest

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	"forebay/buffer"
)

// memDrain is one reader of a stream.
type memDrain struct {
	name     string
	stream   *memStream
	orphaned bool
	wake     chan struct{}

	start   uint64           // the first offset that it reads
	places  []place          // by offset, from start
	low     int              // no place before it is unfinished
	retries []uint64         // offsets of scheduled messages, ascending
	ready   offsetHeap       // all that may have its first attempt, and some that may not
	lines   map[string]*line // by key; of keys with unfinished messages
	parked  int              // lines that are held
	keyless bool             // keys are nothing to it

	pending, inFlight             uint64
	delivered, cancelled, expired uint64
	dead, buried                  map[buffer.Reason]uint64 // at present, and as they came
}

// place is where one message stands with a drain. While it is in flight, tries,
// due, status and err are still those of the attempt before.
type place struct {
	state  buffer.State
	retry  bool // it was released: it waits for due, not for its first attempt
	tries  buffer.Tries
	due    time.Time
	status int
	err    string
	reason buffer.Reason
	at     time.Time // when it became final
	answer *buffer.Answer
	// cancelAt is when its key was cancelled while it was in flight; zero: not.
	cancelAt time.Time
}

// newDrain makes a drain that the stream has not had before.
func (s *memStream) newDrain(name string) *memDrain {
	first := !s.read
	s.read = true
	start := len(s.messages)
	switch {
	case first || slices.Contains(s.FromOldest, name):
		start = s.oldest()
	}
	d := &memDrain{
		name:   name,
		stream: s,
		wake:   make(chan struct{}, 1),
		start:  uint64(start),
		lines:  make(map[string]*line),
		dead:   make(map[buffer.Reason]uint64),
		buried: make(map[buffer.Reason]uint64),
	}
	for offset := d.start; offset < uint64(len(s.messages)); offset++ {
		if !first { // else it was owed to whatever drain comes first
			s.owe(offset)
		}
		d.add(offset)
	}
	return d
}

// add makes the newest message wait for its first attempt.
func (d *memDrain) add(offset uint64) {
	d.places = append(d.places, place{state: buffer.Queued})
	d.pending++
	if d.enter(offset) {
		d.arrange(offset)
	}
}

// signal fills the one slot; a signal that waits already says the same.
func (d *memDrain) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// place returns where the message of that offset stands, or nil where it is
// none of the drain's.
func (d *memDrain) place(offset uint64) *place {
	if offset < d.start || offset-d.start >= uint64(len(d.places)) {
		return nil
	}
	return &d.places[offset-d.start]
}

// Take implements buffer.Buffer. What the deliveries refer to is the buffer's
// and must not be changed.
func (m *Mem) Take(drain string, now time.Time, limit int) ([]buffer.Delivery, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok || d.orphaned {
		return nil, time.Time{}, fmt.Errorf("take for %s: %w", drain, buffer.ErrNoDrain)
	}
	var ds []buffer.Delivery
	for _, offset := range d.due(now, limit) {
		ds = append(ds, m.hand(d, offset))
	}
	ds = append(ds, m.handUntried(d, now, limit-len(ds))...)
	return ds, d.nextDue(), nil
}

// due returns at most limit offsets of messages that may be tried again at now.
func (d *memDrain) due(now time.Time, limit int) []uint64 {
	var due []uint64
	for _, offset := range d.retries {
		if len(due) >= limit {
			break
		}
		if !d.place(offset).due.After(now) && d.isNext(offset) {
			due = append(due, offset)
		}
	}
	return due
}

// handUntried hands out at most limit messages for their first attempt. At the
// bound of parked keys it opens no other key.
func (m *Mem) handUntried(d *memDrain, now time.Time, limit int) []buffer.Delivery {
	var ds []buffer.Delivery
	var aside []uint64
	for len(ds) < limit && len(d.ready) > 0 {
		offset := heap.Pop(&d.ready).(uint64)
		switch {
		case d.place(offset).state != buffer.Queued || !d.isNext(offset):
			// It was finished, taken or overtaken since it was offered.
		case d.parked >= m.maxParked && d.key(offset) != "":
			aside = append(aside, offset)
		case d.stream.messages[offset].DeliverAfter.After(now):
			p := d.place(offset)
			p.retry, p.due = true, d.stream.messages[offset].DeliverAfter
			d.wait(p, offset)
		default:
			ds = append(ds, m.hand(d, offset))
		}
	}
	for _, offset := range aside {
		heap.Push(&d.ready, offset)
	}
	return ds
}

// nextDue is the earliest time at which a scheduled message may be tried again.
// One that waits for another of its key has none: its key's turn wakes the drain.
func (d *memDrain) nextDue() time.Time {
	var next time.Time
	for _, offset := range d.retries {
		if due := d.place(offset).due; d.isNext(offset) && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next
}

// lastDue is the latest due time of what is scheduled.
func (d *memDrain) lastDue() (last time.Time) {
	for _, offset := range d.retries {
		if due := d.place(offset).due; due.After(last) {
			last = due
		}
	}
	return last
}

// hand puts a waiting message in flight.
func (m *Mem) hand(d *memDrain, offset uint64) buffer.Delivery {
	p := d.place(offset)
	d.leave(p, offset)
	p.state = buffer.Delivering
	d.inFlight++
	d.arrange(offset)
	ref := buffer.Ref{Stream: d.stream.Name, Offset: offset}
	m.changed(ref)
	msg := d.stream.messages[offset]
	return buffer.Delivery{
		Ref:        ref,
		AcceptedAt: msg.at,
		Tries:      p.tries,
		Message:    msg.Message,
	}
}

// leave takes a message out of the count of its present, unfinished state.
func (d *memDrain) leave(p *place, offset uint64) {
	switch p.state {
	case buffer.Queued:
		d.pending--
	case buffer.Scheduled:
		if i, ok := slices.BinarySearch(d.retries, offset); ok {
			d.retries = slices.Delete(d.retries, i, i+1)
		}
	case buffer.Delivering:
		d.inFlight--
	}
}

// wait makes a message wait: for another attempt if it had one, else for its first.
func (d *memDrain) wait(p *place, offset uint64) {
	d.leave(p, offset)
	if !p.retry {
		p.state = buffer.Queued
		d.pending++
	} else {
		p.state = buffer.Scheduled
		i, _ := slices.BinarySearch(d.retries, offset)
		d.retries = slices.Insert(d.retries, i, offset)
	}
	d.arrange(offset)
}

// Return implements buffer.Buffer. A message that is not in flight stays as it is.
func (m *Mem) Return(drain string, offset uint64) {
	m.settle(drain, offset, func(d *memDrain, p *place) { m.waitAgain(d, p, offset) })
}

// Ack implements buffer.Buffer. A message that is not in flight stays as it is.
func (m *Mem) Ack(drain string, offset uint64, r buffer.Result) {
	m.settle(drain, offset, func(d *memDrain, p *place) {
		d.note(p, offset, r)
		m.finish(d, p, offset, buffer.Delivered, r.At)
	})
}

// Release implements buffer.Buffer. A message that is not in flight stays as it is.
func (m *Mem) Release(drain string, offset uint64, r buffer.Retry) {
	m.settle(drain, offset, func(d *memDrain, p *place) {
		p.retry, p.tries, p.due, p.status, p.err = true, r.Tries, r.Due, r.Status, r.Error
		m.waitAgain(d, p, offset)
	})
}

// Bury implements buffer.Buffer. A message that is not in flight stays as it is.
func (m *Mem) Bury(drain string, offset uint64, why buffer.Reason, r buffer.Result) {
	m.settle(drain, offset, func(d *memDrain, p *place) {
		d.note(p, offset, r)
		if !p.cancelAt.IsZero() {
			m.finish(d, p, offset, buffer.Cancelled, r.At)
			return
		}
		p.reason = why
		m.finish(d, p, offset, buffer.Dead, r.At)
	})
}

// settle runs fn on a message that is in flight. Any other was finished,
// returned or released before, or never given out: what comes then is too late.
func (m *Mem) settle(drain string, offset uint64, fn func(*memDrain, *place)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok {
		return
	}
	if p := d.place(offset); p != nil && p.state == buffer.Delivering {
		fn(d, p)
	}
}

// note keeps how the last attempt went.
func (d *memDrain) note(p *place, offset uint64, r buffer.Result) {
	p.tries.Attempts, p.status, p.err = r.Attempts, r.Status, r.Error
	if p.tries.FirstAt.IsZero() {
		p.tries.FirstAt = r.FirstAt
	}
	d.keepAnswer(p, offset, r.Answer)
}

// waitAgain makes a message that was in flight wait again, or end as cancelled.
func (m *Mem) waitAgain(d *memDrain, p *place, offset uint64) {
	if p.cancelAt.IsZero() {
		m.wait(d, p, offset)
		return
	}
	m.finish(d, p, offset, buffer.Cancelled, p.cancelAt)
}

// wait makes a message wait again and tells everyone.
func (m *Mem) wait(d *memDrain, p *place, offset uint64) {
	d.wait(p, offset)
	d.signal()
	m.changed(buffer.Ref{Stream: d.stream.Name, Offset: offset})
}

// finish ends an unfinished message with one drain.
func (m *Mem) finish(d *memDrain, p *place, offset uint64, state buffer.State, at time.Time) {
	d.leave(p, offset)
	p.state, p.at = state, at
	d.count(p, offset)
	d.exit(offset)
	d.stream.finished(offset)
	m.changed(buffer.Ref{Stream: d.stream.Name, Offset: offset})
}

// count takes note of how a message ended.
func (d *memDrain) count(p *place, offset uint64) {
	switch p.state {
	case buffer.Delivered:
		d.delivered++
	case buffer.Cancelled:
		d.cancelled++
	case buffer.Expired:
		d.expired++
	case buffer.Dead:
		d.dead[p.reason]++
		d.buried[p.reason]++
		d.stream.died(offset)
	}
}

// Wake implements buffer.Buffer.
func (m *Mem) Wake(drain string) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok || d.orphaned {
		return nil
	}
	return d.wake
}

// oldest is when the drain's oldest unfinished message was accepted; zero when
// there is none.
func (d *memDrain) oldest() time.Time {
	for ; d.low < len(d.places); d.low++ {
		if !d.places[d.low].state.Final() {
			return d.stream.messages[d.start+uint64(d.low)].at
		}
	}
	return time.Time{}
}
