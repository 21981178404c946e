package buffertest

import (
	"time"

	"forebay/buffer"
)

// reopenSections holds durable engines to what must survive, once with a clean
// stop and once with a crash.
func reopenSections() []section {
	return afterReopen([]reopening{
		{name: "keeps what was appended", streams: twoDrains(), run: reopenAppended},
		{name: "keeps what was finished and scheduled", streams: twoDrains(), run: reopenFinished},
		{name: "keeps a cancel", streams: twoDrains(), run: reopenCancelled, needs: []capability{needReceipts}},
		{name: "keeps where a drain started", streams: oneDrain(), run: reopenNewDrain},
		{name: "keeps a full stream full", streams: boundedStream(), run: reopenFull},
		{name: "many times over", streams: oneDrain(), run: reopenOften},
		{name: "right after acks loses no message", streams: oneDrain(), run: reopenUnsettled},
		{name: "with sealed segments", streams: oneDrain(), run: reopenSealed},
		{name: "with nothing in it", streams: oneDrain(), run: reopenEmpty},
	})
}

// reopening is what is to be done before and after a buffer is opened again.
type reopening struct {
	name    string
	needs   []capability
	streams []buffer.Stream
	run     func(f *fixture, crash bool)
}

// afterReopen makes two sections of each part: with a clean stop and with a crash.
func afterReopen(parts []reopening) []section {
	var list []section
	for _, p := range parts {
		for _, crash := range []bool{false, true} {
			name := "reopen after a stop "
			if crash {
				name = "reopen after a crash "
			}
			list = append(list, section{
				name:    name + p.name,
				needs:   p.needs,
				streams: p.streams,
				run:     func(f *fixture) { p.run(f, crash) },
			})
		}
	}
	return needing(list, needReopen)
}

func reopenAppended(f *fixture, crash bool) {
	var want []buffer.Message
	for n := range 10 {
		batch := []buffer.Message{small(5 * n), small(5*n + 1), small(5*n + 2), {Body: noise(uint64(n), 5000)}, small(5*n + 4)}
		f.append("orders", batch...)
		want = append(want, batch...)
	}
	f.fill("logs", 1)
	before := f.take("mail", 20) // in flight at the stop
	f.reopen(crash)

	after := f.takeAll("mail")
	f.wantMessages(after, 0, want)
	for i, d := range before {
		if !d.AcceptedAt.Equal(after[i].AcceptedAt) {
			f.Fatalf("offset %d: accepted %s; was accepted %s", d.Offset, clock(after[i].AcceptedAt), clock(d.AcceptedAt))
		}
	}
	f.wantMessages(f.takeAll("sms"), 0, want)

	last := f.now
	f.now = f.now.Add(-time.Hour)
	a := f.append("orders", small(0))
	if a.First != 50 || a.At.Before(last) {
		f.Fatalf("append after reopening: offset %d, accepted %s; want 50, not before %s", a.First, clock(a.At), clock(last))
	}
	f.wantTake("mail", 9, 50)
}

func reopenFinished(f *fixture, crash bool) {
	want := f.fill("orders", 12)
	f.wantTake("mail", 8, 0, 1, 2, 3, 4, 5, 6, 7)
	f.ack("mail", 0, 1, 3)
	f.now = f.now.Add(time.Second)
	f.Buffer.Bury("mail", 4, buffer.ReasonMaxAttempts, buffer.Result{At: f.now, Attempts: 15, Status: 500, Error: "no luck at all"})
	tries := buffer.Tries{Attempts: 4, Answers: 2, FirstAt: f.now.Add(-time.Hour)}
	due := f.now.Add(time.Minute)
	f.Buffer.Release("mail", 5, buffer.Retry{Due: f.now, Tries: buffer.Tries{Attempts: 3, FirstAt: tries.FirstAt}, Status: 503})
	f.wantTake("mail", 1, 5)
	f.Buffer.Release("mail", 5, buffer.Retry{Due: due, Tries: tries, Status: 503, Error: "busy"})
	f.Buffer.Return("mail", 6)
	_, cancels := f.Buffer.(buffer.Receipts)
	waiting := []uint64{2, 6, 7, 8, 9, 10, 11}
	if cancels {
		f.wantErr("Cancel", f.cancel(order(8)), nil)
		waiting = []uint64{2, 6, 7, 9, 10, 11}
	}
	f.settle()

	for range 2 { // the second finds what the first wrote
		f.reopen(crash)
		f.wantFinishedStats(cancels, due)
		if cancels {
			f.wantOutcomes(due)
		}
	}
	f.wantTake("mail", 99, waiting...)
	f.now = due.Add(-time.Millisecond)
	ds, next := f.takeNext("mail", 99)
	if len(ds) != 0 || !next.Equal(due) {
		f.Fatalf("before the due time: offsets %v, next %s; want none, %s", offsets(ds), next, due)
	}
	f.now = due
	d := f.wantTake("mail", 99, 5)[0]
	if diff := differ(tries, d.Tries); diff != "" {
		f.Fatalf("tries after reopening (-want +got):\n%s", diff)
	}
	f.wantMessage(d, want[5])
	f.ack("mail", 3) // as late as an answer can be
	f.wantTake("mail", 99)
}

