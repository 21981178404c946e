package buffertest

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"forebay/buffer"
)

// modelBudget is how long RunModel goes on to open new subjects. One that fails
// is reduced beyond it.
const modelBudget = 8 * time.Second

// RunModel runs random operations against a subject and a model, and compares
// what is taken, the receipts, the stats and the audit. Each check opens a
// subject; -rapid.checks and -rapid.steps say how many, as long as they end
// within 8 seconds; the log says how many subjects that was. make torture-model runs
// many more.
func RunModel(t *testing.T, open func(t *testing.T) Subject) {
	end := time.Now().Add(modelBudget)
	RunModelWhile(t, func() bool { return time.Now().Before(end) }, open)
}

// RunModelWhile is RunModel that opens new subjects as long as more says so.
func RunModelWhile(t *testing.T, more func() bool, open func(t *testing.T) Subject) {
	opened, failed := 0, false
	defer func() { t.Logf("%d subjects", opened) }()
	rapid.Check(t, func(rt *rapid.T) {
		if !failed && !more() {
			return
		}
		opened++
		m := newMachine(rt, open(t))
		defer m.end()
		defer func() { failed = failed || rt.Failed() }()
		rt.Repeat(m.actions())
	})
}

// machine does everything twice: to the subject and to the model.
type machine struct {
	*fixture
	model  *model
	serial int       // of the next message
	kept   time.Time // when Housekeep was called last
	lives  []modelLive
}

func newMachine(t *rapid.T, s Subject) *machine {
	streams := twoDrains()
	return &machine{fixture: newFixture(t, s, streams), model: newModel(streams)}
}

func (m *machine) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		"":            func(*rapid.T) { m.check() },
		"append":      func(t *rapid.T) { m.appendSome(t, 1) },
		"appendBatch": func(t *rapid.T) { m.appendSome(t, rapid.IntRange(2, 12).Draw(t, "messages")) },
		"take":        m.takeSome,
		"takeAgain":   m.takeSome, // as often as messages come
		"ack":         m.ackOne,
		"release":     m.releaseOne,
		"bury":        m.buryOne,
		"return":      m.returnOne,
		"late":        m.lateAnswer,
		"configure":   m.addDrain,
		"advance":     m.advance,
		"advanceDue":  m.advanceDue,
	}
	maps.Copy(actions, m.moreActions())
	for name, do := range actions {
		actions[name] = func(t *rapid.T) {
			do(t)
			for _, d := range m.model.drains() {
				d.settleHolders()
			}
		}
	}
	return actions
}

// check compares what can be seen without changing anything.
func (m *machine) check() {
	if _, ok := m.Buffer.(buffer.Inspector); !ok {
		return
	}
	for _, s := range m.model.streams {
		m.wantStreamStats("the last operation", s.stats())
	}
	for _, d := range m.model.drains() {
		m.wantDrainStats("the last operation", d.stats())
	}
	m.checkLedger()
}

func (m *machine) appendSome(t *rapid.T, n int) {
	s := m.drawStream(t)
	msgs := m.drawBatch(t, n)
	first := uint64(len(s.messages))
	at := s.append(m.now, msgs)
	a := m.append(s.name, msgs...)
	if a.First != first || !a.At.Equal(at) {
		m.Fatalf("Append(%s, %d messages): offset %d, accepted %s; want %d, %s", s.name, n, a.First, clock(a.At), first, clock(at))
	}
}

// drawBatch draws messages that came together or one by one.
func (m *machine) drawBatch(t *rapid.T, n int) (msgs []buffer.Message) {
	batch := rapid.Bool().Draw(t, "batch")
	for i := range n {
		msg := m.nextMessage(t)
		if batch {
			msg.Batch, msg.Index = "b", i
			if i > 0 {
				msg.Target, msg.Header = msgs[0].Target, msgs[0].Header
			}
		}
		msgs = append(msgs, msg)
	}
	return msgs
}

func (m *machine) nextMessage(t *rapid.T) buffer.Message {
	msg := keyed(m.serial, drawKey(t))
	msg.CancelKeys = rapid.SampledFrom([][]string{nil, nil, {}, {"d"}, {"d", "a"}}).Draw(t, "cancel keys")
	if size := rapid.SampledFrom([]int{0, 0, 0, 300, 20_000}).Draw(t, "noise"); size > 0 {
		msg.Body = noise(uint64(m.serial), size)
	}
	m.serial++
	return msg
}

func (m *machine) takeSome(t *rapid.T) {
	d := drawDrain(t, m.model.drains())
	limit := rapid.IntRange(1, 15).Draw(t, "limit")
	want, wantNext := d.take(m.now, limit)
	got, next := m.takeNext(d.name, limit)
	if !slices.Equal(offsets(got), want) {
		m.Fatalf("Take(%s, %s, %d): offsets %v, want %v", d.name, clock(m.now), limit, offsets(got), want)
	}
	if len(got) < limit && !next.Equal(wantNext) {
		m.Fatalf("Take(%s, %s, %d): next %s, want %s", d.name, clock(m.now), limit, next, wantNext)
	}
	for _, del := range got {
		m.wantMessage(del, d.stream.messages[del.Offset])
		want := buffer.Delivery{
			Ref:        buffer.Ref{Stream: d.stream.name, Offset: del.Offset},
			AcceptedAt: d.stream.accepted[del.Offset],
			Tries:      d.place(del.Offset).tries,
		}
		del.Message = buffer.Message{}
		if diff := differ(want, del); diff != "" {
			m.Fatalf("delivery to %s (-want +got):\n%s", d.name, diff)
		}
	}
}

