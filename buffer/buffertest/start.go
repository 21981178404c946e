package buffertest

import (
	"slices"

	"forebay/buffer"
)

func startSections() []section {
	return slices.Concat([]section{
		{name: "the first drain of a stream gets all", streams: []buffer.Stream{{Name: "orders"}}, run: startFirst},
		{name: "a new drain starts at the oldest", streams: oneDrain(), run: startOldest},
	}, afterReopen([]reopening{
		{name: "a first drain gets all", streams: []buffer.Stream{{Name: "orders"}}, run: func(f *fixture, crash bool) {
			want := f.fill("orders", 5)
			f.reopen(crash)
			f.configure(oneDrain())
			f.reopen(crash)
			f.wantMessages(f.takeAll("mail"), 0, want)
		}},
		{name: "a drain keeps its start at the oldest", streams: oneDrain(), run: startOldestReopened},
	}))
}

func startFirst(f *fixture) {
	want := f.fill("orders", 5)
	if f.can(needInspector) {
		f.wantStreamStats("appends without a drain", buffer.StreamStats{Stream: "orders", Messages: 5, Accepted: 5, Oldest: f.now})
	}
	f.configure(oneDrain())
	f.wantMessages(f.takeAll("mail"), 0, want)
	f.ack("mail", count(0, 5)...)
	if f.can(needInspector) {
		f.wantAccounts("the first drain finished all", buffer.Account{Stream: "orders", Drain: "mail", Accepted: 5, Delivered: 5})
		f.wantStreamStats("the first drain finished all", buffer.StreamStats{Stream: "orders", Accepted: 5})
	}
}

// fromOldest adds a drain that starts at the oldest message kept.
func fromOldest() []buffer.Stream {
	return []buffer.Stream{{Name: "orders", Drains: []string{"mail", "sms"}, FromOldest: []string{"sms"}}}
}

func startOldest(f *fixture) {
	want := f.fill("orders", 6)
	f.take("mail", 9)
	f.ack("mail", 0, 1, 3)
	f.settle()
	f.configure(fromOldest())
	f.wantFromOldest("sms", 2, want)
	f.wantTake("mail", 9) // the others are in its hands
	f.configure(fromOldest())
	f.wantTake("sms", 9) // it is not new any more
}

// wantFromOldest wants all messages from the oldest unfinished one on, and maybe
// some that are kept before it.
func (f *fixture) wantFromOldest(drain string, oldest uint64, want []buffer.Message) {
	f.Helper()
	ds := f.takeAll(drain)
	if len(ds) == 0 || ds[0].Offset > oldest {
		f.Fatalf("a new drain from the oldest got offsets %v, want them from %d on", offsets(ds), oldest)
	}
	f.wantMessages(ds, ds[0].Offset, want[ds[0].Offset:])
	f.ack(drain, offsets(ds)...)
	f.checkLedger()
}

func startOldestReopened(f *fixture, crash bool) {
	want := f.fill("orders", 6)
	f.take("mail", 9)
	f.ack("mail", 0, 1, 3)
	f.settle()
	f.configure(fromOldest())
	f.reopen(crash)
	f.wantFromOldest("sms", 2, want)
	f.settle()
	f.reopen(crash)
	f.wantTake("sms", 9)
	f.wantTake("mail", 9, 2, 4, 5)
}
