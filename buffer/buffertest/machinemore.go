package buffertest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"forebay/buffer"
)

// moreActions are those that need a capability of the subject.
func (m *machine) moreActions() map[string]func(*rapid.T) {
	actions := make(map[string]func(*rapid.T))
	for _, a := range []struct {
		name  string
		needs capability
		do    func(*rapid.T)
	}{
		{"cancel", needReceipts, m.cancelOne},
		{"find", needReceipts, m.findOne},
		{"restart", needReopen, m.restart},
		{"crashAmid", needCrashAmid, m.crashAmid},
		{"crashAmidAgain", needCrashAmid, m.crashAmid}, // more often than others
		{"large", needCrashAmid, m.appendLarge},
		{"once", needOnce, m.onceSome},
		{"expire", needExpirer, m.expireSome},
		{"replay", needDeadLetters, m.replaySome},
		{"dropDead", needDeadLetters, m.dropSome},
		{"dead", needDeadLetters, m.listDead},
		{"findKey", needSearcher, m.findKey},
		{"cancelKey", needSearcher, m.cancelKey},
		{"lookup", needOnce, m.lookUp},
		{"liveBegins", needLive, m.liveBegins},
		{"liveEnds", needLive, m.liveEnds},
		{"from", needBookmarks, m.appendFrom},
		{"housekeep", needHousekeep, m.housekeep},
	} {
		if m.can(a.needs) {
			actions[a.name] = a.do
		}
	}
	return actions
}

func drawKey(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "", "a", "a", "b", "c"}).Draw(t, "key")
}

// onceSome appends with one of few idempotency keys, so that most come again.
func (m *machine) onceSome(t *rapid.T) {
	s := m.drawStream(t)
	key := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "idempotency key")
	body := rapid.SampledFrom([]string{"body", "body", "body", "another"}).Draw(t, "content")
	msg := m.nextMessage(t)
	call := fmt.Sprintf("AppendOnce(%s, key %s, %s)", s.name, key, body)
	once := onceKey(s.name+key, body)
	once.TTL = 3 * time.Second

	a, replayed, err := m.foretold(s.name, once, msg)
	known, ok := s.once[key]
	ok = ok && m.now.Before(known.until)
	switch {
	case ok && known.body != body:
		if !errors.Is(err, buffer.ErrMismatch) {
			m.Fatalf("%s: %v, %v, want %v", call, a, err, buffer.ErrMismatch)
		}
		return
	case ok:
		m.wantAccepted(call, a, known.accepted, replayed, true, err)
		return
	}
	want := buffer.Accepted{First: uint64(len(s.messages)), Count: 1}
	want.At = s.append(m.now, []buffer.Message{msg})
	m.wantAccepted(call, a, want, replayed, false, err)
	s.once[key] = modelOnce{body: body, accepted: want, until: m.now.Add(once.TTL)}
}

func (m *machine) wantAccepted(call string, got, want buffer.Accepted, replayed, wantReplayed bool, err error) {
	if diff := differ(want, got); err != nil || diff != "" || replayed != wantReplayed {
		m.Fatalf("%s: %v, replayed %v, want %v (-want +got):\n%s", call, err, replayed, wantReplayed, diff)
	}
}

func (m *machine) expireSome(t *rapid.T) {
	d := drawDrain(t, m.model.drains())
	// Seldom most of what waits, mostly the oldest few.
	before := m.now.Add(-time.Duration(rapid.IntRange(-500, 20_000).Draw(t, "ms ago")) * time.Millisecond)
	why := rapid.SampledFrom([]buffer.Reason{"", "", buffer.ReasonDeadline, buffer.ReasonRetention}).Draw(t, "reason")
	want := d.expire(m.now, before, why)
	n, oldest := m.expire(d.name, before, why)
	if n != want {
		m.Fatalf("Expire(%s, before %s) ended %d messages, want %d", d.name, clock(before), n, want)
	}
	// The contract does not say whether what is in flight is left.
	unfinished := d.oldest(func(p *modelPlace) bool { return !p.state.Final() })
	waiting := d.oldest((*modelPlace).waits)
	if !oldest.Equal(unfinished) && !oldest.Equal(waiting) {
		m.Fatalf("Expire(%s, before %s): the oldest left is of %s, want %s (waiting: %s)", d.name, clock(before), clock(oldest), clock(unfinished), clock(waiting))
	}
}

