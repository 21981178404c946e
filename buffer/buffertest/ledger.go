package buffertest

import (
	"context"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"forebay/buffer"
)

func ledgerSections() []section {
	return needing([]section{
		{name: "the ledger balances after every step", streams: twoDrains(), run: ledgerSteps},
		{name: "stats count what the ledger counts", streams: twoDrains(), run: statsSteps},
		{name: "stats: when the last retry is due", streams: oneDrain(), run: lastDue},
		{name: "the ledger of a new drain begins where it starts", streams: oneDrain(), run: ledgerNewDrain},
		{name: "bytes of a stream fall to zero", streams: twoDrains(), run: streamBytes},
	}, needInspector)
}

// audit returns the accounts by drain.
func (f *fixture) audit() map[string]buffer.Account {
	f.Helper()
	list, err := f.inspector().Audit(context.Background())
	if err != nil {
		f.Fatalf("Audit: %v", err)
	}
	accounts := make(map[string]buffer.Account, len(list))
	for _, a := range list {
		accounts[a.Drain] = a
	}
	if len(accounts) != len(list) {
		f.Fatalf("Audit names a drain twice: %+v", list)
	}
	return accounts
}

// checkLedger compares the audit with the stats, and wants it to balance.
func (f *fixture) checkLedger() {
	f.Helper()
	if _, ok := f.Buffer.(buffer.Inspector); !ok {
		return
	}
	accounts := f.audit()
	drains := f.inspector().Stats().Drains
	if len(drains) != len(accounts) {
		f.Fatalf("Stats lists %d drains, Audit %d: %+v, %+v", len(drains), len(accounts), drains, accounts)
	}
	for _, d := range drains {
		a := accounts[d.Drain]
		if a.Imbalance() != 0 {
			f.Fatalf("imbalance of %s is %d: %+v", d.Drain, a.Imbalance(), a)
		}
		want := buffer.Account{
			Stream:    d.Stream,
			Drain:     d.Drain,
			Accepted:  a.Accepted,
			Delivered: d.Delivered,
			Expired:   d.Expired,
			Cancelled: d.Cancelled,
			Buffered:  d.Pending + d.InFlight + d.Scheduled,
		}
		for _, n := range d.Dead {
			want.Dead += n
		}
		if diff := differ(want, a); diff != "" {
			f.Fatalf("%s: Stats and Audit differ (-stats +audit):\n%s", d.Drain, diff)
		}
	}
}

// wantAccounts compares the whole audit, given in the order of the streams.
func (f *fixture) wantAccounts(step string, want ...buffer.Account) {
	f.Helper()
	got := f.audit()
	if len(got) != len(want) {
		f.Fatalf("after %s: %d accounts, want %d: %+v", step, len(got), len(want), got)
	}
	for _, w := range want {
		if diff := differ(w, got[w.Drain]); diff != "" {
			f.Fatalf("after %s: account of %s (-want +got):\n%s", step, w.Drain, diff)
		}
	}
	f.checkLedger()
}

func ledgerSteps(f *fixture) {
	mail := buffer.Account{Stream: "orders", Drain: "mail"}
	sms := buffer.Account{Stream: "orders", Drain: "sms"}
	archive := buffer.Account{Stream: "logs", Drain: "archive"}
	check := func(step string) {
		f.Helper()
		f.wantAccounts(step, mail, sms, archive)
	}
	check("nothing")

	f.fill("orders", 10)
	mail.Accepted, mail.Buffered = 10, 10
	sms = buffer.Account{Stream: "orders", Drain: "sms", Accepted: 10, Buffered: 10}
	check("an append")
	f.fill("logs", 1)
	archive.Accepted, archive.Buffered = 1, 1
	check("an append to another stream")

	f.wantTake("mail", 6, 0, 1, 2, 3, 4, 5)
	check("a take")
	f.ack("mail", 0, 4)
	mail.Delivered, mail.Buffered = 2, 8
	check("two acks")
	f.ack("mail", 0)
	check("a second ack of the same message")
	f.release("mail", 1, time.Second)
	check("a release")
	f.Buffer.Return("mail", 2)
	check("a return")
	f.bury("mail", 3)
	mail.Dead, mail.Buffered = 1, 7
	check("a bury")
	f.ack("mail", 3)
	check("an ack of a dead message")
	f.settle()
	check("all was settled")

	if _, ok := f.Buffer.(buffer.Receipts); ok {
		f.wantErr("Cancel", f.cancel(order(5)), nil) // in flight with one
		sms.Cancelled, sms.Buffered = 1, 9
		check("a cancel with one of two drains")
		f.wantErr("Cancel", f.cancel(order(1)), nil) // scheduled
		mail.Cancelled, mail.Buffered = 1, 6
		sms.Cancelled, sms.Buffered = 2, 8
		check("a cancel with both drains")
	}
	f.fill("orders", 5)
	mail.Accepted += 5
	mail.Buffered += 5
	sms.Accepted += 5
	sms.Buffered += 5
	check("another append")
}

// drainStats returns the stats of a drain without zero counts of dead.
func (f *fixture) drainStats(drain string) buffer.DrainStats {
	f.Helper()
	for _, d := range f.inspector().Stats().Drains {
		if d.Drain == drain {
			return trim(d)
		}
	}
	f.Fatalf("Stats has no drain %s", drain)
	return buffer.DrainStats{}
}

