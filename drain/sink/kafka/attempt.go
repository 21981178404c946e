package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/drain"
)

// attempt is the records of an attempt, and what becomes of them. Its memory goes to
// another one unless records were left open: of those that have ended the producer
// knows nothing any more.
type attempt struct {
	packer
	all []int // the indexes of the records

	mu    sync.Mutex
	errs  []error       // guarded by mu while records are sent
	left  int           // guarded by mu; how many have not ended
	ended chan struct{} // closed when none is left
	// open says that records were given up which the producer may still have. Nobody
	// listens any more. guarded by mu while records are sent
	open bool
}

// place says which record one is. It goes with it as its context, so that one function
// hears of all.
type place struct {
	context.Context

	attempt *attempt
	index   int
}

// errOpen is that of a record that has not ended.
var errOpen = errors.New("neither acknowledged nor refused")

// load makes it an attempt at some messages.
func (a *attempt) load(topic string, msgs []drain.Delivery) {
	n := len(msgs)
	a.pack(topic, msgs)
	a.errs = slices.Grow(a.errs[:0], n)[:n]
	for i := len(a.all); i < n; i++ {
		a.all = append(a.all, i)
	}
	a.all = a.all[:n]
}

func (a *attempt) fail(of []int, err error) {
	for _, i := range of {
		a.errs[i] = err
	}
}

// send produces some of the records and waits until each was acknowledged or
// failed, or the time is over: those that nothing is known of have failed then.
func (a *attempt) send(ctx context.Context, p *producer, of []int) {
	if err := ctx.Err(); err != nil {
		a.fail(of, err)
		return
	}
	a.fail(of, errOpen)
	a.left, a.ended = len(of), make(chan struct{})
	places := make([]place, len(of)) // not used again: the producer looks at contexts for longer
	for n, i := range of {
		places[n] = place{Context: ctx, attempt: a, index: i}
		a.recs[i].Context = &places[n]
		p.Produce(ctx, &a.recs[i], noteEnd)
	}
	select {
	case <-a.ended:
		return
	case <-ctx.Done():
	}
	select {
	case <-a.ended:
	case <-time.After(grace):
		a.giveUp(of, ctx.Err())
	}
}

// noteEnd is told by the producer of every record.
func noteEnd(r *kgo.Record, err error) {
	if at, ok := r.Context.(*place); ok {
		at.attempt.end(at.index, err)
	}
}

func (a *attempt) end(i int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open {
		return
	}
	a.errs[i] = err
	if a.left--; a.left == 0 {
		close(a.ended)
	}
}

// giveUp fails the records that have not ended.
func (a *attempt) giveUp(of []int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range of {
		if errors.Is(a.errs[i], errOpen) {
			a.errs[i], a.open = err, true
		}
	}
}
