package buffertest

import (
	"slices"
	"time"

	"forebay/buffer"
)

// model is what the contract says, as plainly as possible: every question is
// answered by looking at every message.
type model struct {
	streams []*modelStream
}

type modelStream struct {
	name     string
	messages []buffer.Message
	accepted []time.Time // by offset
	drains   []*modelDrain
	once     map[string]modelOnce
	live     map[string]int // requests under way, by key
	mark     string         // how far the source of that name is; empty: it has brought nothing
}

type modelDrain struct {
	name   string
	stream *modelStream
	start  uint64
	places []*modelPlace // by offset, from start
	// The message of each key that others wait for: in flight or scheduled.
	holders map[string]uint64
}

// modelPlace is where a message stands with a drain.
type modelPlace struct {
	outcome
	inFlight bool
	cancelAt time.Time // when its key was cancelled in flight; zero: not
	// What a crash may bring back: what was true since the last time that all
	// was known to be durable. Empty when outcome is durable.
	earlier []outcome
}

// outcome is what is durable of a place. Its state is never Delivering.
type outcome struct {
	state  buffer.State
	tries  buffer.Tries
	due    time.Time
	result buffer.Result
	reason buffer.Reason
}

func (p *modelPlace) become(o outcome) {
	p.earlier = append(p.earlier, p.outcome)
	p.outcome, p.inFlight = o, false
}

// settle is become for what ends an attempt: there is no other after a cancel. o
// is what the message becomes without one.
func (p *modelPlace) settle(o outcome) {
	if p.cancelAt.IsZero() {
		p.become(o)
		return
	}
	p.endAttempt() // what a crash makes of it, until this is durable
	p.become(p.orCancelled(o))
}

// orCancelled is how a message ends whose key was cancelled during the attempt.
func (p *modelPlace) orCancelled(o outcome) outcome {
	if o.state == buffer.Delivered {
		return o
	}
	at := o.result.At
	if at.IsZero() {
		at = p.cancelAt
	}
	return outcome{state: buffer.Cancelled, result: buffer.Result{At: at}}
}

// endAttempt ends what is in flight as a stop does: it waits again, unless its
// key was cancelled.
func (p *modelPlace) endAttempt() {
	if p.inFlight && !p.cancelAt.IsZero() {
		p.outcome, p.earlier = p.orCancelled(outcome{}), nil
	}
	p.inFlight = false
}

func (p *modelPlace) now() buffer.State {
	if p.inFlight {
		return buffer.Delivering
	}
	return p.state
}

func (p *modelPlace) waits() bool { return !p.inFlight && !p.state.Final() }

func newModel(streams []buffer.Stream) *model {
	m := &model{}
	for _, want := range streams {
		m.streams = append(m.streams, &modelStream{name: want.Name, once: make(map[string]modelOnce), live: make(map[string]int)})
	}
	m.configure(streams)
	return m
}

// configure adds drains; it does not know how to remove one.
func (m *model) configure(streams []buffer.Stream) {
	for i, want := range streams {
		s := m.streams[i]
		for _, name := range want.Drains {
			if !slices.ContainsFunc(s.drains, func(d *modelDrain) bool { return d.name == name }) {
				s.drains = append(s.drains, &modelDrain{name: name, stream: s, start: uint64(len(s.messages))})
			}
		}
	}
}

func (m *model) drains() []*modelDrain {
	var all []*modelDrain
	for _, s := range m.streams {
		all = append(all, s.drains...)
	}
	return all
}

func (s *modelStream) append(now time.Time, msgs []buffer.Message) time.Time {
	at := now.Truncate(time.Millisecond)
	if n := len(s.accepted); n > 0 && s.accepted[n-1].After(at) {
		at = s.accepted[n-1]
	}
	for _, msg := range msgs {
		s.messages = append(s.messages, msg)
		s.accepted = append(s.accepted, at)
		for _, d := range s.drains {
			d.places = append(d.places, &modelPlace{outcome: outcome{state: buffer.Queued}})
		}
	}
	return at
}

// place returns where a message stands, or nil if it is none of the drain's.
func (d *modelDrain) place(offset uint64) *modelPlace {
	if offset < d.start || offset >= d.start+uint64(len(d.places)) {
		return nil
	}
	return d.places[offset-d.start]
}