// wantFinishedStats wants the counts of reopenFinished.
func (f *fixture) wantFinishedStats(cancels bool, due time.Time) {
	f.Helper()
	if _, ok := f.Buffer.(buffer.Inspector); !ok {
		return
	}
	accepted := f.now.Add(-time.Second)
	mail := buffer.DrainStats{
		Drain: "mail", Stream: "orders",
		Pending: 7, Scheduled: 1, Delivered: 3,
		Dead:   map[buffer.Reason]uint64{buffer.ReasonMaxAttempts: 1},
		Oldest: accepted, LastDue: due,
	}
	sms := buffer.DrainStats{Drain: "sms", Stream: "orders", Pending: 12, Oldest: accepted}
	orders := buffer.StreamStats{Stream: "orders", Messages: 12, Accepted: 12, Oldest: accepted}
	if cancels {
		mail.Pending, mail.Cancelled = 6, 1
		sms.Pending, sms.Cancelled = 11, 1
		orders.Messages = 11
	}
	f.wantDrainStats("reopening", mail)
	f.wantDrainStats("reopening", sms)
	f.wantStreamStats("reopening", orders)
	f.checkLedger()
}

// wantOutcomes wants the receipts of reopenFinished.
func (f *fixture) wantOutcomes(due time.Time) {
	f.Helper()
	accepted := f.now.Add(-time.Second)
	want := map[uint64]buffer.DrainStatus{
		0: {State: buffer.Delivered, Attempts: 1, Status: 200, At: accepted},
		2: {State: buffer.Queued},
		3: {State: buffer.Delivered, Attempts: 1, Status: 200, At: accepted},
		4: {State: buffer.Dead, Attempts: 15, Status: 500, Error: "no luck at all", Reason: buffer.ReasonMaxAttempts, At: f.now},
		5: {State: buffer.Scheduled, Ahead: 1, Attempts: 4, Due: due},
		6: {State: buffer.Queued, Ahead: 2},
		8: {State: buffer.Cancelled, At: f.now},
	}
	for offset, w := range want {
		w.Drain = "mail"
		got := f.find(order(offset)).Drains[0]
		if got.State == buffer.Scheduled {
			got.Status, got.Error = 0, "" // only attempts and due time are durable
		}
		if diff := differ(w, got, statusOptions()); diff != "" {
			f.Fatalf("offset %d after reopening (-want +got):\n%s", offset, diff)
		}
	}
}

// reopenCancelled does not wait for anything: a cancel is durable when it returns.
func reopenCancelled(f *fixture, crash bool) {
	f.fill("orders", 3)
	f.wantTake("mail", 1, 0)
	f.wantErr("Cancel of a waiting message", f.cancel(order(1)), nil)
	f.wantErr("Cancel of a message in flight with one of two", f.cancel(order(0)), nil)
	id := f.receipts().ID(order(1))
	f.reopen(crash)
	f.wantTake("mail", 9, 0, 2)
	f.wantTake("sms", 9, 2)
	ref, err := f.receipts().Ref(id)
	if err != nil || ref != order(1) {
		f.Fatalf("Ref(%s) after reopening is %v, %v; want %v", id, ref, err, order(1))
	}
	if s := f.find(ref); s.State() != buffer.Cancelled {
		f.Fatalf("offset 1 is %s after reopening, want %s", s.State(), buffer.Cancelled)
	}
	f.wantErr("Cancel of a cancelled message", f.cancel(ref), buffer.ErrFinal)
}

