package buffertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"forebay/buffer"
)

// patience bounds every wait for what an engine does in its own time.
const patience = 10 * time.Second

// fixture is a subject with its streams, and a time that stands still until it
// is set. Its methods fail the test where the subject does not do as told.
type fixture struct {
	rapid.TB
	Subject
	streams []buffer.Stream
	now     time.Time
}

func newFixture(t rapid.TB, s Subject, streams []buffer.Stream) *fixture {
	f := &fixture{TB: t, Subject: s, now: time.Date(2026, 3, 2, 9, 0, 0, int(123*time.Millisecond), time.UTC)}
	f.configure(streams)
	return f
}

func (f *fixture) end() {
	if f.Close == nil {
		return
	}
	if err := f.Close(); err != nil {
		f.Errorf("Close: %v", err)
	}
}

func (f *fixture) configure(streams []buffer.Stream) {
	f.Helper()
	f.streams = streams
	if err := f.Buffer.Configure(streams); err != nil {
		f.Fatalf("Configure(%+v): %v", streams, err)
	}
}

// settle waits until the acks so far are durable.
func (f *fixture) settle() {
	f.Helper()
	if f.Settled == nil {
		return
	}
	if err := f.Settled(); err != nil {
		f.Fatalf("Settled: %v", err)
	}
}

// reopen opens the buffer again, with the streams it had.
func (f *fixture) reopen(crash bool) {
	f.Helper()
	b, err := f.Reopen(crash)
	f.reopened(crash, b, err)
}

func (f *fixture) reopened(crash bool, b Engine, err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("Reopen(crash %v): %v", crash, err)
	}
	f.Buffer = b
	f.configure(f.streams)
}

func (f *fixture) append(stream string, msgs ...buffer.Message) buffer.Accepted {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := f.Buffer.Append(ctx, stream, f.now, msgs)
	if err != nil {
		f.Fatalf("Append(%s, %d messages): %v", stream, len(msgs), err)
	}
	if a.Count != len(msgs) {
		f.Fatalf("Append(%s): Count is %d, want %d", stream, a.Count, len(msgs))
	}
	return a
}

// fill appends n small messages in one batch.
func (f *fixture) fill(stream string, n int) []buffer.Message {
	f.Helper()
	msgs := make([]buffer.Message, n)
	for i := range msgs {
		msgs[i] = small(i)
	}
	f.append(stream, msgs...)
	return msgs
}

// take returns at most limit deliveries at the fixture's time.
func (f *fixture) take(drain string, limit int) []buffer.Delivery {
	f.Helper()
	ds, _ := f.takeNext(drain, limit)
	return ds
}

func (f *fixture) takeNext(drain string, limit int) ([]buffer.Delivery, time.Time) {
	f.Helper()
	ds, next, err := f.Buffer.Take(drain, f.now, limit)
	if err != nil {
		f.Fatalf("Take(%s, %s, %d): %v", drain, clock(f.now), limit, err)
	}
	if len(ds) > limit {
		f.Fatalf("Take(%s, %s, %d) gave %d messages", drain, clock(f.now), limit, len(ds))
	}
	return ds, next
}

// wantTake takes, and compares the offsets that come.
func (f *fixture) wantTake(drain string, limit int, want ...uint64) []buffer.Delivery {
	f.Helper()
	ds := f.take(drain, limit)
	if diff := differ(want, offsets(ds), cmpopts.EquateEmpty()); diff != "" {
		f.Fatalf("Take(%s, %s, %d): offsets (-want +got):\n%s", drain, clock(f.now), limit, diff)
	}
	return ds
}

// takeAll takes until nothing more comes.
func (f *fixture) takeAll(drain string) []buffer.Delivery {
	f.Helper()
	var all []buffer.Delivery
	for {
		ds := f.take(drain, 97)
		if len(ds) == 0 {
			return all
		}
		all = append(all, ds...)
	}
}

// ack ends messages as delivered, as an answer 200 to their first attempt would.
func (f *fixture) ack(drain string, offsets ...uint64) {
	for _, offset := range offsets {
		f.Buffer.Ack(drain, offset, buffer.Result{At: f.now, Attempts: 1, Status: 200})
	}
}