// take puts messages in flight. next is the earliest due time of the rest.
func (d *modelDrain) take(now time.Time, limit int) (taken []uint64, next time.Time) {
	turn := d.next()
	hasTurn := func(offset uint64) bool { return d.key(offset) == "" || turn[d.key(offset)] == offset }
	for _, state := range []buffer.State{buffer.Scheduled, buffer.Queued} {
		for i, p := range d.places {
			offset := d.start + uint64(i)
			held := state == buffer.Queued && d.stream.isLive(offset)
			if len(taken) < limit && p.waits() && p.state == state && !p.due.After(now) && hasTurn(offset) && !held {
				p.inFlight = true
				taken = append(taken, offset)
			}
		}
	}
	for i, p := range d.places {
		waits := p.waits() && p.state == buffer.Scheduled && hasTurn(d.start+uint64(i))
		if waits && (next.IsZero() || p.due.Before(next)) {
			next = p.due
		}
	}
	return taken, next
}

// offsets returns those of the messages that are as asked.
func (d *modelDrain) offsets(ask func(*modelPlace) bool) []uint64 {
	var list []uint64
	for i, p := range d.places {
		if ask(p) {
			list = append(list, d.start+uint64(i))
		}
	}
	return list
}

// cancel ends a message where it waits, durably.
func (s *modelStream) cancel(offset uint64, now time.Time) error {
	err := buffer.ErrFinal
	done := false
	for _, d := range s.drains {
		p := d.place(offset)
		switch {
		case p == nil:
		case p.inFlight:
			err = buffer.ErrDelivering
		case p.waits():
			p.outcome = outcome{state: buffer.Cancelled, result: buffer.Result{At: now}}
			p.earlier = nil
			done = true
		}
	}
	if done {
		return nil
	}
	return err
}

func (s *modelStream) status(offset uint64) buffer.Status {
	status := buffer.Status{Ref: buffer.Ref{Stream: s.name, Offset: offset}, AcceptedAt: s.accepted[offset]}
	for _, d := range s.drains {
		if p := d.place(offset); p != nil {
			status.Drains = append(status.Drains, d.status(p, offset))
		}
	}
	return status
}

func (d *modelDrain) status(p *modelPlace, offset uint64) buffer.DrainStatus {
	status := buffer.DrainStatus{Drain: d.name, State: p.now()}
	switch {
	case p.inFlight:
	case p.state == buffer.Scheduled:
		status.Due, status.Attempts = p.due, p.tries.Attempts
	case p.state.Final():
		status.Attempts, status.Status, status.Error = p.result.Attempts, p.result.Status, p.result.Error
		status.Reason, status.At = p.reason, p.result.At
	}
	if p.waits() {
		for _, before := range d.places[:offset-d.start] {
			if before.waits() {
				status.Ahead++
			}
		}
	}
	return status
}

func (s *modelStream) stats() buffer.StreamStats {
	stats := buffer.StreamStats{Stream: s.name, Accepted: uint64(len(s.messages))}
	for offset := range s.messages {
		open := false
		for _, d := range s.drains {
			p := d.place(uint64(offset))
			open = open || p != nil && !p.state.Final()
		}
		if !open {
			continue
		}
		if stats.Messages == 0 {
			stats.Oldest = s.accepted[offset]
		}
		stats.Messages++
	}
	return stats
}

func (d *modelDrain) stats() buffer.DrainStats {
	stats := buffer.DrainStats{
		Drain:      d.name,
		Stream:     d.stream.name,
		Dead:       make(map[buffer.Reason]uint64),
		ParkedKeys: len(d.holders),
	}
	for i, p := range d.places {
		switch p.now() {
		case buffer.Queued:
			stats.Pending++
		case buffer.Scheduled:
			stats.Scheduled++
			if p.due.After(stats.LastDue) {
				stats.LastDue = p.due
			}
		case buffer.Delivering:
			stats.InFlight++
		case buffer.Delivered:
			stats.Delivered++
		case buffer.Cancelled:
			stats.Cancelled++
		case buffer.Expired:
			stats.Expired++
		case buffer.Dead:
			stats.Dead[p.reason]++
		}
		if !p.state.Final() && stats.Oldest.IsZero() {
			stats.Oldest = d.stream.accepted[d.start+uint64(i)]
		}
	}
	return stats
}
