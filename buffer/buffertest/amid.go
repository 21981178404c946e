package buffertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"pgregory.net/rapid"

	"forebay/buffer"
)

// step is one call of those that a crash falls among, to be made and to be told the model.
type step struct {
	name  string
	call  func() error
	apply func() // what it does, or may have done

	// Of an append, which is there whole or not at all.
	msgs []buffer.Message
	key  string // idempotency key; empty: none
}

// lane is what one caller does with a stream, one step after the other.
type lane struct {
	stream *modelStream
	steps  []step
	done   int // that returned
	err    error
}

func (l *lane) run() {
	for _, s := range l.steps {
		if l.err = s.call(); l.err != nil {
			l.err = fmt.Errorf("%s: %w", s.name, l.err)
			return
		}
		l.done++
	}
}

// crashAmid crashes the subject while there are calls under way on every stream.
// What returned before is there. Of the first that did not return in each lane all
// is there or nothing, if it was an append, else any part.
func (m *machine) crashAmid(t *rapid.T) {
	m.endLives()
	var lanes []*lane
	for _, s := range m.model.streams {
		lanes = append(lanes, m.drawLane(t, s))
	}
	beside := rapid.Bool().Draw(t, "beside a rewrite")
	wait := time.Duration(rapid.IntRange(0, 30_000).Draw(t, "crash after us")) * time.Microsecond

	var callers sync.WaitGroup
	for _, l := range lanes {
		callers.Go(l.run)
	}
	if beside {
		callers.Go(m.Amid)
	}
	<-time.After(wait)
	m.reopenAs(true, func() {
		callers.Wait()
		m.Logf("before the crash:%s", lanesDone(lanes))
		m.applyLanes(lanes)
	}, func() { m.findAppends(lanes) })
}

func lanesDone(lanes []*lane) (text string) {
	for _, l := range lanes {
		text += fmt.Sprintf(" %d of %d of %s (%v)", l.done, len(l.steps), l.stream.name, l.err)
	}
	return text
}

// applyLanes tells the model what was done before the crash, or may have been.
func (m *machine) applyLanes(lanes []*lane) {
	for _, l := range lanes {
		for _, s := range l.steps[:l.done] {
			if s.msgs != nil {
				m.forgetEarlier() // the acks before rode with an append
			}
		}
	}
	for _, l := range lanes {
		for _, s := range l.steps[:l.done] {
			s.apply()
		}
		if l.done < len(l.steps) && l.steps[l.done].msgs == nil {
			l.stream.inDoubt(l.steps[l.done].apply)
		}
	}
}

// findAppends looks for the appends that did not return.
func (m *machine) findAppends(lanes []*lane) {
	for _, l := range lanes {
		if l.done == len(l.steps) || l.steps[l.done].msgs == nil {
			continue
		}
		s, x := l.stream, l.steps[l.done]
		before, found := len(s.messages), int(m.streamStats(s.name).Accepted)
		switch found {
		case before:
		case before + len(x.msgs):
			x.apply()
		default:
			m.Fatalf("%s has %d messages after a crash amid the append of %d; it had %d", s.name, found, len(x.msgs), before)
		}
		if x.key != "" {
			m.wantLookup(s.name, onceKey(s.name+x.key, ""), s.lookUp(x.key, m.now))
		}
	}
}

// inDoubt applies what a crash may have left out.
func (s *modelStream) inDoubt(apply func()) {
	before := make(map[*modelPlace]modelPlace)
	for _, d := range s.drains {
		for _, p := range d.places {
			before[p] = *p
		}
	}
	apply()
	for p, was := range before {
		if !p.cancelAt.Equal(was.cancelAt) {
			p.endAttempt()
			p.cancelAt = was.cancelAt
		}
		if p.outcome != was.outcome {
			p.earlier = append(was.earlier, was.outcome)
		}
	}
}