// bury ends a message as dead, as an answer 422 to its first attempt would.
func (f *fixture) bury(drain string, offset uint64) {
	f.Buffer.Bury(drain, offset, buffer.ReasonPermanent, buffer.Result{At: f.now, Attempts: 1, Status: 422, Error: "refused"})
}

// release schedules a second attempt, as an answer 500 to the first would.
func (f *fixture) release(drain string, offset uint64, after time.Duration) buffer.Retry {
	r := buffer.Retry{
		Due:    f.now.Add(after),
		Tries:  buffer.Tries{Attempts: 1, Answers: 1, FirstAt: f.now},
		Status: 500,
		Error:  "no luck",
	}
	f.Buffer.Release(drain, offset, r)
	return r
}

func (f *fixture) receipts() buffer.Receipts   { return f.Buffer.(buffer.Receipts) }
func (f *fixture) inspector() buffer.Inspector { return f.Buffer.(buffer.Inspector) }

func (f *fixture) cancel(ref buffer.Ref) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f.receipts().Cancel(ctx, ref, f.now)
}

func (f *fixture) find(ref buffer.Ref) buffer.Status {
	f.Helper()
	s, err := f.receipts().Find(ref, f.now)
	if err != nil {
		f.Fatalf("Find(%s/%d, %s): %v", ref.Stream, ref.Offset, clock(f.now), err)
	}
	return s
}

// wantErr compares the error of a call with a sentinel; nil wants none.
func (f *fixture) wantErr(call string, got, want error) {
	f.Helper()
	if !errors.Is(got, want) {
		f.Fatalf("%s: error is %v, want %v", call, got, want)
	}
}

// wantMessages compares deliveries with the messages appended from first on.
func (f *fixture) wantMessages(ds []buffer.Delivery, first uint64, want []buffer.Message) {
	f.Helper()
	if len(ds) != len(want) {
		f.Fatalf("%d deliveries, want %d", len(ds), len(want))
	}
	for i, d := range ds {
		if d.Offset != first+uint64(i) {
			f.Fatalf("delivery %d has offset %d, want %d", i, d.Offset, first+uint64(i))
		}
		f.wantMessage(d, want[i])
	}
}

func (f *fixture) wantMessage(d buffer.Delivery, want buffer.Message) {
	f.Helper()
	if !bytes.Equal(d.Body, want.Body) {
		f.Fatalf("body of %s/%d differs: %s, want %s", d.Stream, d.Offset, brief(d.Body), brief(want.Body))
	}
	got := d.Message
	got.Body, want.Body = nil, nil
	if diff := differ(want, got, cmpopts.EquateEmpty()); diff != "" {
		f.Fatalf("message %s/%d (-want +got):\n%s", d.Stream, d.Offset, diff)
	}
}

// eventually waits until ok, for what an engine does in its own time.
func (f *fixture) eventually(what string, ok func() bool) {
	f.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			f.Fatalf("not within %s: %s", patience, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// signalled reports whether a channel gives or closes within the suite's patience.
func signalled(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	case <-time.After(patience):
		return false
	}
}

// pending reports whether a channel gives or is closed right now.
func pending(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// small is the nth of the suite's small messages; each differs.
func small(n int) buffer.Message {
	return buffer.Message{
		Method: "POST",
		Target: fmt.Sprintf("/orders?n=%d", n),
		Header: []buffer.Field{{Name: "Content-Type", Value: "application/json"}},
		Body:   fmt.Appendf(nil, `{"order":%d,"sku":"A-%d"}`, n, n*7),
	}
}

// noise returns bytes that do not compress, the same ones for a seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func offsets(ds []buffer.Delivery) []uint64 {
	var list []uint64
	for _, d := range ds {
		list = append(list, d.Offset)
	}
	return list
}

// count returns from … from+n-1.
func count(from uint64, n int) []uint64 {
	var list []uint64
	for i := range n {
		list = append(list, from+uint64(i))
	}
	return list
}

func clock(t time.Time) string { return t.Format("15:04:05.000000") }

func brief(b []byte) string {
	const most = 60
	if len(b) <= most {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%q… (%d bytes)", b[:most], len(b))
}

// differ is cmp.Diff. That takes ten times as long to find that there is nothing.
func differ(want, got any, opts ...cmp.Option) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got, opts...)
}
