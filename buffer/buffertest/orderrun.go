package buffertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"forebay/buffer"
)

// orderRun drives one drain through everything that can happen to a message,
// and watches the order of every key.
type orderRun struct {
	*fixture
	rng      *rand.Rand
	keys     []string          // by offset
	ended    map[uint64]bool   // offsets that are finished, dead ones too
	dead     map[uint64]bool   // of them, those that are dead
	replayed map[uint64]bool   // dead once
	flight   map[string]uint64 // the message of each key that is in flight
}

func newOrderRun(f *fixture) *orderRun {
	return &orderRun{
		fixture:  f,
		rng:      rand.New(rand.NewPCG(7, 11)),
		ended:    make(map[uint64]bool),
		dead:     make(map[uint64]bool),
		replayed: make(map[uint64]bool),
		flight:   make(map[string]uint64),
	}
}

// run mixes everything for a while, then lets every message be delivered.
func (r *orderRun) run() {
	const rounds = 400
	for n := range rounds {
		r.appendSome()
		r.takeSome()
		r.answerSome()
		r.meddle()
		if r.Reopen != nil && n%60 == 59 {
			r.restart(n%120 == 59)
		}
		r.now = r.now.Add(time.Duration(r.rng.IntN(2000)) * time.Millisecond)
	}
	r.finish()
}

func (r *orderRun) appendSome() {
	var msgs []buffer.Message
	for range r.rng.IntN(4) {
		key := fmt.Sprint("key-", r.rng.IntN(1+r.rng.IntN(30))) // the first keys are the busy ones
		msgs = append(msgs, keyed(len(r.keys), key))
		r.keys = append(r.keys, key)
	}
	if len(msgs) > 0 {
		r.append("orders", msgs...)
	}
}

func (r *orderRun) takeSome() {
	for _, d := range r.take("mail", 1+r.rng.IntN(6)) {
		r.taken(d)
	}
}

// taken fails the test where a message is handed out before its turn.
func (r *orderRun) taken(d buffer.Delivery) {
	r.Helper()
	key := r.keys[d.Offset]
	if d.Key != key {
		r.Fatalf("offset %d came with key %q, was appended with %q", d.Offset, d.Key, key)
	}
	if r.ended[d.Offset] {
		r.Fatalf("offset %d of %s came again although it had ended", d.Offset, key)
	}
	if other, ok := r.flight[key]; ok {
		r.Fatalf("offset %d of %s came while offset %d was in flight", d.Offset, key, other)
	}
	for before := range d.Offset {
		// A message that was replayed may have to let one behind it end first.
		if r.keys[before] == key && !r.ended[before] && !r.replayed[before] {
			r.Fatalf("inversion: offset %d of %s came before offset %d, which is unfinished", d.Offset, key, before)
		}
	}
	r.flight[key] = d.Offset
}

func (r *orderRun) answerSome() {
	for _, key := range sortedKeys(r.flight) {
		if r.rng.IntN(3) > 0 {
			r.answer(key, r.flight[key])
		}
	}
}

func (r *orderRun) answer(key string, offset uint64) {
	delete(r.flight, key)
	switch r.rng.IntN(8) {
	case 0:
		r.Buffer.Return("mail", offset)
	case 1, 2:
		r.release("mail", offset, time.Duration(r.rng.IntN(4000))*time.Millisecond)
	case 3:
		r.bury("mail", offset)
		r.ended[offset], r.dead[offset] = true, true
	default:
		r.ack("mail", offset)
		r.ended[offset] = true
	}
}

// meddle does what an operator, a caller or a deadline would.
func (r *orderRun) meddle() {
	if len(r.keys) == 0 {
		return
	}
	offset := uint64(r.rng.IntN(len(r.keys)))
	switch {
	case r.can(needReceipts) && r.rng.IntN(6) == 0:
		if r.cancel(order(offset)) == nil {
			r.ended[offset] = true
		}
	case r.can(needExpirer) && r.rng.IntN(25) == 0:
		r.expireSome()
	case r.can(needDeadLetters) && r.rng.IntN(10) == 0:
		r.replaySome()
	}
}

// expireSome ends what is older than a minute.
func (r *orderRun) expireSome() {
	want := 0
	before := r.now.Add(-time.Minute)
	for offset := range uint64(len(r.keys)) {
		at := r.find(order(offset)).AcceptedAt
		if !at.Before(before) {
			break
		}
		held, inFlight := r.flight[r.keys[offset]]
		if !r.ended[offset] && (!inFlight || held != offset) {
			r.ended[offset] = true
			want++
		}
	}
	if n, _ := r.expire("mail", before, ""); n != want {
		r.Fatalf("Expire before %s ended %d messages, want %d", clock(before), n, want)
	}
}

func (r *orderRun) replaySome() {
	offsets := sortedKeys(r.dead)
	offsets = offsets[:r.rng.IntN(len(offsets)+1)]
	if n := r.replay("mail", offsets...); n != len(offsets) {
		r.Fatalf("Replay(%v) brought %d messages back, want all", offsets, n)
	}
	for _, offset := range offsets {
		delete(r.dead, offset)
		delete(r.ended, offset)
		r.replayed[offset] = true
	}
}

func (r *orderRun) restart(crash bool) {
	r.settle()
	r.reopen(crash)
	clear(r.flight)
}

// finish delivers the rest: no key starves.
func (r *orderRun) finish() {
	for range len(r.keys) {
		for _, key := range sortedKeys(r.flight) {
			r.ack("mail", r.flight[key])
			r.ended[r.flight[key]] = true
			delete(r.flight, key)
		}
		r.now = r.now.Add(time.Minute)
		for _, d := range r.takeAll("mail") {
			r.taken(d)
		}
		if len(r.flight) == 0 {
			break
		}
	}
	for offset, key := range r.keys {
		if !r.ended[uint64(offset)] {
			r.Fatalf("offset %d of %s never came: its key starves", offset, key)
		}
	}
}

func (f *fixture) expire(drain string, before time.Time, why buffer.Reason) (int, time.Time) {
	f.Helper()
	n, oldest, err := f.Buffer.(buffer.Expirer).Expire(drain, f.now, before, why)
	if err != nil {
		f.Fatalf("Expire(%s, before %s, %q): %v", drain, clock(before), why, err)
	}
	return n, oldest
}

func (f *fixture) replay(drain string, offsets ...uint64) int {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := f.deadLetters().Replay(ctx, drain, offsets, f.now)
	if err != nil {
		f.Fatalf("Replay(%s, %v): %v", drain, offsets, err)
	}
	return n
}

func sortedKeys[K interface{ ~string | ~uint64 }, V any](m map[K]V) []K {
	var keys []K
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