// oneOf draws a drain and one of its messages that is as asked.
func (m *machine) oneOf(t *rapid.T, what string, ask func(*modelPlace) bool) (*modelDrain, uint64, *modelPlace) {
	var drains []*modelDrain
	for _, d := range m.model.drains() {
		if len(d.offsets(ask)) > 0 {
			drains = append(drains, d)
		}
	}
	if len(drains) == 0 {
		t.Skipf("no message is %s", what)
	}
	d := drawDrain(t, drains)
	offset := rapid.SampledFrom(d.offsets(ask)).Draw(t, what)
	return d, offset, d.place(offset)
}

func inFlight(p *modelPlace) bool { return p.inFlight }

func (m *machine) ackOne(t *rapid.T) {
	d, offset, p := m.oneOf(t, "in flight", inFlight)
	r := buffer.Result{At: m.now, Attempts: p.tries.Attempts + 1, Status: 201}
	p.settle(outcome{state: buffer.Delivered, result: r})
	m.Buffer.Ack(d.name, offset, r)
}

func (m *machine) buryOne(t *rapid.T) {
	d, offset, p := m.oneOf(t, "in flight", inFlight)
	r := buffer.Result{At: m.now, FirstAt: m.now, Attempts: p.tries.Attempts + 1, Status: 422, Error: "refused"}
	tries := p.tries
	if tries.FirstAt.IsZero() {
		tries.FirstAt = r.FirstAt
	}
	why := rapid.SampledFrom([]buffer.Reason{buffer.ReasonPermanent, buffer.ReasonMaxAttempts, buffer.ReasonMaxAge}).Draw(t, "reason")
	p.settle(outcome{state: buffer.Dead, tries: tries, result: r, reason: why})
	m.Buffer.Bury(d.name, offset, why, r)
}

func (m *machine) releaseOne(t *rapid.T) {
	d, offset, p := m.oneOf(t, "in flight", inFlight)
	tries := p.tries
	tries.Attempts++
	tries.Answers += rapid.IntRange(0, 1).Draw(t, "answers")
	if tries.FirstAt.IsZero() {
		tries.FirstAt = m.now
	}
	due := m.now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "due in ms")) * time.Millisecond)
	p.settle(outcome{state: buffer.Scheduled, tries: tries, due: due})
	m.Buffer.Release(d.name, offset, buffer.Retry{Due: due, Tries: tries, Status: 503, Error: "busy"})
}

func (m *machine) returnOne(t *rapid.T) {
	d, offset, p := m.oneOf(t, "in flight", inFlight)
	if p.cancelAt.IsZero() {
		p.inFlight = false
	} else {
		p.settle(outcome{})
	}
	m.Buffer.Return(d.name, offset)
}

// lateAnswer changes nothing.
func (m *machine) lateAnswer(t *rapid.T) {
	d, offset, _ := m.oneOf(t, "not in flight", func(p *modelPlace) bool { return !p.inFlight })
	switch rapid.IntRange(0, 3).Draw(t, "answer") {
	case 0:
		m.ack(d.name, offset)
	case 1:
		m.bury(d.name, offset)
	case 2:
		m.release(d.name, offset, 0)
	case 3:
		m.Buffer.Return(d.name, offset)
	}
}

// drawStream and drawDrain draw names, which is all that a report needs of them.
func (m *machine) drawStream(t *rapid.T) *modelStream {
	byName := make(map[string]*modelStream)
	var names []string
	for _, s := range m.model.streams {
		byName[s.name] = s
		names = append(names, s.name)
	}
	return byName[rapid.SampledFrom(names).Draw(t, "stream")]
}

func drawDrain(t *rapid.T, drains []*modelDrain) *modelDrain {
	byName := make(map[string]*modelDrain)
	var names []string
	for _, d := range drains {
		byName[d.name] = d
		names = append(names, d.name)
	}
	return byName[rapid.SampledFrom(names).Draw(t, "drain")]
}

// drawMessage draws a message, and skips the action while there is none.
func (m *machine) drawMessage(t *rapid.T) (*modelStream, uint64) {
	s := m.drawStream(t)
	if len(s.messages) == 0 {
		t.Skip("no message was appended")
	}
	return s, uint64(rapid.IntRange(0, len(s.messages)-1).Draw(t, "offset"))
}

func (m *machine) cancelOne(t *rapid.T) {
	s, offset := m.drawMessage(t)
	want := s.cancel(offset, m.now)
	got := m.cancel(buffer.Ref{Stream: s.name, Offset: offset})
	m.wantErr(fmt.Sprintf("Cancel(%s/%d)", s.name, offset), got, want)
}

