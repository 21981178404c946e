package buffertest

import (
	"slices"
	"time"

	"forebay/buffer"
)

func expireSections() []section {
	return needing(slices.Concat([]section{
		{name: "expire what waits too long", streams: oneDrain(), run: expireWaiting},
		{name: "expire into the dead", streams: oneDrain(), run: expireDead},
		{name: "expire leaves what is in flight", streams: oneDrain(), run: expireInFlight},
		{name: "expire with one of two drains", streams: twoDrains(), run: expireDrains},
		{name: "expire in receipts", needs: []capability{needReceipts}, streams: oneDrain(), run: expireReceipts},
		{name: "expire makes room", streams: boundedStream(), run: expireMakesRoom},
		{name: "expire for nobody", streams: oneDrain(), run: func(f *fixture) {
			_, _, err := f.Buffer.(buffer.Expirer).Expire("nobody", f.now, f.now, "")
			f.wantErr("Expire for an unknown drain", err, buffer.ErrNoDrain)
			n, oldest := f.expire("mail", f.now, "")
			f.wantExpired("an empty stream", n, 0, oldest, time.Time{})
		}},
	}, afterReopen([]reopening{
		{name: "keeps what expired", needs: []capability{needInspector}, streams: oneDrain(), run: expireReopened},
	})), needExpirer)
}

// fillSeconds appends n messages, a second between each, and returns when each
// was accepted.
func (f *fixture) fillSeconds(n int) []time.Time {
	f.Helper()
	var at []time.Time
	for i := range n {
		at = append(at, f.append("orders", small(i)).At)
		f.now = f.now.Add(time.Second)
	}
	return at
}

func (f *fixture) wantExpired(what string, n, want int, oldest, wantOldest time.Time) {
	f.Helper()
	if n != want || !oldest.Equal(wantOldest) {
		f.Fatalf("Expire of %s: %d messages, oldest left %s; want %d, %s", what, n, clock(oldest), want, clock(wantOldest))
	}
}

func expireWaiting(f *fixture) {
	at := f.fillSeconds(6)
	f.wantTake("mail", 2, 0, 1)
	f.ack("mail", 0)
	f.release("mail", 1, time.Hour)
	n, oldest := f.expire("mail", at[1], "") // accepted just then is not before
	f.wantExpired("what is older than the oldest", n, 0, oldest, at[1])
	n, oldest = f.expire("mail", at[4], "")
	f.wantExpired("one scheduled and two untried messages", n, 3, oldest, at[4])
	n, oldest = f.expire("mail", at[4], "")
	f.wantExpired("the same again", n, 0, oldest, at[4])
	ds, next := f.takeNext("mail", 9)
	f.wantOffsets("Take after Expire", ds, 4, 5)
	if !next.IsZero() {
		f.Fatalf("next is %s after the scheduled message expired, want none", clock(next))
	}
	f.ack("mail", 4, 5)
	if f.can(needInspector) {
		f.wantDrainStats("Expire", buffer.DrainStats{Drain: "mail", Stream: "orders", Delivered: 3, Expired: 3})
		f.wantAccounts("Expire", buffer.Account{Stream: "orders", Drain: "mail", Accepted: 6, Delivered: 3, Expired: 3})
	}
	at = f.fillSeconds(2)
	n, oldest = f.expire("mail", at[1].Add(time.Hour), "")
	f.wantExpired("all", n, 2, oldest, time.Time{})
	f.wantTake("mail", 9)
}

func expireDead(f *fixture) {
	at := f.fillSeconds(3)
	n, oldest := f.expire("mail", at[2], buffer.ReasonRetention)
	f.wantExpired("two messages into the dead", n, 2, oldest, at[2])
	f.wantTake("mail", 9, 2)
	if f.can(needInspector) {
		f.wantDrainStats("Expire into the dead", buffer.DrainStats{
			Drain: "mail", Stream: "orders", InFlight: 1, Oldest: at[2],
			Dead: map[buffer.Reason]uint64{buffer.ReasonRetention: 2},
		})
	}
	if f.can(needDeadLetters) {
		for i, l := range f.deadList("mail", 9) {
			if l.Offset != uint64(i) || l.Reason != buffer.ReasonRetention || !l.At.Equal(f.now) || !l.AcceptedAt.Equal(at[i]) || l.Attempts != 0 {
				f.Fatalf("dead letter %d after Expire: %+v; want offset %d, reason retention, buried %s, accepted %s, no attempts", i, l, i, clock(f.now), clock(at[i]))
			}
		}
	}
}

