package buffertest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"forebay/buffer"
)

// Expire implements buffer.Expirer. The oldest that is left may be in flight.
func (m *Mem) Expire(drain string, now, before time.Time, why buffer.Reason) (n int, oldest time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok {
		return 0, time.Time{}, fmt.Errorf("expire for %s: %w", drain, buffer.ErrNoDrain)
	}
	state := buffer.Expired
	if why != "" {
		state = buffer.Dead
	}
	d.oldest() // raises low
	for i := d.low; i < len(d.places); i++ {
		offset := d.start + uint64(i)
		if !d.stream.messages[offset].at.Before(before) {
			break // accepted_at never decreases
		}
		if p := &d.places[i]; p.waits() {
			p.reason = why
			m.finish(d, p, offset, state, now)
			n++
		}
	}
	return n, d.oldest(), nil
}

// waits reports whether a message is unfinished and not in flight.
func (p *place) waits() bool {
	return p.state == buffer.Queued || p.state == buffer.Scheduled
}

// Housekeep does what an engine does from time to time: dead letters that are
// older than dead_keep end as expired, and idempotency records past their TTL
// are forgotten.
func (m *Mem) Housekeep(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.streams {
		for key, r := range s.once {
			if !r.holds(now) {
				delete(s.once, key)
			}
		}
		for _, d := range s.drains {
			for i := range d.places {
				if p := &d.places[i]; p.state == buffer.Dead && now.After(p.at.Add(s.DeadKeep)) {
					m.settleDead(d, p, d.start+uint64(i), buffer.Expired, now)
				}
			}
		}
	}
}

// Dead implements buffer.DeadLetters.
func (m *Mem) Dead(drain string, after uint64, limit int) (list []buffer.DeadLetter, more bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok {
		return nil, false, fmt.Errorf("list dead messages of %s: %w", drain, buffer.ErrNoDrain)
	}
	// After the greatest offset comes 0: the first page.
	for offset := max(after+1, d.start); d.place(offset) != nil; offset++ {
		if d.place(offset).state != buffer.Dead {
			continue
		}
		if len(list) >= limit {
			return list, true, nil
		}
		list = append(list, m.deadLetter(d, offset))
	}
	return list, false, nil
}

func (m *Mem) deadLetter(d *memDrain, offset uint64) buffer.DeadLetter {
	p, msg := d.place(offset), d.stream.messages[offset]
	return buffer.DeadLetter{
		Ref:        buffer.Ref{Stream: d.stream.Name, Offset: offset},
		ID:         m.ids.seal(d.stream.number, offset),
		Drain:      d.name,
		Key:        msg.Key,
		Reason:     p.reason,
		Status:     p.status,
		Attempts:   p.tries.Attempts,
		Error:      p.err,
		AcceptedAt: msg.at,
		FirstAt:    p.tries.FirstAt,
		At:         p.at,
	}
}

// DeadMessage implements buffer.DeadLetters.
func (m *Mem) DeadMessage(drain string, offset uint64) (buffer.DeadLetter, buffer.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok {
		return buffer.DeadLetter{}, buffer.Message{}, fmt.Errorf("read a dead message of %s: %w", drain, buffer.ErrNoDrain)
	}
	if p := d.place(offset); p == nil || p.state != buffer.Dead {
		return buffer.DeadLetter{}, buffer.Message{}, fmt.Errorf("read dead message %d of %s: %w", offset, drain, buffer.ErrNoMessage)
	}
	return m.deadLetter(d, offset), clone(d.stream.messages[offset].Message), nil
}

// Replay implements buffer.DeadLetters. A replayed message is scheduled, and due.
// Its answers and its age count anew: it would be dead again at once else.
func (m *Mem) Replay(ctx context.Context, drain string, offsets []uint64, now time.Time) (int, error) {
	return m.eachDead(ctx, "replay", drain, offsets, func(d *memDrain, p *place, offset uint64) {
		d.undead(p, offset)
		d.stream.owe(offset)
		d.low = min(d.low, int(offset-d.start))
		p.tries = buffer.Tries{Attempts: p.tries.Attempts}
		p.retry, p.due, p.reason, p.at = true, now, "", time.Time{}
		d.keepAnswer(p, offset, nil)
		d.enter(offset)
		m.wait(d, p, offset)
	})
}

// DropDead implements buffer.DeadLetters.
func (m *Mem) DropDead(ctx context.Context, drain string, offsets []uint64, now time.Time) (int, error) {
	return m.eachDead(ctx, "drop dead messages", drain, offsets, func(d *memDrain, p *place, offset uint64) {
		m.settleDead(d, p, offset, buffer.Cancelled, now)
	})
}

// eachDead runs fn on those of a drain's messages that are dead, in order.
func (m *Mem) eachDead(ctx context.Context, what, drain string, offsets []uint64, fn func(*memDrain, *place, uint64)) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%s for %s: %w", what, drain, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok {
		return 0, fmt.Errorf("%s for %s: %w", what, drain, buffer.ErrNoDrain)
	}
	for _, offset := range slices.Sorted(slices.Values(offsets)) {
		if p := d.place(offset); p != nil && p.state == buffer.Dead {
			fn(d, p, offset)
			n++
		}
	}
	return n, nil
}

// settleDead ends a dead message for good.
func (m *Mem) settleDead(d *memDrain, p *place, offset uint64, state buffer.State, now time.Time) {
	d.undead(p, offset)
	p.state, p.reason, p.at = state, "", now
	d.count(p, offset)
	m.changed(buffer.Ref{Stream: d.stream.Name, Offset: offset})
}

// undead takes a message out of the dead.
func (d *memDrain) undead(p *place, offset uint64) {
	d.dead[p.reason]--
	s := d.stream
	s.messages[offset].dead--
	if s.messages[offset].dead == 0 {
		s.deadBytes -= int64(len(s.messages[offset].Body))
	}
}

// died takes note that a message is dead with one more drain.
func (s *memStream) died(offset uint64) {
	s.messages[offset].dead++
	if s.messages[offset].dead == 1 {
		s.deadBytes += int64(len(s.messages[offset].Body))
	}
}

// ExpireOwn implements buffer.OwnDeadlines.
func (m *Mem) ExpireOwn(drain string, now time.Time, why buffer.Reason) (n int, next time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.drains[drain]
	if !ok {
		return 0, time.Time{}, fmt.Errorf("expire for %s: %w", drain, buffer.ErrNoDrain)
	}
	state := buffer.Expired
	if why != "" {
		state = buffer.Dead
	}
	if !d.stream.timed {
		return 0, time.Time{}, nil
	}
	d.oldest() // raises low
	for i := d.low; i < len(d.places); i++ {
		offset := d.start + uint64(i)
		p, deadline := &d.places[i], d.stream.messages[offset].Deadline
		switch {
		case deadline.IsZero() || p.state.Final():
		case deadline.After(now) || !p.waits():
			if deadline.Before(now) {
				deadline = now.Add(time.Millisecond)
			}
			if next.IsZero() || deadline.Before(next) {
				next = deadline
			}
		default:
			p.reason = why
			m.finish(d, p, offset, state, now)
			n++
		}
	}
	return n, next, nil
}
