package buffertest

import (
	"context"
	"slices"
	"time"

	"forebay/buffer"
)

func deadSections() []section {
	return needing(slices.Concat([]section{
		{name: "dead: list in pages", streams: oneDrain(), run: deadList},
		{name: "dead: list nothing", streams: oneDrain(), run: deadNothing},
		{name: "dead: show one whole", streams: twoDrains(), run: deadShow},
		{name: "dead: drop", streams: twoDrains(), run: deadDrop},
		{name: "dead: counted as they come", needs: []capability{needInspector}, streams: oneDrain(), run: deadBuried},
		{name: "dead: full", streams: deadBound(), run: deadFull},
		{name: "dead: kept for so long", needs: []capability{needHousekeep, needInspector, needReceipts}, streams: deadHour(), run: deadKept},
	}, afterReopen([]reopening{
		{name: "dead: keeps the list", streams: oneDrain(), run: deadListReopened},
		{name: "dead: counted anew", needs: []capability{needInspector}, streams: oneDrain(), run: deadBuriedReopened},
		{name: "dead: keeps a drop", streams: oneDrain(), run: deadDropReopened},
		{name: "dead: stays full", streams: deadBound(), run: deadFullReopened},
	})), needDeadLetters)
}

func (f *fixture) deadLetters() buffer.DeadLetters { return f.Buffer.(buffer.DeadLetters) }

// firstPage is what Dead is asked for to begin with.
const firstPage = ^uint64(0)

// deadList returns all dead letters of a drain, read in pages of at most limit.
func (f *fixture) deadList(drain string, limit int) []buffer.DeadLetter {
	f.Helper()
	var all []buffer.DeadLetter
	after := firstPage
	for {
		list, more, err := f.deadLetters().Dead(drain, after, limit)
		if err != nil {
			f.Fatalf("Dead(%s, after %d, %d): %v", drain, after, limit, err)
		}
		if len(list) > limit || more && len(list) < limit {
			f.Fatalf("Dead(%s, after %d, %d): %d letters, more %v", drain, after, limit, len(list), more)
		}
		all = append(all, list...)
		if !more {
			return all
		}
		after = list[len(list)-1].Offset
	}
}

func (f *fixture) wantDead(drain string, want ...uint64) {
	f.Helper()
	var got []uint64
	for _, l := range f.deadList(drain, 2) {
		got = append(got, l.Offset)
	}
	if !slices.Equal(got, want) {
		f.Fatalf("Dead(%s): offsets %v, want %v", drain, got, want)
	}
}

func (f *fixture) dropDead(drain string, offsets ...uint64) int {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := f.deadLetters().DropDead(ctx, drain, offsets, f.now)
	if err != nil {
		f.Fatalf("DropDead(%s, %v): %v", drain, offsets, err)
	}
	return n
}

// deadKinds makes three dead messages that differ in everything, and two others.
func (f *fixture) deadKinds() []buffer.DeadLetter {
	f.Helper()
	start := f.now
	f.append("orders", keyed(0, "a"), small(1), small(2), keyed(3, "b"), small(4))
	f.wantTake("mail", 9, 0, 1, 2, 3, 4)
	f.bury("mail", 0)
	f.ack("mail", 1)
	f.now = f.release("mail", 3, time.Minute).Due
	f.wantTake("mail", 9, 3)
	second := buffer.Result{At: f.now, FirstAt: f.now, Attempts: 2, Status: 503, Error: "busy"}
	f.Buffer.Bury("mail", 3, buffer.ReasonMaxAttempts, second)
	only := buffer.Result{At: f.now, FirstAt: f.now.Add(-time.Second), Attempts: 1}
	f.Buffer.Bury("mail", 4, buffer.ReasonMaxAge, only)
	letter := func(offset uint64, key string, why buffer.Reason, r buffer.Result) buffer.DeadLetter {
		l := buffer.DeadLetter{
			Ref: order(offset), Drain: "mail", Key: key, AcceptedAt: start,
			Reason: why, Status: r.Status, Attempts: r.Attempts, Error: r.Error, FirstAt: r.FirstAt, At: r.At,
		}
		if r.Attempts > 1 {
			l.FirstAt = start // as it was released
		}
		return l
	}
	return []buffer.DeadLetter{
		letter(0, "a", buffer.ReasonPermanent, buffer.Result{At: start, Attempts: 1, Status: 422, Error: "refused"}),
		letter(3, "b", buffer.ReasonMaxAttempts, second),
		letter(4, "", buffer.ReasonMaxAge, only),
	}
}

// wantLetters compares dead letters; the ids are what receipts say, if there are any.
func (f *fixture) wantLetters(got, want []buffer.DeadLetter) {
	f.Helper()
	want = slices.Clone(want)
	for i := range want {
		switch {
		case f.can(needReceipts):
			want[i].ID = f.receipts().ID(want[i].Ref)
		case i < len(got):
			want[i].ID = got[i].ID
		}
	}
	if diff := differ(want, got); diff != "" {
		f.Fatalf("dead letters (-want +got):\n%s", diff)
	}
}

