package buffertest

import (
	"maps"
	"slices"
	"time"

	"forebay/buffer"
)

// holds reports whether a message keeps others of its key from being taken.
func (p *modelPlace) holds() bool { return p.now() == buffer.Delivering || p.now() == buffer.Scheduled }

func (d *modelDrain) key(offset uint64) string { return d.stream.messages[offset].Key }

// first returns the first unfinished message of each key.
func (d *modelDrain) first() map[string]uint64 {
	first := make(map[string]uint64)
	for i, p := range slices.Backward(d.places) {
		offset := d.start + uint64(i)
		if key := d.key(offset); key != "" && !p.state.Final() {
			first[key] = offset
		}
	}
	return first
}

// settleHolders says who holds each key after something has changed: who held it
// before, while in flight or scheduled, else the first if it is.
func (d *modelDrain) settleHolders() {
	if d.holders == nil {
		d.holders = make(map[string]uint64)
	}
	for key, offset := range d.holders {
		if !d.place(offset).holds() {
			delete(d.holders, key)
		}
	}
	for key, offset := range d.first() {
		if _, held := d.holders[key]; !held && d.place(offset).holds() {
			d.holders[key] = offset
		}
	}
}

// next returns the one message of each key that may be taken.
func (d *modelDrain) next() map[string]uint64 {
	next := d.first()
	maps.Copy(next, d.holders)
	return next
}

// expire ends what waits and was accepted before a time.
func (d *modelDrain) expire(now, before time.Time, why buffer.Reason) (n int) {
	o := outcome{state: buffer.Expired, result: buffer.Result{At: now}, reason: why}
	if why != "" {
		o.state = buffer.Dead
	}
	for i, p := range d.places {
		if p.waits() && d.stream.accepted[d.start+uint64(i)].Before(before) {
			o.tries, o.result.Attempts = p.tries, p.tries.Attempts
			p.become(o)
			n++
		}
	}
	return n
}

// oldest returns when the oldest message was accepted that is as asked.
func (d *modelDrain) oldest(ask func(*modelPlace) bool) time.Time {
	if list := d.offsets(ask); len(list) > 0 {
		return d.stream.accepted[list[0]]
	}
	return time.Time{}
}

// replay makes a dead message due at once, durably.
func (p *modelPlace) replay(now time.Time) {
	p.outcome = outcome{state: buffer.Scheduled, due: now, tries: buffer.Tries{Attempts: p.result.Attempts}}
	p.earlier = nil
}

// drop ends a dead message for good, durably.
func (p *modelPlace) drop(now time.Time) {
	p.outcome = outcome{state: buffer.Cancelled, result: buffer.Result{At: now}}
	p.earlier = nil
}
