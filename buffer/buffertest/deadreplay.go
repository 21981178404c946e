package buffertest

import (
	"slices"
	"time"

	"forebay/buffer"
)

func deadReplaySections() []section {
	return needing(slices.Concat([]section{
		{name: "replay: attempts go on counting", streams: twoDrains(), run: replayTries},
		{name: "replay: what is not dead is passed over", streams: oneDrain(), run: replayPassesOver},
		{name: "replay: wakes the drain", streams: oneDrain(), run: replayWakes},
		{name: "replay: in receipts", needs: []capability{needReceipts}, streams: oneDrain(), run: replayReceipts},
		{name: "replay: the ledger balances", needs: []capability{needInspector}, streams: twoDrains(), run: replayLedger},
		{name: "replay: a message takes its place in its key", streams: oneDrain(), run: replayOrder},
		{name: "replay: several of a key come in order", streams: oneDrain(), run: replaySeveral},
		{name: "replay: a message waits for the one under way", streams: oneDrain(), run: replayWaits},
		{name: "replay: a message goes before one that was returned", streams: oneDrain(), run: replayBeforeReturned},
		{name: "replay: what expired untried", needs: []capability{needExpirer}, streams: oneDrain(), run: replayExpired},
	}, afterReopen([]reopening{
		{name: "replay: is durable", streams: oneDrain(), run: replayReopened},
		{name: "replay: after it", streams: oneDrain(), run: replayAfterReopen},
		{name: "replay: keeps the order", needs: []capability{needExpirer}, streams: oneDrain(), run: replayOrderReopened},
		{name: "replay: keeps who waits for whom", streams: oneDrain(), run: replayWaitsReopened},
	})), needDeadLetters)
}

func (f *fixture) wantReplay(offsets ...uint64) {
	f.Helper()
	if n := f.replay("mail", offsets...); n != len(offsets) {
		f.Fatalf("Replay(mail, %v) counts %d messages, want %d", offsets, n, len(offsets))
	}
}

// takeBury takes messages and buries them.
func (f *fixture) takeBury(drain string, offsets ...uint64) {
	f.Helper()
	f.wantTake(drain, len(offsets), offsets...)
	for _, offset := range offsets {
		f.bury(drain, offset)
	}
}

func replayTries(f *fixture) {
	want := f.fill("orders", 2)
	f.wantTake("mail", 1, 0)
	for n := range 3 {
		at := f.now
		f.Buffer.Bury("mail", 0, buffer.ReasonMaxAttempts, buffer.Result{At: at, Attempts: 4 * (n + 1), Status: 500, Error: "no luck"})
		f.now = f.now.Add(time.Hour)
		f.wantReplay(0)
		f.wantDead("mail")
		d := f.wantTake("mail", 1, 0)[0] // at once, and before what was never tried
		f.wantMessage(d, want[0])
		if d.Tries.Attempts != 4*(n+1) {
			f.Fatalf("replay %d: %d attempts, want %d", n, d.Tries.Attempts, 4*(n+1))
		}
		f.Buffer.Return("mail", 0)
		again := f.wantTake("mail", 1, 0)[0]
		if diff := differ(d.Tries, again.Tries); diff != "" {
			f.Fatalf("tries of a replayed message after a return (-want +got):\n%s", diff)
		}
	}
	f.ack("mail", 0)
	f.wantTake("mail", 9, 1)
	f.wantTake("sms", 9, 0, 1) // which saw nothing of it
}

func replayPassesOver(f *fixture) {
	f.fill("orders", 5)
	f.takeBury("mail", 0, 1)
	f.wantTake("mail", 2, 2, 3)
	f.ack("mail", 2)
	if n := f.replay("mail", 4, 3, 2, 1, 99); n != 1 {
		f.Fatalf("Replay of one dead message among others counts %d, want 1", n)
	}
	if n := f.replay("mail", 1); n != 0 {
		f.Fatalf("Replay of what was replayed counts %d, want 0", n)
	}
	f.wantDead("mail", 0)
	f.wantTake("mail", 9, 1, 4)
}

func replayWakes(f *fixture) {
	f.fill("orders", 1)
	f.takeBury("mail", 0)
	wake := f.Buffer.Wake("mail")
	f.quiet(wake)
	f.wantReplay(0)
	if !signalled(wake) {
		f.Fatalf("Wake(mail) is not signalled after a replay")
	}
}