func deadList(f *fixture) {
	want := f.deadKinds()
	for limit := range 4 {
		f.wantLetters(f.deadList("mail", limit+1), want)
	}
	list, more, err := f.deadLetters().Dead("mail", 3, 9)
	if err != nil || more || len(list) != 1 || list[0].Offset != 4 {
		f.Fatalf("Dead(mail, after 3, 9): %+v, more %v, %v; want offset 4 alone", list, more, err)
	}
	list, more, err = f.deadLetters().Dead("mail", 1, 1) // after what is not dead
	if err != nil || !more || len(list) != 1 || list[0].Offset != 3 {
		f.Fatalf("Dead(mail, after 1, 1): %+v, more %v, %v; want offset 3, and more", list, more, err)
	}
	list, more, err = f.deadLetters().Dead("mail", 4, 9)
	if err != nil || more || len(list) != 0 {
		f.Fatalf("Dead(mail, after the last, 9): %+v, more %v, %v; want none", list, more, err)
	}
}

func (f *fixture) wantBuried(step string, want uint64) {
	f.Helper()
	if got := f.drainStats("mail").Buried[buffer.ReasonPermanent]; got != want {
		f.Fatalf("%s: %d buried, want %d", step, got, want)
	}
}

// deadBuried holds that a burial stays counted, whatever becomes of the message.
func deadBuried(f *fixture) {
	f.fill("orders", 3)
	f.takeBury("mail", 0, 1)
	f.wantBuried("two died", 2)
	f.wantReplay(0)
	f.wantBuried("one is brought back", 2)
	f.takeBury("mail", 0)
	f.wantBuried("and dies again", 3)
	f.dropDead("mail", 0, 1)
	f.wantBuried("both are dropped", 3)
}

func deadBuriedReopened(f *fixture, crash bool) {
	f.fill("orders", 3)
	f.takeBury("mail", 0, 1)
	f.wantReplay(0)
	f.settle()
	f.reopen(crash)
	f.wantBuried("one is dead at the start", 1)
	f.takeBury("mail", 0)
	f.wantBuried("and another one dies", 2)
}

func deadNothing(f *fixture) {
	f.wantDead("mail")
	f.fill("orders", 2)
	f.wantTake("mail", 1, 0)
	f.ack("mail", 0)
	f.wantDead("mail")
	if n := f.replay("mail", 0, 1, 2, 1<<40); n != 0 {
		f.Fatalf("Replay of what is not dead counts %d messages, want none", n)
	}
	if n := f.dropDead("mail", 0, 1, 2, 1<<40); n != 0 {
		f.Fatalf("DropDead of what is not dead counts %d messages, want none", n)
	}
	f.wantTake("mail", 9, 1)
	_, _, err := f.deadLetters().Dead("nobody", firstPage, 1)
	f.wantErr("Dead of an unknown drain", err, buffer.ErrNoDrain)
	_, err = f.deadLetters().Replay(context.Background(), "nobody", []uint64{0}, f.now)
	f.wantErr("Replay for an unknown drain", err, buffer.ErrNoDrain)
	_, err = f.deadLetters().DropDead(context.Background(), "nobody", []uint64{0}, f.now)
	f.wantErr("DropDead for an unknown drain", err, buffer.ErrNoDrain)
}

// wantLetterWhole reads a dead message with its content.
func (f *fixture) wantLetterWhole(want buffer.DeadLetter, msg buffer.Message) {
	f.Helper()
	l, got, err := f.deadLetters().DeadMessage(want.Drain, want.Offset)
	if err != nil {
		f.Fatalf("DeadMessage(%s, %d): %v", want.Drain, want.Offset, err)
	}
	f.wantLetters([]buffer.DeadLetter{l}, []buffer.DeadLetter{want})
	f.wantMessage(buffer.Delivery{Ref: l.Ref, Message: got}, msg)
}

func (f *fixture) wantNotDead(drain string, offset uint64) {
	f.Helper()
	_, _, err := f.deadLetters().DeadMessage(drain, offset)
	f.wantErr("DeadMessage of what is not dead", err, buffer.ErrNoMessage)
}

func deadShow(f *fixture) {
	want := f.deadKinds()
	f.ack("sms", offsets(f.takeAll("sms"))...) // finished elsewhere, it is still kept here
	f.settle()
	f.wantLetterWhole(want[0], keyed(0, "a"))
	f.wantLetterWhole(want[1], keyed(3, "b"))
	f.wantLetterWhole(want[2], small(4))
	f.wantNotDead("mail", 1)
	f.wantNotDead("mail", 99)
	f.wantNotDead("sms", 0)
}

