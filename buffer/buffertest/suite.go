package buffertest

import (
	"slices"
	"testing"
	"time"

	"forebay/buffer"
)

// Engine is a buffer whose streams can be set.
type Engine interface {
	buffer.Buffer
	// Configure replaces the streams and drains. A drain that is new to a
	// stream which has messages starts at the stream's end, unless the stream
	// says otherwise; the first that a stream ever has gets all.
	Configure(streams []buffer.Stream) error
}

// Subject is a buffer under test. What Buffer can do beyond Engine is found by
// asserting the capabilities of package buffer; the rest says what its store
// can do, and may be nil.
type Subject struct {
	// Buffer is empty and has no streams yet.
	Buffer Engine
	// Settled waits until every ack, release and bury so far is durable. Nil
	// means that they are when their methods return.
	Settled func() error
	// Housekeep does what the engine does from time to time: what was kept for long
	// enough goes.
	Housekeep func(now time.Time)
	// Reopen ends the buffer and returns another one on the same store: after a
	// clean stop, or with only what was durable, as after kill -9. Settled and
	// Close work on the new one from then on. Nil means that nothing is stored.
	Reopen func(crash bool) (Engine, error)
	// Amid does what the engine does beside calls. Not nil says that Reopen may crash it
	// while that and calls are under way, which then fail.
	Amid func()
	// Close ends the buffer and removes its store. It is called once, as soon
	// as the subject is done with.
	Close func() error
}

// capability is what a subject can do beyond Engine.
type capability string

const (
	needReceipts    capability = "receipts"
	needInspector   capability = "inspector"
	needReopen      capability = "reopen"
	needHousekeep   capability = "housekeeping"
	needOnce        capability = "once"
	needExpirer     capability = "expirer"
	needOwn         capability = "own deadlines"
	needDeadLetters capability = "dead letters"
	needSearcher    capability = "searcher"
	needRemover     capability = "remover"
	needStandings   capability = "standings"
	needCrashAmid   capability = "crash amid calls"
	needLive        capability = "live"
	needBookmarks   capability = "bookmarks"
)

func (s Subject) can(c capability) (ok bool) {
	switch c {
	case needReceipts:
		_, ok = s.Buffer.(buffer.Receipts)
	case needInspector:
		_, ok = s.Buffer.(buffer.Inspector)
	case needOnce:
		_, ok = s.Buffer.(buffer.Once)
	case needExpirer:
		_, ok = s.Buffer.(buffer.Expirer)
	case needOwn:
		_, ok = s.Buffer.(buffer.OwnDeadlines)
	case needDeadLetters:
		_, ok = s.Buffer.(buffer.DeadLetters)
	case needSearcher:
		_, ok = s.Buffer.(buffer.Searcher)
	case needRemover:
		_, ok = s.Buffer.(buffer.Remover)
	case needBookmarks:
		_, ok = s.Buffer.(buffer.Bookmarks)
	case needLive:
		_, ok = s.Buffer.(buffer.Live)
	case needStandings:
		_, ok = s.Buffer.(standings)
	case needHousekeep:
		ok = s.Housekeep != nil
	case needCrashAmid:
		ok = s.Amid != nil
	case needReopen:
		ok = s.Reopen != nil
	}
	return ok
}

// needing returns sections that all need some more.
func needing(list []section, needs ...capability) []section {
	for i := range list {
		list[i].needs = slices.Concat(list[i].needs, needs)
	}
	return list
}

// section is one part of the suite.
type section struct {
	name    string
	needs   []capability // of the subject, beyond Engine
	streams []buffer.Stream
	run     func(*fixture)
}

// Run holds an engine to the contract of package buffer. It opens one subject a
// section; a section that needs what the subject has not is left out, which its
// log says. The suite appends about 60 MiB that do not compress, so that an
// engine with small segments rolls, seals and reclaims them.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	sections := slices.Concat(
		takeSections(),
		startSections(),
		orderSections(),
		liveSections(),
		messageSections(),
		intakeSections(),
		concurrentSections(),
		mixedSections(),
		receiptSections(),
		ownerSections(),
		answerSections(),
		ledgerSections(),
		onceSections(),
		lookupSections(),
		expireSections(),
		timeSections(),
		deadSections(),
		deadReplaySections(),
		searchSections(),
		cancelSections(),
		removeSections(),
		headSections(),
		bookmarkSections(),
		reopenSections(),
		bulkSections(),
	)
	for _, s := range sections {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel() // they wait for the disk most of the time
			runSection(t, open, s)
		})
	}
}

func runSection(t *testing.T, open func(t *testing.T) Subject, s section) {
	f := newFixture(t, open(t), s.streams)
	t.Cleanup(f.end)
	if missing := s.missing(f.Subject); missing != "" {
		t.Logf("left out: the engine has no %s", missing)
		return
	}
	s.run(f)
	f.checkLedger()
}

// missing names a capability that the section needs and the subject has not.
func (s section) missing(subject Subject) capability {
	for _, c := range s.needs {
		if !subject.can(c) {
			return c
		}
	}
	return ""
}
