package buffertest

import (
	"fmt"
	"slices"
	"time"

	"forebay/buffer"
)

func timeSections() []section {
	return slices.Concat([]section{
		{name: "times of messages come back", streams: oneDrain(), run: timesComeBack},
		{name: "deliver after a time", streams: oneDrain(), run: deliverAfter},
		{name: "a message that waits for its time holds its key", streams: oneDrain(), run: afterHoldsKey},
		{name: "a time in receipts", needs: []capability{needReceipts}, streams: oneDrain(), run: timesInReceipts},
		{name: "thousands wait for a time", streams: oneDrain(), run: manyAfter},
		{name: "expire by own deadlines", needs: []capability{needOwn}, streams: twoDrains(), run: expireOwn},
	}, afterReopen([]reopening{
		{name: "keeps times", needs: []capability{needOwn}, streams: oneDrain(), run: timesReopened},
	}))
}

// timedMessage has times so long after now; 0: none.
func (f *fixture) timedMessage(i int, after, deadline time.Duration) buffer.Message {
	m := small(i)
	if after != 0 {
		m.DeliverAfter = f.now.Add(after)
	}
	if deadline != 0 {
		m.Deadline = f.now.Add(deadline)
	}
	return m
}

func timesComeBack(f *fixture) {
	want := []buffer.Message{
		small(0), f.timedMessage(1, -time.Hour, 0), f.timedMessage(2, 0, time.Hour), f.timedMessage(3, -time.Second, time.Second), small(4),
	}
	batch := batchOf("b", 0, 6)
	for i := range batch {
		batch[i].Deadline = f.now.Add(time.Hour)
	}
	batch[3].Deadline = f.now.Add(2 * time.Hour) // one with the same header and another time
	batch[4].DeliverAfter = f.now
	want = append(want, batch...)
	f.append("orders", want...)
	for _, m := range want {
		f.append("orders", m)
	}
	f.wantMessages(f.takeAll("mail"), 0, append(want, want...))
}

func deliverAfter(f *fixture) {
	f.append("orders", f.timedMessage(0, time.Hour, 0), small(1), f.timedMessage(2, time.Minute, 0), f.timedMessage(3, -time.Minute, 0))
	ds, next := f.takeNext("mail", 9)
	f.wantOffsets("Take before their time", ds, 1, 3)
	if want := f.now.Add(time.Minute); !next.Equal(want) {
		f.Fatalf("next is %s, want %s", clock(next), clock(want))
	}
	f.Buffer.Return("mail", 1)
	f.now = f.now.Add(time.Minute)
	ds = f.wantTake("mail", 9, 2, 1)
	if ds[0].Tries.Attempts != 0 {
		f.Fatalf("%d attempts before the first", ds[0].Tries.Attempts)
	}
	f.Buffer.Return("mail", 2)
	f.wantTake("mail", 9, 2)
	f.ack("mail", 1, 2, 3)
	f.now = f.now.Add(time.Hour)
	f.wantTake("mail", 9, 0)
}

func afterHoldsKey(f *fixture) {
	msgs := []buffer.Message{small(0), f.timedMessage(1, time.Minute, 0), small(2), f.timedMessage(3, time.Hour, 0), small(4)}
	for i := range msgs {
		msgs[i].Key = "a"
	}
	msgs[4].Key = "b"
	f.append("orders", msgs...)
	f.wantTake("mail", 9, 0, 4)
	f.ack("mail", 0, 4)
	f.wantTake("mail", 9)
	f.now = f.now.Add(time.Minute)
	f.wantTake("mail", 9, 1)
	f.ack("mail", 1)
	f.wantTake("mail", 9, 2)
	f.ack("mail", 2)
	f.wantTake("mail", 9)
	f.now = f.now.Add(time.Hour)
	f.wantTake("mail", 9, 3)
}

func timesInReceipts(f *fixture) {
	f.append("orders", small(0), f.timedMessage(1, time.Minute, time.Hour))
	for range 2 { // before and after a take has come by
		st := f.find(order(1))
		d := st.Drains[0]
		if !st.Deadline.Equal(f.now.Add(time.Hour)) || d.State != buffer.Scheduled || !d.Due.Equal(f.now.Add(time.Minute)) || d.Ahead != 1 {
			f.Fatalf("a message before its time: %+v", st)
		}
		f.wantTake("mail", 9, 0)
		f.Buffer.Return("mail", 0)
	}
	if got := f.find(order(0)); !got.Deadline.IsZero() || got.State() != buffer.Queued {
		f.Fatalf("a message without a time: %+v", got)
	}
}