func (m *machine) findOne(t *rapid.T) {
	s, offset := m.drawMessage(t)
	m.wantStatus(s, offset)
}

func (m *machine) wantStatus(s *modelStream, offset uint64) {
	want := s.status(offset)
	if diff := differ(want, m.findKnown(want.Ref), statusOptions()); diff != "" {
		m.Fatalf("Find(%s/%d) (-want +got):\n%s", s.name, offset, diff)
	}
}

// findKnown finds a message without what a restart may forget of it: how the
// last attempt of one went that is scheduled, or ended while it was.
func (m *machine) findKnown(ref buffer.Ref) buffer.Status {
	status := m.find(ref)
	for i := range status.Drains {
		if d := &status.Drains[i]; d.State == buffer.Scheduled || unanswered(d.Reason) {
			d.Status, d.Error = 0, ""
		}
	}
	return status
}

// addDrain gives a stream another drain, three times at most.
func (m *machine) addDrain(t *rapid.T) {
	if len(m.model.drains()) >= 6 {
		t.Skip("enough drains")
	}
	streams := slices.Clone(m.streams)
	s := &streams[rapid.IntRange(0, len(streams)-1).Draw(t, "stream")]
	s.Drains = append(slices.Clone(s.Drains), fmt.Sprintf("added-%d", len(m.model.drains())))
	m.model.configure(streams)
	m.configure(streams)
}

// advance moves the time, sometimes back.
func (m *machine) advance(t *rapid.T) {
	m.moveTo(m.now.Add(time.Duration(rapid.IntRange(-500, 3000).Draw(t, "ms")) * time.Millisecond))
}

// housekeep lets go of what was kept for long enough.
func (m *machine) housekeep(*rapid.T) {
	m.Housekeep(m.now)
	m.kept = m.now
}

// moveTo sets the time, but not back to before a retry that was due already, or what
// was kept went: whether its time has still come then, the contract does not say.
func (m *machine) moveTo(to time.Time) {
	if to.Before(m.kept) {
		to = m.kept
	}
	for _, d := range m.model.drains() {
		for _, p := range d.places {
			if p.state == buffer.Scheduled && !p.due.After(m.now) && p.due.After(to) {
				to = p.due
			}
		}
	}
	m.now = to
}

// advanceDue moves the time to just when a message is due, or just before.
func (m *machine) advanceDue(t *rapid.T) {
	d, offset, p := m.oneOf(t, "scheduled", func(p *modelPlace) bool { return p.now() == buffer.Scheduled })
	m.moveTo(p.due.Add(time.Duration(-rapid.IntRange(0, 1).Draw(t, "ms before")) * time.Millisecond))
	t.Logf("%s/%d is due at %s", d.name, offset, clock(p.due))
}

// restart stops the subject or crashes it, and opens it again.
func (m *machine) restart(t *rapid.T) {
	crash := rapid.Bool().Draw(t, "crash")
	_, finds := m.Buffer.(buffer.Receipts)
	// A clean stop keeps everything. After a crash, only Find tells what was kept.
	if crash && (!finds || rapid.Bool().Draw(t, "settled")) {
		m.settle()
		m.forgetEarlier()
	}
	if !crash || m.Settled == nil {
		m.forgetEarlier()
	}
	m.endLives()
	m.reopenAs(crash, func() {}, func() {})
}

// forgetEarlier takes all that was done for durable.
func (m *machine) forgetEarlier() {
	for _, d := range m.model.drains() {
		for _, p := range d.places {
			p.earlier = nil
		}
	}
}

// reopenAs opens the subject again. Once it has ended the model is told what was
// done until then, and once it is there, what else was. Where the model cannot know what
// was durable, it takes over what the subject found, if that was ever true.
func (m *machine) reopenAs(crash bool, ended, found func()) {
	b, err := m.Reopen(crash)
	ended()
	m.reopened(crash, b, err)
	for _, d := range m.model.drains() {
		d.holders = nil
		for _, p := range d.places {
			p.endAttempt()
		}
	}
	found()
	for _, d := range m.model.drains() {
		for i, p := range d.places {
			if len(p.earlier) > 0 {
				m.adopt(d, d.start+uint64(i), p)
			}
		}
	}
	m.checkMarks()
}

func (m *machine) adopt(d *modelDrain, offset uint64, p *modelPlace) {
	status := m.findKnown(buffer.Ref{Stream: d.stream.name, Offset: offset})
	i := slices.IndexFunc(status.Drains, func(s buffer.DrainStatus) bool { return s.Drain == d.name })
	if i < 0 {
		m.Fatalf("%s is not among the drains of offset %d after a crash: %+v", d.name, offset, status)
	}
	got := status.Drains[i]
	got.Ahead = 0 // the model does not know it yet
	options := append(p.earlier, p.outcome)
	p.earlier = nil
	var known []buffer.DrainStatus
	for _, o := range options {
		p.outcome = o
		want := d.status(p, offset)
		want.Ahead = 0
		if cmp.Equal(want, got, statusOptions()) {
			return
		}
		known = append(known, want)
	}
	m.Fatalf("offset %d at %s after a crash is %+v, which it never was: %+v", offset, d.name, got, known)
}