func trim(d buffer.DrainStats) buffer.DrainStats {
	dead := make(map[buffer.Reason]uint64)
	for why, n := range d.Dead {
		if n > 0 {
			dead[why] = n
		}
	}
	d.Dead = dead
	return d
}

func (f *fixture) wantDrainStats(step string, want buffer.DrainStats) {
	f.Helper()
	got := f.drainStats(want.Drain)
	got.Buried = nil // that it never goes down is looked at by itself
	if diff := differ(want, got, cmpopts.EquateEmpty()); diff != "" {
		f.Fatalf("after %s: stats of %s (-want +got):\n%s", step, want.Drain, diff)
	}
}

func (f *fixture) streamStats(stream string) buffer.StreamStats {
	f.Helper()
	list := f.inspector().Stats().Streams
	i := slices.IndexFunc(list, func(s buffer.StreamStats) bool { return s.Stream == stream })
	if i < 0 {
		f.Fatalf("Stats has no stream %s", stream)
	}
	return list[i]
}

func (f *fixture) wantStreamStats(step string, want buffer.StreamStats) {
	f.Helper()
	got := f.streamStats(want.Stream)
	got.Bytes = 0 // its encoding is the engine's
	if diff := differ(want, got); diff != "" {
		f.Fatalf("after %s: stats of stream %s (-want +got):\n%s", step, want.Stream, diff)
	}
}

func statsSteps(f *fixture) {
	start := f.now
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
	for n := range 6 {
		f.now = at(n)
		f.fill("orders", 1)
	}
	orders := buffer.StreamStats{Stream: "orders", Messages: 6, Accepted: 6, Oldest: start}
	mail := buffer.DrainStats{Drain: "mail", Stream: "orders", Pending: 6, Oldest: start}
	sms := mail
	sms.Drain = "sms"
	check := func(step string) {
		f.Helper()
		f.wantStreamStats(step, orders)
		f.wantDrainStats(step, mail)
		f.wantDrainStats(step, sms)
		f.wantStreamStats(step, buffer.StreamStats{Stream: "logs"})
		f.wantDrainStats(step, buffer.DrainStats{Drain: "archive", Stream: "logs"})
	}
	check("six appends")

	f.wantTake("mail", 5, 0, 1, 2, 3, 4)
	mail.Pending, mail.InFlight = 1, 5
	check("a take")
	f.ack("mail", 1)
	mail.InFlight, mail.Delivered = 4, 1
	check("an ack of the second")
	f.ack("mail", 0)
	mail.InFlight, mail.Delivered, mail.Oldest = 3, 2, at(2)
	check("an ack of the first")
	mail.LastDue = f.release("mail", 2, time.Minute).Due
	mail.InFlight, mail.Scheduled = 2, 1
	check("a release")
	f.Buffer.Return("mail", 3)
	mail.InFlight, mail.Pending = 1, 2
	check("a return")
	f.bury("mail", 4)
	mail.InFlight, mail.Dead = 0, map[buffer.Reason]uint64{buffer.ReasonPermanent: 1}
	check("a bury")

	f.wantTake("sms", 2, 0, 1)
	f.ack("sms", 0)
	f.Buffer.Bury("sms", 1, buffer.ReasonMaxAge, buffer.Result{At: f.now, Attempts: 3})
	sms.Pending, sms.Delivered, sms.Oldest = 4, 1, at(2)
	sms.Dead = map[buffer.Reason]uint64{buffer.ReasonMaxAge: 1}
	orders.Messages, orders.Oldest = 4, at(2)
	check("the other drain finished two")
}

func ledgerNewDrain(f *fixture) {
	f.fill("orders", 3)
	f.configure([]buffer.Stream{{Name: "orders", Drains: []string{"mail", "sms"}}})
	mail := buffer.Account{Stream: "orders", Drain: "mail", Accepted: 3, Buffered: 3}
	sms := buffer.Account{Stream: "orders", Drain: "sms"}
	f.wantAccounts("a drain was added", mail, sms)
	f.fill("orders", 2)
	mail.Accepted, mail.Buffered = 5, 5
	sms.Accepted, sms.Buffered = 2, 2
	f.wantAccounts("an append to both", mail, sms)
	f.ack("sms", offsets(f.takeAll("sms"))...)
	sms.Delivered, sms.Buffered = 2, 0
	f.wantAccounts("the new drain finished all", mail, sms)
}

func streamBytes(f *fixture) {
	f.append("orders", buffer.Message{Body: noise(1, 100_000)})
	f.append("orders", buffer.Message{Body: noise(2, 100_000)})
	if got := f.streamStats("orders").Bytes; got < 200_000 || got > 300_000 {
		f.Fatalf("bytes of two messages of 100,000 bytes that do not compress: %d", got)
	}
	for _, drain := range []string{"mail", "sms"} {
		if got := f.streamStats("orders").Bytes; got < 200_000 {
			f.Fatalf("bytes are %d before %s has taken", got, drain)
		}
		f.ack(drain, offsets(f.takeAll(drain))...)
	}
	f.settle()
	f.eventually("bytes of a finished stream are 0", func() bool { return f.streamStats("orders").Bytes == 0 })
}