func reopenNewDrain(f *fixture, crash bool) {
	f.fill("orders", 3)
	f.configure([]buffer.Stream{{Name: "orders", Drains: []string{"mail", "sms"}}})
	f.fill("orders", 2)
	f.reopen(crash)
	f.wantTake("sms", 9, 3, 4)
	f.wantTake("mail", 9, 0, 1, 2, 3, 4)
	f.ack("sms", 3, 4)
	f.settle()
	f.reopen(crash)
	f.wantTake("sms", 9)
	f.fill("orders", 1)
	f.wantTake("sms", 9, 5)
}

func reopenFull(f *fixture, crash bool) {
	n := fillUp(f)
	f.reopen(crash)
	f.wantErr("Append to a full stream after reopening", appendNoise(f, n), buffer.ErrBufferFull)
	for _, drain := range []string{"mail", "sms"} {
		all := f.takeAll(drain)
		if len(all) != n {
			f.Fatalf("%s took %d messages, want the %d that were accepted", drain, len(all), n)
		}
		f.ack(drain, offsets(all)...)
	}
	f.settle()
	f.reopen(crash)
	f.eventually("an append is accepted once all is finished", func() bool { return appendNoise(f, n) == nil })
	f.wantTake("mail", 9, uint64(n))
}

func reopenOften(f *fixture, crash bool) {
	next := uint64(0) // the first that is not finished
	for round := range 5 {
		f.fill("orders", 20)
		end := uint64(20 * (round + 1))
		f.wantTake("mail", 12, count(next, 12)...)
		f.ack("mail", count(next, 10)...) // two stay in flight
		next += 10
		f.settle()
		f.reopen(crash)
		f.wantTake("mail", 1000, count(next, int(end-next))...)
		f.reopen(crash)
		f.checkLedger()
	}
}

// reopenUnsettled may see again what was acked just before, but nothing else,
// and all that was not acked.
func reopenUnsettled(f *fixture, crash bool) {
	f.fill("orders", 30)
	f.take("mail", 20)
	f.ack("mail", count(0, 10)...)
	f.settle()
	f.ack("mail", count(10, 10)...)
	f.reopen(crash)
	got := f.take("mail", 99)
	settled, acked := uint64(10), uint64(20)
	if !crash {
		settled = acked // a clean stop writes all acks
	}
	want := acked
	for _, d := range got {
		switch {
		case d.Offset < settled:
			f.Fatalf("offset %d comes again although its ack was durable: %v", d.Offset, offsets(got))
		case d.Offset >= acked && d.Offset != want:
			f.Fatalf("offset %d comes where %d was to: %v", d.Offset, want, offsets(got))
		case d.Offset >= acked:
			want++
		}
	}
	if want != 30 {
		f.Fatalf("offset %d was lost: %v", want, offsets(got))
	}
}

func reopenSealed(f *fixture, crash bool) {
	want := f.fillNoise(48, 64<<10) // 3 MiB
	f.wantTake("mail", 30, count(0, 30)...)
	f.ack("mail", count(1, 29)...)
	f.settle()
	f.reopen(crash)
	ds := f.takeAll("mail")
	f.wantMessages(ds[:1], 0, want[:1])
	f.wantMessages(ds[1:], 30, want[30:])
	f.ack("mail", 0)
	f.ack("mail", count(30, 18)...)
	f.settle()
	f.reopen(crash)
	f.wantTake("mail", 9)
	if a := f.append("orders", small(0)); a.First != 48 {
		f.Fatalf("append after everything was finished: offset %d, want 48", a.First)
	}
	f.wantTake("mail", 9, 48)
}

func reopenEmpty(f *fixture, crash bool) {
	f.reopen(crash)
	f.wantTake("mail", 9)
	f.fill("orders", 1)
	f.reopen(crash)
	f.wantTake("mail", 9, 0)
}
