package buffertest

import (
	"context"
	"slices"

	"forebay/buffer"
)

func removeSections() []section {
	return needing(slices.Concat([]section{
		{name: "remove: an orphaned drain", streams: twoDrains(), run: removeOrphan},
		{name: "remove: what is left of a drain", streams: twoDrains(), run: removeBacklog},
		{name: "remove: a long backlog of an orphaned drain", streams: oneDrain(), run: removeLong},
		{name: "remove: a stream", streams: twoDrains(), run: removeStream},
		{name: "remove: a stream that never had a drain", streams: []buffer.Stream{{Name: "orders"}}, run: removeUnread},
		{name: "remove: no such name", streams: oneDrain(), run: removeNothing},
	}, afterReopen([]reopening{
		{name: "remove: keeps a drain away", streams: twoDrains(), run: removeReopened},
	})), needRemover, needInspector)
}

// backlog leaves something of every kind with mail: two dead, one scheduled, two
// in flight, one untried, one delivered.
func (f *fixture) backlog() {
	f.Helper()
	f.fill("orders", 7)
	f.wantTake("mail", 6, 0, 1, 2, 3, 4, 5)
	f.ack("mail", 0)
	f.bury("mail", 1)
	f.bury("mail", 2)
	f.release("mail", 3, 0)
}

func (f *fixture) wantDropped(what string, drop func(context.Context, string) (int, error), name string, want int) {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := drop(ctx, name)
	if err != nil || n != want {
		f.Fatalf("%s(%s) ended %d messages, %v; want %d", what, name, n, err, want)
	}
}

func (f *fixture) dropDrain(ctx context.Context, name string) (int, error) {
	return f.Buffer.(buffer.Remover).DropDrain(ctx, name, f.now)
}

func (f *fixture) dropStream(ctx context.Context, name string) (int, error) {
	return f.Buffer.(buffer.Remover).DropStream(ctx, name, f.now)
}

// smsAlone are the streams of twoDrains without mail.
func smsAlone() []buffer.Stream {
	return []buffer.Stream{{Name: "orders", Drains: []string{"sms"}}, {Name: "logs", Drains: []string{"archive"}}}
}

func removeOrphan(f *fixture) {
	f.backlog()
	f.configure(smsAlone())
	f.wantDropped("DropDrain", f.dropDrain, "mail", 6)
	sms := buffer.Account{Stream: "orders", Drain: "sms", Accepted: 7, Buffered: 7}
	archive := buffer.Account{Stream: "logs", Drain: "archive"}
	f.wantAccounts("DropDrain of an orphaned drain", sms, archive)
	f.ack("mail", 4) // too late
	f.wantTake("sms", 9, count(0, 7)...)

	f.configure(twoDrains())
	f.wantTake("mail", 9) // new again: at the end
	f.fill("orders", 1)
	f.wantTake("mail", 9, 7)
}

// removeLong has as many messages as an engine may end in one step, and one more.
func removeLong(f *fixture) {
	for _, n := range []int{10_000, 10_001} {
		f.configure(oneDrain())
		f.fill("orders", n)
		f.configure(nil)
		f.wantDropped("DropDrain", f.dropDrain, "mail", n)
		f.wantAccounts("DropDrain of a long backlog")
		f.configure([]buffer.Stream{{Name: "orders"}})
	}
}

func removeBacklog(f *fixture) {
	f.backlog()
	f.wantDropped("DropDrain", f.dropDrain, "mail", 6)
	mail := buffer.Account{Stream: "orders", Drain: "mail", Accepted: 7, Delivered: 1, Cancelled: 6}
	sms := buffer.Account{Stream: "orders", Drain: "sms", Accepted: 7, Buffered: 7}
	archive := buffer.Account{Stream: "logs", Drain: "archive"}
	f.wantAccounts("DropDrain of a drain in use", mail, sms, archive)
	f.ack("mail", 4)
	f.wantTake("mail", 9)
	f.wantDropped("DropDrain", f.dropDrain, "mail", 0)
	f.fill("orders", 1)
	f.wantTake("mail", 9, 7)
}

func removeStream(f *fixture) {
	f.backlog()
	f.fill("logs", 1)
	f.configure([]buffer.Stream{{Name: "logs", Drains: []string{"archive"}}})
	f.wantDropped("DropStream", f.dropStream, "orders", 6+7)
	f.wantAccounts("DropStream of an orphaned stream", buffer.Account{Stream: "logs", Drain: "archive", Accepted: 1, Buffered: 1})
	for _, s := range f.inspector().Stats().Streams {
		if s.Stream == "orders" && s.Messages != 0 {
			f.Fatalf("a dropped stream still has messages: %+v", s)
		}
	}
	f.wantDropped("DropStream", f.dropStream, "logs", 1)
	f.fill("logs", 1) // it is in use, and goes on
	f.wantTake("archive", 9, 1)
}

func removeUnread(f *fixture) {
	f.fill("orders", 3)
	f.configure(nil)
	f.wantDropped("DropStream", f.dropStream, "orders", 3)
	f.configure([]buffer.Stream{{Name: "orders"}})
	f.fill("orders", 2)
	f.wantDropped("DropStream of a stream in the policy", f.dropStream, "orders", 2)
	f.configure(oneDrain())
	f.wantTake("mail", 9)
	msg := keyed(7, "a")
	a := f.append("orders", msg)
	f.wantMessages(f.takeAll("mail"), a.First, []buffer.Message{msg})
}

func removeNothing(f *fixture) {
	_, err := f.dropDrain(context.Background(), "nobody")
	f.wantErr("DropDrain of an unknown drain", err, buffer.ErrNoDrain)
	_, err = f.dropStream(context.Background(), "nothing")
	f.wantErr("DropStream of an unknown stream", err, buffer.ErrNoStream)
}

// removeReopened does not wait for anything: a removal is durable when it returns.
func removeReopened(f *fixture, crash bool) {
	f.backlog()
	f.settle()
	f.configure(smsAlone())
	f.wantDropped("DropDrain", f.dropDrain, "mail", 6)
	for range 2 {
		f.reopen(crash)
		f.wantAccounts("reopening",
			buffer.Account{Stream: "orders", Drain: "sms", Accepted: 7, Buffered: 7},
			buffer.Account{Stream: "logs", Drain: "archive"})
	}
	f.wantTake("sms", 9, count(0, 7)...)
}
