package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/buffer"
	"forebay/drain"
)

// Messages become the same records beside others as by themselves, in memory that was
// used before too.
func TestRecordsOfABatch(t *testing.T) {
	t.Parallel()
	var ms []drain.Delivery
	add := func(n int, change func(m *drain.Delivery, i int)) {
		header := []buffer.Field{{Name: "Accept", Value: "*/*"}, {Name: "X-Shop", Value: fmt.Sprint(n)}}
		for i := range n {
			m := message(fmt.Sprintf("id-%d", len(ms)), fmt.Sprint("k", i%2), fmt.Sprint("body", i))
			m.Header, m.Batch, m.Index = header, fmt.Sprint("batch", n), i
			change(&m, i)
			ms = append(ms, m)
		}
	}
	same := func(*drain.Delivery, int) {}
	traced := []buffer.Field{{Name: "Traceparent", Value: "00-1-2-01"}}
	add(3, same)
	add(4, same)
	add(2, func(m *drain.Delivery, _ int) { m.Batch = "" })
	add(5, func(m *drain.Delivery, i int) { m.AcceptedAt = m.AcceptedAt.Add(time.Duration(i/2) * time.Millisecond) })
	add(6, func(m *drain.Delivery, i int) { m.Tries.Attempts = i % 2 })
	add(7, func(m *drain.Delivery, i int) { m.Target = fmt.Sprint("/", i/2) })
	add(8, func(m *drain.Delivery, i int) { m.Method = []string{"POST", "PUT"}[i/4] })
	add(9, func(m *drain.Delivery, i int) { m.Stream = fmt.Sprint(i / 4) })
	add(10, func(m *drain.Delivery, _ int) { m.Header = traced })
	add(11, func(m *drain.Delivery, _ int) { m.Header = nil })
	add(12, func(m *drain.Delivery, i int) { m.Header = []buffer.Field{{Name: "X-Own", Value: fmt.Sprint(i)}} })

	var p packer
	backwards := slices.Clone(ms)
	slices.Reverse(backwards)
	p.pack(topic, backwards)
	got := p.pack(topic, ms)
	for i := range ms {
		want := new(packer).pack(topic, ms[i:i+1])[0]
		if diff := cmp.Diff(want, got[i], cmpopts.IgnoreFields(kgo.Record{}, "Attrs")); diff != "" {
			t.Errorf("message %d beside others (-alone +beside):\n%s", i, diff)
		}
	}
}

// The producer may still look at the records of an attempt that was cut off: they are
// no other's.
func TestCutOffAttemptIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	a := new(attempt)
	a.load(topic, messages(2, 10))
	a.fail(a.all, errOpen)
	a.left, a.ended = 2, make(chan struct{})
	a.end(0, nil)
	a.giveUp(a.all, context.DeadlineExceeded)
	a.end(1, nil)
	if !a.open || a.errs[0] != nil || !errors.Is(a.errs[1], context.DeadlineExceeded) {
		t.Errorf("open %v, %v; want an open attempt that hears of nothing more", a.open, a.errs)
	}
}
