package drain

import "time"

const (
	// maxTake bounds the messages of one take.
	maxTake = 256
	// maxScheduled bounds the messages of a drain that wait for another attempt.
	// At the bound only those that are due are tried, so that a sink that fails
	// is not shown the whole backlog.
	maxScheduled = 100_000
	// retakeEvery is how often a drain at the bound looks for what is due if the
	// buffer cannot say when that is.
	retakeEvery = time.Second
)

// supply is what a drain knows of its backlog without asking the buffer. It is
// pure, like the core.
type supply struct {
	batch  Batch     // of the sink
	want   int       // messages to ask for; at least a batch
	empty  bool      // the last take gave fewer than asked, and nothing was heard since
	more   bool      // the last take gave all that was asked
	next   time.Time // when a scheduled message is due, while empty; zero: none
	parked time.Time // nothing is taken before; wake-ups do not matter
}

func newSupply(b Batch) supply { return supply{batch: b, want: b.size()} }

// as changes what leaves together.
func (s *supply) as(b Batch) {
	if b != s.batch {
		s.batch, s.want = b, b.size()
	}
}

// ask returns how many messages to ask for; 0 with the time to ask again, which
// is zero if only a wake-up changes the answer.
func (s *supply) ask(now time.Time) (want int, again time.Time) {
	switch {
	case now.Before(s.parked):
		return 0, s.parked
	case s.empty && (s.next.IsZero() || now.Before(s.next)):
		return 0, s.next
	default:
		return s.want, time.Time{}
	}
}

// woken takes note that the buffer may have more.
func (s *supply) woken() { s.empty = false }

// took takes note of what a take gave. The next asks for twice as many while
// all come, and for a batch after they did not: tokens and slots that are asked for
// in vain are missing elsewhere.
func (s *supply) took(asked, got int, next time.Time) {
	s.empty, s.more = got < asked, got >= asked
	s.next = next
	if s.empty {
		s.want = s.batch.size()
		return
	}
	s.want = min(2*s.want, s.batch.most())
}

// park stops taking until next, or for retakeEvery where next is not known.
func (s *supply) park(now, next time.Time) {
	s.parked = now.Add(retakeEvery)
	if next.After(s.parked) {
		s.parked = next
	}
}
