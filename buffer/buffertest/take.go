package buffertest

import (
	"context"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
)

// oneDrain is a stream that one drain reads.
func oneDrain() []buffer.Stream {
	return []buffer.Stream{{Name: "orders", Drains: []string{"mail"}}}
}

// twoDrains is a stream that two drains read, beside another stream.
func twoDrains() []buffer.Stream {
	return []buffer.Stream{
		{Name: "orders", Drains: []string{"mail", "sms"}},
		{Name: "logs", Drains: []string{"archive"}},
	}
}

func takeSections() []section {
	return []section{
		{name: "take in the order of arrival", streams: oneDrain(), run: takeInOrder},
		{name: "take nothing", streams: oneDrain(), run: takeNothing},
		{name: "take due retries first", streams: oneDrain(), run: takeRetriesFirst},
		{name: "take names the next due time", streams: oneDrain(), run: takeNextDue},
		{name: "take hands out what is remembered of a retry", streams: oneDrain(), run: takeTries},
		{name: "return undoes a take", streams: oneDrain(), run: returnUndoes},
		{name: "return keeps a retry a retry", streams: oneDrain(), run: returnRetry},
		{name: "finished messages do not come again", streams: oneDrain(), run: finishedStay},
		{name: "late answers are ignored", streams: oneDrain(), run: lateAnswers},
		{name: "drains are independent", streams: twoDrains(), run: independentDrains},
		{name: "streams are independent", streams: twoDrains(), run: independentStreams},
		{name: "a new drain starts at the end", streams: oneDrain(), run: newDrain},
		{name: "unknown names", streams: oneDrain(), run: unknownNames},
	}
}

func takeInOrder(f *fixture) {
	var want []buffer.Message
	for _, n := range []int{1, 5, 2} {
		first := uint64(len(want))
		var batch []buffer.Message
		for range n {
			batch = append(batch, small(len(want)+len(batch)))
		}
		if a := f.append("orders", batch...); a.First != first {
			f.Fatalf("Append: First is %d, want %d", a.First, first)
		}
		want = append(want, batch...)
	}
	got := f.wantTake("mail", 3, 0, 1, 2)
	got = append(got, f.wantTake("mail", 4, 3, 4, 5, 6)...)
	got = append(got, f.wantTake("mail", 9, 7)...)
	f.wantMessages(got, 0, want)
	for _, d := range got {
		if d.Stream != "orders" || !d.AcceptedAt.Equal(f.now) || !cmp.Equal(d.Tries, buffer.Tries{}) {
			f.Fatalf("delivery %d: stream %s, accepted %s, tries %+v; want orders, %s, none", d.Offset, d.Stream, clock(d.AcceptedAt), d.Tries, clock(f.now))
		}
	}
	f.wantTake("mail", 9)
}

func takeNothing(f *fixture) {
	ds, next := f.takeNext("mail", 10)
	if len(ds) != 0 || !next.IsZero() {
		f.Fatalf("Take on an empty stream: %d messages, next %s; want none and zero", len(ds), next)
	}
	f.fill("orders", 2)
	f.wantTake("mail", 0)
	f.wantTake("mail", 1, 0)
}

func takeRetriesFirst(f *fixture) {
	f.fill("orders", 8)
	f.wantTake("mail", 5, 0, 1, 2, 3, 4)
	f.release("mail", 4, time.Second) // due first, but it arrived last
	f.release("mail", 1, 3*time.Second)
	f.release("mail", 2, 2*time.Second)
	f.release("mail", 0, time.Hour)

	f.wantTake("mail", 1, 5) // none is due
	f.now = f.now.Add(3*time.Second - time.Millisecond)
	f.wantTake("mail", 1, 2)
	f.now = f.now.Add(time.Millisecond) // a due time includes its own millisecond
	f.wantTake("mail", 9, 1, 4, 6, 7)
	f.wantTake("mail", 9)
	f.now = f.now.Add(time.Hour)
	f.wantTake("mail", 9, 0)
}

func takeNextDue(f *fixture) {
	f.fill("orders", 3)
	f.wantTake("mail", 3, 0, 1, 2)
	late := f.release("mail", 0, 2*time.Minute).Due
	early := f.release("mail", 1, time.Minute).Due
	wantNext := func(want time.Time) {
		f.Helper()
		ds, next := f.takeNext("mail", 5)
		if len(ds) != 0 || !next.Equal(want) {
			f.Fatalf("Take at %s: offsets %v, next %s; want none, next %s", clock(f.now), offsets(ds), next, want)
		}
	}
	wantNext(early)
	f.now = early
	ds, next := f.takeNext("mail", 5)
	if len(ds) != 1 || !next.Equal(late) {
		f.Fatalf("Take at the first due time: offsets %v, next %s; want [1], next %s", offsets(ds), next, late)
	}
	wantNext(late)
	f.now = late
	f.wantTake("mail", 5, 0)
	wantNext(time.Time{})
}

func takeTries(f *fixture) {
	want := f.fill("orders", 1)
	first := f.now
	f.wantTake("mail", 1, 0)
	for n := 1; n <= 3; n++ {
		tries := buffer.Tries{Attempts: 2 * n, Answers: n, FirstAt: first}
		f.Buffer.Release("mail", 0, buffer.Retry{Due: f.now.Add(time.Minute), Tries: tries, Status: 500, Error: "no luck"})
		f.now = f.now.Add(time.Minute)
		d := f.wantTake("mail", 1, 0)[0]
		if diff := differ(tries, d.Tries); diff != "" {
			f.Fatalf("tries after release %d (-want +got):\n%s", n, diff)
		}
		if !d.AcceptedAt.Equal(first) {
			f.Fatalf("accepted at %s after release %d, want %s", clock(d.AcceptedAt), n, clock(first))
		}
		f.wantMessage(d, want[0])
	}
}