// someOffsets draws a drain that has dead messages, and some of its offsets,
// dead or not.
func (m *machine) someOffsets(t *rapid.T) (*modelDrain, []uint64) {
	d, offset, _ := m.oneOf(t, "dead", isDead)
	list := []uint64{offset}
	for range rapid.IntRange(0, 4).Draw(t, "more") {
		list = append(list, rapid.Uint64Range(0, uint64(len(d.stream.messages))).Draw(t, "offset"))
	}
	slices.Sort(list)
	return d, slices.Compact(list)
}

func isDead(p *modelPlace) bool { return p.state == buffer.Dead }

func (m *machine) replaySome(t *rapid.T) {
	d, list := m.someOffsets(t)
	want := d.eachDead(list, func(p *modelPlace) { p.replay(m.now) })
	if n := m.replay(d.name, list...); n != want {
		m.Fatalf("Replay(%s, %v) counts %d messages, want %d", d.name, list, n, want)
	}
}

func (m *machine) dropSome(t *rapid.T) {
	d, list := m.someOffsets(t)
	want := d.eachDead(list, func(p *modelPlace) { p.drop(m.now) })
	if n := m.dropDead(d.name, list...); n != want {
		m.Fatalf("DropDead(%s, %v) counts %d messages, want %d", d.name, list, n, want)
	}
}

func (d *modelDrain) eachDead(list []uint64, fn func(*modelPlace)) (n int) {
	for _, offset := range list {
		if p := d.place(offset); p != nil && isDead(p) {
			fn(p)
			n++
		}
	}
	return n
}

// listDead compares the dead letters of a drain, and one of them whole.
func (m *machine) listDead(t *rapid.T) {
	d := drawDrain(t, m.model.drains())
	got := m.deadList(d.name, rapid.IntRange(1, 4).Draw(t, "page"))
	var want []buffer.DeadLetter
	for i, offset := range d.offsets(isDead) {
		p := d.place(offset)
		l := buffer.DeadLetter{
			Ref: buffer.Ref{Stream: d.stream.name, Offset: offset}, Drain: d.name, Key: d.key(offset),
			Reason: p.reason, Status: p.result.Status, Attempts: p.result.Attempts, Error: p.result.Error,
			AcceptedAt: d.stream.accepted[offset], FirstAt: p.tries.FirstAt, At: p.result.At,
		}
		if i < len(got) && unanswered(p.reason) {
			l.Status, l.Error = got[i].Status, got[i].Error
		}
		want = append(want, l)
	}
	m.wantLetters(got, want)
	if len(want) > 0 {
		l := got[rapid.IntRange(0, len(got)-1).Draw(t, "dead letter")]
		m.wantLetterWhole(l, d.stream.messages[l.Offset])
	}
}

// unanswered reports whether a message died between two attempts: a restart may
// forget how the last one went.
func unanswered(why buffer.Reason) bool {
	return why == buffer.ReasonDeadline || why == buffer.ReasonRetention
}

func (m *machine) cancelKey(t *rapid.T) {
	s := m.drawStream(t)
	key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")
	m.wantCancelKey(s.name, key, s.cancelKey(key, m.now))
}

func (m *machine) lookUp(t *rapid.T) {
	s := m.drawStream(t)
	key := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "idempotency key")
	m.wantLookup(s.name, onceKey(s.name+key, ""), s.lookUp(key, m.now))
}

func (m *machine) findKey(t *rapid.T) {
	s := m.drawStream(t)
	key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")
	limit := rapid.IntRange(1, 9).Draw(t, "limit")
	want := s.unfinishedOf(key)
	m.wantKey(s.name, key, limit, want[:min(limit, len(want))]...)
}