func manyAfter(f *fixture) {
	const n = 2500
	msgs := make([]buffer.Message, n)
	for i := range msgs {
		msgs[i] = f.timedMessage(i, time.Minute, 0)
	}
	f.append("orders", msgs...)
	f.append("orders", small(n))
	f.eventually("the message behind them is handed out", func() bool {
		ds := f.take("mail", 9)
		return len(ds) == 1 && ds[0].Offset == n
	})
	f.now = f.now.Add(time.Minute)
	if got := len(f.takeAll("mail")); got != n {
		f.Fatalf("%d messages when their time has come, want %d", got, n)
	}
}

func (f *fixture) expireOwn(drain string, why buffer.Reason) (int, time.Time) {
	f.Helper()
	n, next, err := f.Buffer.(buffer.OwnDeadlines).ExpireOwn(drain, f.now, why)
	if err != nil {
		f.Fatalf("ExpireOwn(%s): %v", drain, err)
	}
	return n, next
}

func (f *fixture) wantOwn(what, drain string, why buffer.Reason, want int, next time.Time) {
	f.Helper()
	if n, got := f.expireOwn(drain, why); n != want || !got.Equal(next) {
		f.Fatalf("ExpireOwn %s: %d messages, next %s; want %d, %s", what, n, clock(got), want, clock(next))
	}
}

func expireOwn(f *fixture) {
	begin := f.now
	f.wantOwn("of an empty stream", "mail", "", 0, time.Time{})
	for i := range 6 {
		f.append("orders", f.timedMessage(i, 0, time.Duration(i)*time.Minute), small(i)) // the first has none
	}
	f.wantOwn("before anything is late", "mail", "", 0, begin.Add(time.Minute))
	f.wantTake("mail", 3, 0, 1, 2)
	f.now = begin.Add(2 * time.Minute)
	if n, _ := f.expireOwn("mail", ""); n != 1 {
		f.Fatalf("%d expired, want offset 4 alone: 2 is in flight", n)
	}
	f.Buffer.Return("mail", 2)
	f.now = f.now.Add(time.Second)
	f.wantOwn("of what came back", "mail", "", 1, begin.Add(3*time.Minute))
	f.now = begin.Add(time.Hour)
	f.wantOwn("into the dead", "mail", buffer.ReasonDeadline, 3, time.Time{})
	f.wantOwn("again", "mail", "", 0, time.Time{})
	f.wantOwn("with the other drain", "sms", "", 5, time.Time{})
	f.ack("mail", 0, 1)
	f.wantTake("mail", 9, 3, 5, 7, 9, 11)
	f.ack("mail", 3, 5, 7, 9, 11)
	_, _, err := f.Buffer.(buffer.OwnDeadlines).ExpireOwn("nobody", f.now, "")
	f.wantErr("ExpireOwn for an unknown drain", err, buffer.ErrNoDrain)
	if f.can(needInspector) {
		f.wantDrainStats("ExpireOwn", buffer.DrainStats{
			Drain: "mail", Stream: "orders", Delivered: 7, Expired: 2, Dead: map[buffer.Reason]uint64{buffer.ReasonDeadline: 3},
		})
	}
}

func timesReopened(f *fixture, crash bool) {
	begin := f.now
	for i := range 3 {
		m := f.timedMessage(i, time.Duration(i)*time.Minute, time.Duration(i)*10*time.Minute)
		m.Key = fmt.Sprint("key ", i)
		f.append("orders", m)
	}
	f.wantTake("mail", 9, 0)
	f.ack("mail", 0)
	f.settle()
	for range 2 {
		f.reopen(crash)
		f.wantTake("mail", 9)
		f.wantOwn("after reopening", "mail", "", 0, begin.Add(10*time.Minute))
	}
	f.now = begin.Add(time.Minute)
	f.wantTake("mail", 9, 1)
	f.now = begin.Add(10 * time.Minute)
	f.Buffer.Return("mail", 1)
	f.wantOwn("of the first", "mail", "", 1, begin.Add(20*time.Minute))
	f.wantTake("mail", 9, 2)
}