func returnUndoes(f *fixture) {
	want := f.fill("orders", 5)
	f.wantTake("mail", 4, 0, 1, 2, 3)
	f.Buffer.Return("mail", 2)
	f.Buffer.Return("mail", 0)
	f.Buffer.Return("mail", 0) // waits already
	f.Buffer.Return("mail", 4) // was never taken
	ds := f.wantTake("mail", 9, 0, 2, 4)
	f.wantMessage(ds[1], want[2])
	if !cmp.Equal(ds[1].Tries, buffer.Tries{}) {
		f.Fatalf("tries of a returned message: %+v, want none", ds[1].Tries)
	}
}

func returnRetry(f *fixture) {
	f.fill("orders", 3)
	f.wantTake("mail", 2, 0, 1)
	r := f.release("mail", 1, time.Second)
	f.now = r.Due
	f.wantTake("mail", 1, 1)
	f.Buffer.Return("mail", 1)
	d := f.wantTake("mail", 9, 1, 2)[0]
	if diff := differ(r.Tries, d.Tries); diff != "" {
		f.Fatalf("tries of a returned retry (-want +got):\n%s", diff)
	}
}

func finishedStay(f *fixture) {
	f.fill("orders", 6)
	f.wantTake("mail", 5, 0, 1, 2, 3, 4)
	f.ack("mail", 3, 0)
	f.bury("mail", 1)
	r := f.release("mail", 2, time.Second)
	f.now = r.Due
	f.wantTake("mail", 1, 2)
	f.ack("mail", 2)
	f.now = f.now.Add(time.Hour)
	f.wantTake("mail", 9, 5)
	f.Buffer.Return("mail", 4)
	f.wantTake("mail", 9, 4)
}

func lateAnswers(f *fixture) {
	f.fill("orders", 3)
	f.wantTake("mail", 2, 0, 1)
	f.ack("mail", 0)
	f.bury("mail", 1)
	for _, offset := range []uint64{0, 1} {
		f.ack("mail", offset)
		f.bury("mail", offset)
		f.release("mail", offset, 0)
		f.Buffer.Return("mail", offset)
	}
	// Neither do answers about what is not in flight, or was never given out.
	f.ack("mail", 2, 3, 1<<40)
	f.bury("mail", 2)
	f.release("mail", 2, 0)
	f.Buffer.Return("mail", 2)
	f.ack("nobody", 2)
	f.release("nobody", 2, 0)
	f.bury("nobody", 2)
	f.Buffer.Return("nobody", 2)
	f.now = f.now.Add(time.Minute)
	f.wantTake("mail", 9, 2)
	if i, ok := f.Buffer.(buffer.Inspector); ok {
		got := i.Stats().Drains[0]
		if got.Delivered != 1 || got.Dead[buffer.ReasonPermanent] != 1 || got.InFlight != 1 {
			f.Fatalf("after late answers: %+v, want 1 delivered, 1 dead (permanent), 1 in flight", got)
		}
	}
	f.fill("orders", 1)
	f.wantTake("mail", 9, 3)
}

func independentDrains(f *fixture) {
	want := f.fill("orders", 4)
	f.wantTake("mail", 9, 0, 1, 2, 3)
	f.ack("mail", 0, 1)
	f.bury("mail", 2)
	f.wantMessages(f.wantTake("sms", 9, 0, 1, 2, 3), 0, want)
	f.release("sms", 1, 0)
	f.Buffer.Return("sms", 3)
	f.wantTake("mail", 9)
	f.wantTake("sms", 9, 1, 3)
}

func independentStreams(f *fixture) {
	f.fill("orders", 3)
	if a := f.append("logs", small(100)); a.First != 0 {
		f.Fatalf("first append to logs: offset %d, want 0", a.First)
	}
	f.fill("orders", 1)
	f.wantMessages(f.wantTake("archive", 9, 0), 0, []buffer.Message{small(100)})
	f.ack("archive", 0)
	f.wantTake("mail", 9, 0, 1, 2, 3)
}

func newDrain(f *fixture) {
	f.fill("orders", 3)
	f.wantTake("mail", 1, 0)
	f.configure([]buffer.Stream{{Name: "orders", Drains: []string{"mail", "sms"}}})
	f.wantTake("sms", 9)
	f.fill("orders", 2)
	f.wantTake("sms", 9, 3, 4)
	f.wantTake("mail", 9, 1, 2, 3, 4) // 0 stayed in flight
	f.ack("sms", 3)
	f.ack("mail", 0)
}

func unknownNames(f *fixture) {
	_, err := f.Buffer.Append(context.Background(), "nothing", f.now, []buffer.Message{small(0)})
	f.wantErr("Append to an unknown stream", err, buffer.ErrNoStream)
	_, _, err = f.Buffer.Take("nobody", f.now, 1)
	f.wantErr("Take for an unknown drain", err, buffer.ErrNoDrain)
	if ch := f.Buffer.Wake("nobody"); ch != nil {
		f.Fatalf("Wake of an unknown drain is not nil")
	}
	if f.Buffer.Wake("mail") == nil {
		f.Fatalf("Wake(mail) is nil")
	}
}
