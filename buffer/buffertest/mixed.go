package buffertest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"forebay/buffer"
)

// The mixed section appends this much from each of its writers.
const (
	mixedWriters = 3
	mixedAppends = 60
	mixedBatch   = 3
	mixedTotal   = mixedWriters * mixedAppends * mixedBatch
)

func mixedSections() []section {
	return []section{{
		name:    "everything at once",
		needs:   []capability{needReceipts, needInspector},
		streams: []buffer.Stream{{Name: "orders", Drains: []string{"mail", "sms"}}},
		run:     everythingAtOnce,
	}}
}

// everythingAtOnce appends, drains, cancels, finds and audits at the same time.
// The ledger has to balance whenever it is looked at, no key may be out of order,
// and in the end each drain has as many deliveries and deaths as it asked for.
func everythingAtOnce(f *fixture) {
	var writers, drains errgroup.Group
	for range mixedWriters {
		writers.Go(f.write)
	}
	var written atomic.Bool
	tallies := map[string]*tally{"mail": newTally(), "sms": newTally()}
	for drain, t := range tallies {
		drains.Go(func() error { return f.answer(drain, t, &written) })
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	readers, ctx := errgroup.WithContext(ctx)
	readers.Go(func() error { return f.keepAuditing(ctx) })
	readers.Go(func() error { return f.keepCancelling(ctx) })

	err := writers.Wait()
	written.Store(true)
	err = errors.Join(err, drains.Wait())
	stop()
	if err = errors.Join(err, readers.Wait()); err != nil {
		f.Fatalf("%v", err)
	}
	for drain, t := range tallies {
		got := f.audit()[drain]
		want := buffer.Account{
			Stream:    "orders",
			Drain:     drain,
			Accepted:  mixedTotal,
			Delivered: t.acked,
			Dead:      t.buried,
			Cancelled: mixedTotal - t.acked - t.buried,
		}
		if got != want {
			f.Fatalf("account of %s is %+v, want %+v", drain, got, want)
		}
	}
}

func (f *fixture) write() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i := range mixedAppends {
		msgs := make([]buffer.Message, mixedBatch)
		for j := range msgs {
			msgs[j] = keyed(i*mixedBatch+j, mixedKey(i*mixedBatch+j))
		}
		if _, err := f.Buffer.Append(ctx, "orders", f.now, msgs); err != nil {
			return err
		}
	}
	return nil
}

// mixedKey is the key of the nth message of a writer; every eighth has none.
func mixedKey(n int) string {
	if n%8 == 0 {
		return ""
	}
	return fmt.Sprint("key-", n%11)
}

// tally is what a drain did.
type tally struct {
	acked, buried uint64
	returned      map[uint64]bool
	last          map[string]uint64 // offset of each key that came last
}

func newTally() *tally {
	return &tally{returned: make(map[uint64]bool), last: make(map[string]uint64)}
}

// inOrder says what is wrong when a message comes after a later one of its key.
func (t *tally) inOrder(d buffer.Delivery) error {
	if d.Key == "" {
		return nil
	}
	if last, ok := t.last[d.Key]; ok && d.Offset < last {
		return fmt.Errorf("inversion: offset %d of %s came after offset %d", d.Offset, d.Key, last)
	}
	t.last[d.Key] = d.Offset
	return nil
}

// answer takes and answers until everything was written and nothing is left.
func (f *fixture) answer(drain string, t *tally, written *atomic.Bool) error {
	wake := f.Buffer.Wake(drain)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		wasWritten := written.Load()
		ds, _, err := f.Buffer.Take(drain, f.now, 10)
		switch {
		case err != nil:
			return err
		case len(ds) == 0 && wasWritten:
			return nil // all that it had taken is answered, and retries are due at once
		case len(ds) == 0:
			select {
			case <-wake:
			case <-time.After(5 * time.Millisecond): // written changes without a signal
			}
		}
		for _, d := range ds {
			if err := t.inOrder(d); err != nil {
				return err
			}
			f.answerOne(drain, d, t)
		}
	}
	return fmt.Errorf("%s was not done within %s", drain, patience)
}

// answerOne treats a message by its offset, so that each kind of answer occurs.
func (f *fixture) answerOne(drain string, d buffer.Delivery, t *tally) {
	switch {
	case d.Offset%5 == 1 && d.Tries.Attempts < 2:
		tries := buffer.Tries{Attempts: d.Tries.Attempts + 1, FirstAt: f.now}
		f.Buffer.Release(drain, d.Offset, buffer.Retry{Due: f.now, Tries: tries, Status: 500})
	case d.Offset%5 == 2 && !t.returned[d.Offset]:
		t.returned[d.Offset] = true
		f.Buffer.Return(drain, d.Offset)
		f.release(drain, d.Offset, 0) // too late to count
	case d.Offset%5 == 3:
		f.bury(drain, d.Offset)
		t.buried++
	default:
		f.ack(drain, d.Offset)
		t.acked++
	}
}

func (f *fixture) keepAuditing(ctx context.Context) error {
	for ctx.Err() == nil {
		accounts, err := f.inspector().Audit(context.Background())
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		for _, a := range accounts {
			if a.Imbalance() != 0 {
				return fmt.Errorf("imbalance of %s is %d while others write: %+v", a.Drain, a.Imbalance(), a)
			}
		}
		for _, d := range f.inspector().Stats().Drains {
			if n := d.Pending + d.InFlight + d.Scheduled; n > mixedTotal {
				return fmt.Errorf("stats of %s count %d messages of %d: %+v", d.Drain, n, mixedTotal, d)
			}
		}
	}
	return nil
}

// keepCancelling cancels and finds here and there; that a message is not there
// yet, in flight or final is no surprise.
func (f *fixture) keepCancelling(ctx context.Context) error {
	for n := uint64(0); ctx.Err() == nil; n++ {
		ref := order(n * 37 % mixedTotal)
		err := f.cancel(ref)
		expected := errors.Is(err, buffer.ErrNoMessage) || errors.Is(err, buffer.ErrDelivering) || errors.Is(err, buffer.ErrFinal)
		if err != nil && !expected {
			return fmt.Errorf("cancel offset %d: %w", ref.Offset, err)
		}
		if _, err := f.receipts().Find(ref, f.now); err != nil && !errors.Is(err, buffer.ErrNoMessage) {
			return fmt.Errorf("find offset %d: %w", ref.Offset, err)
		}
	}
	return nil
}