// drawLane draws some calls for a stream. None of them depends on another.
func (m *machine) drawLane(t *rapid.T, s *modelStream) *lane {
	l := &lane{stream: s}
	answered := make(map[*modelPlace]bool)
	for range rapid.IntRange(1, 6).Draw(t, "calls to "+s.name) {
		switch rapid.SampledFrom([]string{"append", "append", "large", "once", "from", "answers", "cancel", "expire", "revive"}).Draw(t, "call") {
		case "append":
			l.steps = append(l.steps, m.appendStep(s, m.drawBatch(t, rapid.IntRange(1, 12).Draw(t, "messages"))))
		case "large":
			l.steps = append(l.steps, m.appendStep(s, []buffer.Message{m.largeMessage(t)}))
		case "from":
			if m.can(needBookmarks) {
				l.steps = append(l.steps, m.fromStep(s, m.drawBatch(t, rapid.IntRange(1, 12).Draw(t, "messages"))))
			}
		case "once":
			l.steps = append(l.steps, m.onceStep(s, m.nextMessage(t)))
		case "answers":
			l.steps = append(l.steps, m.answerSteps(t, s, answered)...)
		case "cancel":
			key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")
			l.steps = append(l.steps, m.cancelStep(s, key))
		case "expire":
			d := drawDrain(t, s.drains)
			before := m.now.Add(-time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms ago")) * time.Millisecond)
			l.steps = append(l.steps, m.expireStep(d, before))
		case "revive":
			d := drawDrain(t, s.drains)
			if dead := d.offsets(isDead); len(dead) > 0 {
				l.steps = append(l.steps, m.reviveStep(d, dead, rapid.Bool().Draw(t, "replay")))
			}
		}
	}
	return l
}

func (m *machine) appendStep(s *modelStream, msgs []buffer.Message) step {
	return step{
		name: "Append",
		msgs: msgs,
		call: func() error {
			_, err := m.Buffer.Append(context.Background(), s.name, m.now, msgs)
			return err
		},
		apply: func() { s.append(m.now, msgs) },
	}
}

// onceStep appends with a key that is new.
func (m *machine) onceStep(s *modelStream, msg buffer.Message) step {
	key := fmt.Sprintf("amid-%d", m.serial)
	once := onceKey(s.name+key, "body")
	once.TTL = 3 * time.Second
	return step{
		name: "AppendOnce",
		msgs: []buffer.Message{msg},
		key:  key,
		call: func() error {
			_, again, err := m.Buffer.(buffer.Once).AppendOnce(context.Background(), s.name, m.now, []buffer.Message{msg}, once)
			if again {
				err = errors.Join(err, errors.New("a new key was seen before"))
			}
			return err
		},
		apply: func() {
			a := buffer.Accepted{First: uint64(len(s.messages)), Count: 1}
			a.At = s.append(m.now, []buffer.Message{msg})
			s.once[key] = modelOnce{body: "body", accepted: a, until: m.now.Add(once.TTL)}
		},
	}
}

// answerSteps end some of what is in flight, each once.
func (m *machine) answerSteps(t *rapid.T, s *modelStream, answered map[*modelPlace]bool) (steps []step) {
	for _, d := range s.drains {
		for _, offset := range d.offsets(inFlight) {
			p := d.place(offset)
			if answered[p] || rapid.Bool().Draw(t, "stays in flight") {
				continue
			}
			answered[p] = true
			steps = append(steps, m.answerStep(t, d, offset, p))
		}
	}
	return steps
}

func (m *machine) answerStep(t *rapid.T, d *modelDrain, offset uint64, p *modelPlace) step {
	r := buffer.Result{At: m.now, Attempts: p.tries.Attempts + 1, Status: 201}
	tries := p.tries
	if tries.FirstAt.IsZero() {
		tries.FirstAt = m.now
	}
	switch rapid.SampledFrom([]string{"Ack", "Ack", "Release", "Bury"}).Draw(t, "answer") {
	case "Release":
		tries.Attempts++
		due := m.now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "due in ms")) * time.Millisecond)
		retry := buffer.Retry{Due: due, Tries: tries, Status: 503, Error: "busy"}
		return answerStep("Release", func() { m.Buffer.Release(d.name, offset, retry) }, p, outcome{state: buffer.Scheduled, tries: tries, due: due})
	case "Bury":
		r.FirstAt, r.Status, r.Error = m.now, 422, "refused"
		why := buffer.ReasonPermanent
		return answerStep("Bury", func() { m.Buffer.Bury(d.name, offset, why, r) }, p, outcome{state: buffer.Dead, tries: tries, result: r, reason: why})
	default:
		return answerStep("Ack", func() { m.Buffer.Ack(d.name, offset, r) }, p, outcome{state: buffer.Delivered, result: r})
	}
}

// answerStep never fails: the call has no error, and what it did may be lost anyway.
func answerStep(name string, call func(), p *modelPlace, o outcome) step {
	return step{
		name: name,
		call: func() error {
			call()
			return nil
		},
		apply: func() { p.settle(o) },
	}
}

func (m *machine) cancelStep(s *modelStream, key string) step {
	return step{
		name: "CancelKey",
		call: func() error {
			_, err := m.Buffer.(buffer.Searcher).CancelKey(context.Background(), s.name, key, m.now)
			return err
		},
		apply: func() { s.cancelKey(key, m.now) },
	}
}

func (m *machine) expireStep(d *modelDrain, before time.Time) step {
	return step{
		name: "Expire",
		call: func() error {
			_, _, err := m.Buffer.(buffer.Expirer).Expire(d.name, m.now, before, "")
			return err
		},
		apply: func() { d.expire(m.now, before, "") },
	}
}

// reviveStep replays dead letters or drops them.
func (m *machine) reviveStep(d *modelDrain, offsets []uint64, replay bool) step {
	letters := m.Buffer.(buffer.DeadLetters)
	do, end, name := letters.DropDead, (*modelPlace).drop, "DropDead"
	if replay {
		do, end, name = letters.Replay, (*modelPlace).replay, "Replay"
	}
	return step{
		name: name,
		call: func() error {
			_, err := do(context.Background(), d.name, offsets, m.now)
			return err
		},
		apply: func() { d.eachDead(offsets, func(p *modelPlace) { end(p, m.now) }) },
	}
}

// appendLarge fills a good part of a segment.
func (m *machine) appendLarge(t *rapid.T) {
	s := m.drawStream(t)
	msg := m.largeMessage(t)
	s.append(m.now, []buffer.Message{msg})
	m.append(s.name, msg)
}

func (m *machine) largeMessage(t *rapid.T) buffer.Message {
	msg := m.nextMessage(t)
	msg.Body = noise(uint64(m.serial), rapid.IntRange(100_000, 500_000).Draw(t, "large body"))
	return msg
}
