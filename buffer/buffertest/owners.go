package buffertest

import (
	"time"

	"forebay/buffer"
)

// ownerSections hold a buffer to telling whose a message is for as long as it has a
// receipt.
func ownerSections() []section {
	list := needing([]section{
		{name: "owners", streams: twoDrains(), run: owners},
		{name: "owners of many at once", streams: oneDrain(), run: ownersOfMany},
		{name: "owners outlive their messages", needs: []capability{needHousekeep}, streams: deadHour(), run: ownersOutlive},
	}, needReceipts)
	return append(list, afterReopen([]reopening{
		{name: "keeps owners", streams: oneDrain(), run: ownersReopened, needs: []capability{needReceipts}},
	})...)
}

// owned is one that belongs to somebody, with a body that does not compress.
func owned(n, size int, principal string) buffer.Message {
	return buffer.Message{Body: noise(uint64(n), size), Owner: buffer.OwnerOf(principal)}
}

// ownTen appends ten of them, large enough that segments roll.
func (f *fixture) ownTen(from int, principal func(i int) string) {
	f.Helper()
	var msgs []buffer.Message
	for i := from; i < from+10; i++ {
		msgs = append(msgs, owned(i, 64<<10, principal(i)))
	}
	f.append("orders", msgs...)
}

func (f *fixture) wantOwner(offset uint64, principal string) {
	f.Helper()
	got, err := f.receipts().Owner(order(offset))
	if want := buffer.OwnerOf(principal); err != nil || got != want {
		f.Fatalf("Owner of offset %d is %d, %v; want %d, of %q", offset, got, err, want, principal)
	}
}

func owners(f *fixture) {
	f.append("orders", owned(0, 100, "web"), owned(1, 100, "web"), small(2), owned(3, 100, "app"))
	f.append("orders", small(4))
	f.append("orders", owned(5, 100, "app"))
	f.append("logs", owned(0, 100, "logger"))
	check := func() {
		f.Helper()
		for offset, principal := range []string{"web", "web", "", "app", "", "app"} {
			f.wantOwner(uint64(offset), principal)
		}
		if got, err := f.receipts().Owner(buffer.Ref{Stream: "logs"}); err != nil || got != buffer.OwnerOf("logger") {
			f.Fatalf("Owner in another stream is %d, %v", got, err)
		}
	}
	check()
	for _, d := range f.takeAll("mail") {
		if d.Owner != 0 {
			f.Fatalf("offset %d was taken with its owner", d.Offset)
		}
		f.ack("mail", d.Offset)
	}
	f.takeAll("sms")
	f.ack("sms", count(0, 6)...)
	f.settle()
	check()
	for _, ref := range []buffer.Ref{order(6), {Stream: "nothing"}} {
		_, err := f.receipts().Owner(ref)
		f.wantErr("Owner of what was never stored", err, buffer.ErrNoMessage)
	}
}

// ownersOfMany: in one append, larger than a block, and so many that they are packed.
func ownersOfMany(f *fixture) {
	const n = 10_000
	msgs := make([]buffer.Message, n)
	principal := func(i int) string { return []string{"web", "app", "", "web"}[i/3%4] }
	for i := range msgs {
		msgs[i] = owned(i, 64, principal(i))
	}
	f.append("orders", msgs...)
	for i := 0; i < n; i += 41 {
		f.wantOwner(uint64(i), principal(i))
	}
}

func ownersOutlive(f *fixture) {
	const n = 60
	for i := 0; i < n; i += 10 {
		f.ownTen(i, func(i int) string { return []string{"web", "app"}[i%2] }) // 4 MiB in all
	}
	check := func() {
		f.Helper()
		for i := range n {
			f.wantOwner(uint64(i), []string{"web", "app"}[i%2])
		}
	}
	ds := f.takeAll("mail")
	for _, d := range ds[2:] {
		f.ack("mail", d.Offset)
	}
	f.bury("mail", 1)
	f.settle()
	f.now = f.now.Add(90 * time.Minute)
	f.Housekeep(f.now) // 0 is unfinished, 1 is dead: theirs is known
	f.wantOwner(0, "web")
	f.wantOwner(1, "app")
	f.ack("mail", 0)
	f.settle()
	f.Housekeep(f.now)
	f.now = f.now.Add(time.Minute)
	f.Housekeep(f.now)
	check()
}

func ownersReopened(f *fixture, crash bool) {
	const n = 60
	for i := 0; i < n; i += 10 {
		f.ownTen(i, func(i int) string { return []string{"web", "app", ""}[i%3] })
	}
	check := func() {
		f.Helper()
		for i := range n {
			f.wantOwner(uint64(i), []string{"web", "app", ""}[i%3])
		}
	}
	f.reopen(crash)
	check()
	f.takeAll("mail")
	f.ack("mail", count(0, n)...)
	f.settle()
	check()
	f.reopen(crash)
	check()
}