func deadDrop(f *fixture) {
	f.deadKinds()
	f.now = f.now.Add(time.Hour)
	if n := f.dropDead("mail", 0, 1, 4); n != 2 {
		f.Fatalf("DropDead of two dead messages and one delivered counts %d, want 2", n)
	}
	f.wantDead("mail", 3)
	f.wantNotDead("mail", 0)
	if n := f.dropDead("mail", 0); n != 0 {
		f.Fatalf("DropDead of what was dropped counts %d, want 0", n)
	}
	f.wantTake("mail", 9) // offset 2 is still in flight
	if f.can(needInspector) {
		f.wantAccounts("DropDead",
			buffer.Account{Stream: "orders", Drain: "mail", Accepted: 5, Delivered: 1, Cancelled: 2, Dead: 1, Buffered: 1},
			buffer.Account{Stream: "orders", Drain: "sms", Accepted: 5, Buffered: 5},
			buffer.Account{Stream: "logs", Drain: "archive"})
	}
	if f.can(needReceipts) {
		got := f.find(order(0)).Drains[0]
		if got.State != buffer.Cancelled || !got.At.Equal(f.now) {
			f.Fatalf("a dropped message is %+v, want cancelled at %s", got, clock(f.now))
		}
	}
}

func deadBound() []buffer.Stream {
	return []buffer.Stream{
		{Name: "orders", Drains: []string{"mail"}, DeadMaxBytes: 512 << 10},
		{Name: "logs", Drains: []string{"archive"}},
	}
}

// buryUp appends and buries messages of 32 KiB until the dead letters are full,
// and returns how many.
func buryUp(f *fixture) int {
	f.Helper()
	const least, most = 8, 24 // generous to any encoding; 16 are at the bound
	for n := range most {
		err := appendNoise(f, n)
		if err == nil {
			f.wantTake("mail", 9, uint64(n))
			f.bury("mail", uint64(n))
			f.settle()
			continue
		}
		f.wantErr("Append near the bound of dead letters", err, buffer.ErrDeadFull)
		if n < least {
			f.Fatalf("dead letters are full after %d messages of 32 KiB, their bound is 512 KiB", n)
		}
		return n
	}
	f.Fatalf("dead letters are not full after %d messages of 32 KiB, their bound is 512 KiB", most)
	return 0
}

func deadFull(f *fixture) {
	n := buryUp(f)
	f.wantErr("Append with full dead letters", appendNoise(f, n), buffer.ErrDeadFull)
	f.append("logs", small(0)) // another stream has its own bound
	half := uint64(n / 2)
	if got := f.dropDead("mail", count(0, int(half))...); got != int(half) {
		f.Fatalf("DropDead counts %d messages, want %d", got, half)
	}
	f.eventually("an append is accepted once half of the dead were dropped", func() bool { return appendNoise(f, n) == nil })
	f.wantTake("mail", 9, uint64(n))
	f.wantDead("mail", count(half, n-int(half))...)
	if got := f.replay("mail", half); got != 1 {
		f.Fatalf("Replay counts %d messages, want 1", got)
	}
	f.wantTake("mail", 9, half)
}

func deadListReopened(f *fixture, crash bool) {
	want := f.deadKinds()
	f.settle()
	for range 2 {
		f.reopen(crash)
		f.wantLetters(f.deadList("mail", 2), want)
		f.wantLetterWhole(want[1], keyed(3, "b"))
	}
	f.wantTake("mail", 9, 2)
}

// wantState compares the state of a message where there are receipts.
func (f *fixture) wantState(offset uint64, want buffer.State) {
	f.Helper()
	if !f.can(needReceipts) {
		return
	}
	if got := f.find(order(offset)); got.State() != want {
		f.Fatalf("offset %d is %s, want %s: %+v", offset, got.State(), want, got)
	}
}

// deadDropReopened does not wait: a drop is durable when it returns.
func deadDropReopened(f *fixture, crash bool) {
	f.deadKinds()
	f.settle()
	f.dropDead("mail", 0, 3)
	for range 2 {
		f.reopen(crash)
		f.wantDead("mail", 4)
		if f.can(needInspector) {
			f.wantAccounts("reopening", buffer.Account{Stream: "orders", Drain: "mail", Accepted: 5, Delivered: 1, Cancelled: 2, Dead: 1, Buffered: 1})
		}
		f.wantState(0, buffer.Cancelled)
		f.wantState(4, buffer.Dead)
	}
}

func deadFullReopened(f *fixture, crash bool) {
	n := buryUp(f)
	f.reopen(crash)
	f.wantErr("Append with full dead letters after reopening", appendNoise(f, n), buffer.ErrDeadFull)
	f.dropDead("mail", count(0, n)...)
	f.reopen(crash)
	f.eventually("an append is accepted once all dead were dropped", func() bool { return appendNoise(f, n) == nil })
}