func expireInFlight(f *fixture) {
	at := f.fillSeconds(4)
	end := at[3].Add(time.Hour)
	f.wantTake("mail", 3, 0, 1, 2)
	if n, _ := f.expire("mail", end, ""); n != 1 {
		f.Fatalf("Expire ended %d messages, want 1: three of four are in flight", n)
	}
	f.ack("mail", 0) // the attempt that was under way counts
	f.Buffer.Return("mail", 1)
	due := f.release("mail", 2, time.Minute).Due
	if f.can(needInspector) {
		f.wantDrainStats("answers to what was in flight", buffer.DrainStats{
			Drain: "mail", Stream: "orders", Pending: 1, Scheduled: 1, Delivered: 1, Expired: 1, Oldest: at[1], LastDue: due,
		})
	}
	n, oldest := f.expire("mail", end, "")
	f.wantExpired("what came back", n, 2, oldest, time.Time{})
	f.now = f.now.Add(time.Hour)
	f.wantTake("mail", 9)
}

func expireDrains(f *fixture) {
	at := f.fillSeconds(3)
	f.wantTake("mail", 1, 0)
	f.ack("mail", 0)
	n, oldest := f.expire("mail", at[2], "")
	f.wantExpired("what mail has not finished", n, 1, oldest, at[2])
	f.wantTake("sms", 9, 0, 1, 2)
	f.ack("sms", 0, 1, 2)
	f.wantTake("mail", 9, 2)
	n, oldest = f.expire("archive", at[2], "")
	f.wantExpired("another stream", n, 0, oldest, time.Time{})
	if f.can(needInspector) {
		f.wantAccounts("Expire with one of two drains",
			buffer.Account{Stream: "orders", Drain: "mail", Accepted: 3, Delivered: 1, Expired: 1, Buffered: 1},
			buffer.Account{Stream: "orders", Drain: "sms", Accepted: 3, Delivered: 3},
			buffer.Account{Stream: "logs", Drain: "archive"})
	}
}

func expireReceipts(f *fixture) {
	at := f.fillSeconds(2)
	changed, stop := f.receipts().Watch(order(0))
	defer stop()
	f.expire("mail", at[1], "")
	if !signalled(changed) {
		f.Fatalf("Watch did not fire when the message expired")
	}
	got := f.find(order(0)).Drains[0]
	if got.State != buffer.Expired || got.Reason != "" || !got.At.Equal(f.now) {
		f.Fatalf("an expired message is %+v, want expired at %s", got, clock(f.now))
	}
	f.wantErr("Cancel of an expired message", f.cancel(order(0)), buffer.ErrFinal)
	if ahead := f.find(order(1)).Drains[0].Ahead; ahead != 0 {
		f.Fatalf("%d messages are ahead of the first that did not expire, want none", ahead)
	}
}

func expireMakesRoom(f *fixture) {
	n := fillUp(f)
	for _, drain := range []string{"mail", "sms"} {
		f.wantErr("Append to a full stream", appendNoise(f, n), buffer.ErrBufferFull)
		if got, _ := f.expire(drain, f.now.Add(time.Second), ""); got != n {
			f.Fatalf("Expire(%s) ended %d messages, want %d", drain, got, n)
		}
	}
	f.settle()
	f.eventually("an append is accepted once all expired", func() bool { return appendNoise(f, n) == nil })
	f.wantTake("mail", 9, uint64(n))
}

func expireReopened(f *fixture, crash bool) {
	at := f.fillSeconds(6)
	f.wantTake("mail", 2, 0, 1)
	f.release("mail", 1, time.Hour)
	f.expire("mail", at[3], "")
	f.expire("mail", at[4], buffer.ReasonDeadline)
	f.settle()
	want := buffer.DrainStats{
		Drain: "mail", Stream: "orders", Pending: 3, Expired: 2, Oldest: at[0],
		Dead: map[buffer.Reason]uint64{buffer.ReasonDeadline: 1},
	}
	for range 2 {
		f.reopen(crash)
		f.wantDrainStats("reopening", want)
		f.checkLedger()
	}
	if f.can(needReceipts) {
		for offset, state := range []buffer.State{buffer.Queued, buffer.Expired, buffer.Expired, buffer.Dead, buffer.Queued} {
			if got := f.find(order(uint64(offset))).State(); got != state {
				f.Fatalf("offset %d is %s after reopening, want %s", offset, got, state)
			}
		}
	}
	f.wantTake("mail", 9, 0, 4, 5)
}