func replayReceipts(f *fixture) {
	f.fill("orders", 2)
	f.takeBury("mail", 0, 1)
	f.now = f.now.Add(time.Minute)
	changed, stop := f.receipts().Watch(order(0))
	defer stop()
	f.wantReplay(0)
	if !signalled(changed) {
		f.Fatalf("Watch did not fire at a replay")
	}
	got := f.find(order(0)).Drains[0]
	if got.State != buffer.Scheduled || got.Attempts != 1 || !got.Due.Equal(f.now) || got.Reason != "" || !got.At.IsZero() {
		f.Fatalf("a replayed message is %+v, want scheduled for %s after 1 attempt, without reason and end", got, clock(f.now))
	}
	f.wantErr("Cancel of a replayed message", f.cancel(order(0)), nil)
	f.wantErr("Cancel of a dead message", f.cancel(order(1)), buffer.ErrFinal)
	f.wantTake("mail", 9)
}

func replayLedger(f *fixture) {
	f.fill("orders", 4)
	mail := buffer.Account{Stream: "orders", Drain: "mail", Accepted: 4, Dead: 4}
	sms := buffer.Account{Stream: "orders", Drain: "sms", Accepted: 4, Delivered: 4}
	check := func(step string) {
		f.Helper()
		f.wantAccounts(step, mail, sms, buffer.Account{Stream: "logs", Drain: "archive"})
		open := mail.Buffered
		if got := f.streamStats("orders"); got.Messages != open || (open > 0) == got.Oldest.IsZero() {
			f.Fatalf("after %s: stream has %d unfinished messages, the oldest of %s; want %d", step, got.Messages, got.Oldest, open)
		}
		if got := f.drainStats("mail").Oldest; (open > 0) == got.IsZero() {
			f.Fatalf("after %s: oldest unfinished message of mail is of %s, with %d buffered", step, got, open)
		}
	}
	f.takeBury("mail", 0, 1, 2, 3)
	f.ack("sms", offsets(f.takeAll("sms"))...)
	f.settle()
	check("all is dead or delivered")
	f.wantReplay(1, 2)
	mail.Dead, mail.Buffered = 2, 2
	check("a replay of two")
	f.wantTake("mail", 9, 1, 2)
	f.ack("mail", 1)
	mail.Delivered, mail.Buffered = 1, 1
	check("an ack after a replay")
	f.bury("mail", 2)
	mail.Dead, mail.Buffered = 3, 0
	check("a second bury")
	f.dropDead("mail", 0, 2)
	mail.Dead, mail.Cancelled = 1, 2
	check("a drop of two")
	f.settle()
	check("all was settled")
}

func replayOrder(f *fixture) {
	f.fillKeys("orders", "a", "a", "a", "b")
	f.takeBury("mail", 0)
	f.wantReplay(0)
	f.wantTake("mail", 9, 0, 3) // before its followers
	f.bury("mail", 0)
	f.wantTake("mail", 9, 1)
	f.ack("mail", 1)
	f.wantReplay(0)
	f.wantTake("mail", 9, 0)
	f.ack("mail", 0)
	f.wantTake("mail", 9, 2)
}

func replaySeveral(f *fixture) {
	f.fillKeys("orders", "a", "a", "a", "a")
	for offset := range uint64(3) {
		f.takeBury("mail", offset)
	}
	f.wantReplay(2, 0, 1) // in order, however they are named
	for offset := range uint64(4) {
		f.wantTake("mail", 9, offset)
		f.ack("mail", offset)
	}
	f.wantTake("mail", 9)
}

func replayWaits(f *fixture) {
	f.fillKeys("orders", "a", "a", "a")
	f.takeBury("mail", 0)
	f.wantTake("mail", 9, 1)
	f.wantReplay(0)
	f.wantTake("mail", 9) // 1 is in flight
	due := f.release("mail", 1, time.Minute).Due
	ds, next := f.takeNext("mail", 9)
	if len(ds) != 0 || !next.Equal(due) {
		f.Fatalf("Take while a replayed message waits for one that is scheduled: offsets %v, next %s; want none, %s", offsets(ds), clock(next), clock(due))
	}
	f.now = due
	f.wantTake("mail", 9, 1)
	f.ack("mail", 1)
	f.wantTake("mail", 9, 0)
	f.ack("mail", 0)
	f.wantTake("mail", 9, 2)
}

