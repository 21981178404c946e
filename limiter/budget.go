package limiter

import (
	"sync"
	"time"
)

// Shortage says what a budget lacked.
type Shortage uint8

// What a Take can lack.
const (
	NoShortage Shortage = iota
	OfSlots             // as many attempts are in flight as may be
	OfTokens            // the rate does not allow another one yet
)

// Budget is what a sink can take: a rate, and a number of slots for attempts
// in flight. Everything that goes to the sink takes from the same budget. It
// belongs to the sink's name and survives a change of policy. All methods are
// safe for concurrent use; none blocks.
type Budget struct {
	bucket *Bucket

	mu       sync.Mutex
	slots    int                          // guarded by mu
	inFlight int                          // guarded by mu; over slots for a while after Set
	watchers map[chan<- struct{}]Shortage // guarded by mu; each is signalled once
}

// NewBudget returns a budget with all slots free and no tokens, so that a
// restart is never a burst.
func NewBudget(now time.Time, limit Limit, slots int) *Budget {
	return &Budget{
		bucket:   NewEmptyBucket(now, limit),
		slots:    max(1, slots),
		watchers: make(map[chan<- struct{}]Shortage),
	}
}

// Take takes one slot and as many tokens as an attempt has messages, both or
// nothing, and says what it lacked. The slot is the caller's until Release.
func (b *Budget) Take(now time.Time, tokens int) Shortage {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inFlight >= b.slots {
		return OfSlots
	}
	if !b.bucket.Take(now, tokens) {
		return OfTokens
	}
	b.inFlight++
	return NoShortage
}

// Release frees the slot of an attempt that has ended.
func (b *Budget) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight--
	b.signal(OfSlots)
}

// Return undoes a Take that led to no attempt.
func (b *Budget) Return(now time.Time, tokens int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight--
	b.bucket.Return(now, tokens)
	b.signal(OfSlots)
	b.signal(OfTokens)
}

// Spend takes as many tokens as there are, at most n, for an attempt that has its slot.
func (b *Budget) Spend(now time.Time, n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = int(min(max(0, b.bucket.Level(now)), float64(n)))
	if !b.bucket.Take(now, n) {
		return 0
	}
	return n
}

// Refund puts back tokens of a Take that led to an attempt with fewer messages, or to
// none; the slot is given back apart, with Release.
func (b *Budget) Refund(now time.Time, tokens int) {
	if tokens <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bucket.Return(now, tokens)
	b.signal(OfTokens)
}

// When returns the earliest time, not before now, at which the tokens are
// there if nobody else takes any; false where they never are. It says nothing
// of slots, which come free by a Release alone.
func (b *Budget) When(now time.Time, tokens int) (time.Time, bool) {
	return b.bucket.When(now, tokens)
}

// Set changes rate, burst and slots from now on. What is in flight stays.
func (b *Budget) Set(now time.Time, limit Limit, slots int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bucket.Set(now, limit)
	b.slots = max(1, slots)
	b.signal(OfSlots)
	b.signal(OfTokens)
}

// Watch asks for one signal on ch, which should have room for one, once what
// was short may be there before When says so: a slot, or tokens that were
// returned. Look once more after Watch, since it does not see what came before.
func (b *Budget) Watch(ch chan<- struct{}, short Shortage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers[ch] = short
}

// Forget withdraws Watch.
func (b *Budget) Forget(ch chan<- struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.watchers, ch)
}

// InFlight returns how many slots are taken.
func (b *Budget) InFlight() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inFlight
}

// Slots returns how many attempts may be in flight.
func (b *Budget) Slots() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.slots
}

// Level returns how many tokens there are; +Inf when the rate is Unlimited.
func (b *Budget) Level(now time.Time) float64 { return b.bucket.Level(now) }

// Limit returns the present rate and burst.
func (b *Budget) Limit() Limit { return b.bucket.Limit() }

// signal tells all who wait for it: one alone might not use what came free. It
// requires that mu is held.
func (b *Budget) signal(short Shortage) {
	for ch, want := range b.watchers {
		if want != short {
			continue
		}
		delete(b.watchers, ch)
		select {
		case ch <- struct{}{}:
		default: // a signal already waits there
		}
	}
}