func replayBeforeReturned(f *fixture) {
	f.fillKeys("orders", "a", "a")
	f.takeBury("mail", 0)
	f.wantTake("mail", 9, 1)
	f.Buffer.Return("mail", 1)
	f.wantReplay(0)
	f.wantTake("mail", 9, 0)
	f.ack("mail", 0)
	f.wantTake("mail", 9, 1)
}

func replayExpired(f *fixture) {
	f.fillKeys("orders", "a", "a")
	f.now = f.now.Add(time.Minute)
	f.expire("mail", f.now, buffer.ReasonDeadline)
	f.wantReplay(0, 1)
	d := f.wantTake("mail", 9, 0)[0]
	if d.Tries.Attempts != 0 {
		f.Fatalf("a message that expired untried has %d attempts after its replay, want none", d.Tries.Attempts)
	}
	f.Buffer.Return("mail", 0)
	f.wantTake("mail", 9, 0)
	f.ack("mail", 0)
	f.wantTake("mail", 9, 1)
}

// replayReopened does not wait: a replay is durable when it returns.
func replayReopened(f *fixture, crash bool) {
	f.deadKinds()
	f.settle()
	f.wantReplay(0, 3)
	for range 2 {
		f.reopen(crash)
		f.wantDead("mail", 4)
		if f.can(needInspector) {
			f.wantAccounts("reopening", buffer.Account{Stream: "orders", Drain: "mail", Accepted: 5, Delivered: 1, Dead: 1, Buffered: 3})
		}
		ds := f.wantTake("mail", 9, 0, 3, 2)
		if ds[0].Tries.Attempts != 1 || ds[1].Tries.Attempts != 2 {
			f.Fatalf("attempts of replayed messages after reopening: %d and %d, want 1 and 2", ds[0].Tries.Attempts, ds[1].Tries.Attempts)
		}
		f.wantMessage(ds[1], keyed(3, "b"))
		f.wantState(0, buffer.Delivering)
	}
	f.ack("mail", 0)
	f.bury("mail", 3)
	f.settle()
	f.reopen(crash)
	f.wantState(0, buffer.Delivered)
	f.wantState(3, buffer.Dead)
	f.wantTake("mail", 9, 2)
}

// replayAfterReopen brings back what lies in sealed segments.
func replayAfterReopen(f *fixture, crash bool) {
	want := f.fillNoise(48, 64<<10)
	ds := f.takeAll("mail")
	for _, d := range ds {
		if d.Offset%16 == 5 {
			f.bury("mail", d.Offset)
		} else {
			f.ack("mail", d.Offset)
		}
	}
	f.settle()
	f.reopen(crash)
	f.wantDead("mail", 5, 21, 37)
	f.wantReplay(5, 37)
	f.reopen(crash)
	got := f.wantTake("mail", 9, 5, 37)
	f.wantMessage(got[0], want[5])
	f.wantMessage(got[1], want[37])
	f.ack("mail", 5, 37)
	f.wantReplay(21)
	f.settle()
	f.reopen(crash)
	f.wantMessage(f.wantTake("mail", 9, 21)[0], want[21])
}

// replayWaitsReopened replays a message once its key is parked by a later one:
// a start does not change who is first.
func replayWaitsReopened(f *fixture, crash bool) {
	f.fillKeys("orders", "a", "a", "b", "a")
	f.takeBury("mail", 0)
	f.wantTake("mail", 9, 1, 2)
	due := f.release("mail", 1, time.Minute).Due
	f.settle()
	f.reopen(crash)
	f.wantReplay(0)
	f.wantTake("mail", 9, 2) // 1 is scheduled, and 0 waits for it
	f.now = due
	f.wantTake("mail", 9, 1)
	f.ack("mail", 1)
	f.wantTake("mail", 9, 0)
	f.ack("mail", 0)
	f.settle()
	f.reopen(crash)
	f.wantTake("mail", 9, 2, 3)
}

// replayOrderReopened replays a message that comes after one that waits: after
// a start too, the first is first.
func replayOrderReopened(f *fixture, crash bool) {
	f.fillKeys("orders", "a", "a", "b")
	f.wantTake("mail", 9, 0, 2)
	f.now = f.now.Add(time.Minute)
	f.expire("mail", f.now, buffer.ReasonDeadline) // the follower, 1
	f.Buffer.Return("mail", 0)
	f.wantReplay(1)
	for range 2 {
		f.reopen(crash)
		f.wantTake("mail", 9, 0, 2)
	}
	f.ack("mail", 0)
	f.wantTake("mail", 9, 1)
}
