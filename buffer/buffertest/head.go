package buffertest

import (
	"slices"
	"time"

	"forebay/buffer"
)

// standings is the capability of saying where an unfinished message stands,
// without touching the disk.
type standings interface {
	Head(drain string) (buffer.Ref, bool)
	Standing(drain string, offset uint64) (buffer.DrainStatus, bool)
	Behind(drain string, offset uint64) (first uint64, ok bool)
	Backlog(drain string, n int) []buffer.Waiting
}

func headSections() []section {
	return needing([]section{
		{name: "the head is the oldest unfinished", streams: oneDrain(), run: headMoves},
		{name: "each drain has its head", streams: twoDrains(), run: headsOfDrains},
		{name: "a message is behind the one that holds its key", streams: oneDrain(), run: headOfAKey},
		{name: "a backlog is told by some of it", streams: oneDrain(), run: headBacklog},
		{name: "a replayed message is the head", needs: []capability{needDeadLetters}, streams: oneDrain(), run: headReplayed},
	}, needStandings)
}

func (f *fixture) standings() standings { return f.Buffer.(standings) }

// wantHead compares the head of a drain and where it stands.
func (f *fixture) wantHead(drain string, offset uint64, want buffer.DrainStatus) {
	f.Helper()
	ref, ok := f.standings().Head(drain)
	if want := (buffer.Ref{Stream: "orders", Offset: offset}); !ok || ref != want {
		f.Fatalf("Head(%s) = %v, %v; want %v", drain, ref, ok, want)
	}
	f.wantStanding(drain, offset, want)
}

func (f *fixture) wantStanding(drain string, offset uint64, want buffer.DrainStatus) {
	f.Helper()
	got, ok := f.standings().Standing(drain, offset)
	if !ok || got.State != want.State || !got.Due.Equal(want.Due) || got.Ahead != want.Ahead || got.Attempts != want.Attempts || got.Drain != drain {
		f.Fatalf("Standing(%s, %d) = %+v, %v; want %+v", drain, offset, got, ok, want)
	}
}

func (f *fixture) wantNoHead(drain string) {
	f.Helper()
	if ref, ok := f.standings().Head(drain); ok {
		f.Fatalf("Head(%s) = %v, want none", drain, ref)
	}
	for _, offset := range []uint64{0, 1, 1 << 40} {
		if s, ok := f.standings().Standing(drain, offset); ok {
			f.Fatalf("Standing(%s, %d) = %+v, want none", drain, offset, s)
		}
	}
}

func headMoves(f *fixture) {
	f.wantNoHead("mail")
	f.wantNoHead("nobody")
	f.fill("orders", 3)
	f.wantHead("mail", 0, buffer.DrainStatus{State: buffer.Queued})
	f.wantStanding("mail", 2, buffer.DrainStatus{State: buffer.Queued, Ahead: 2})
	f.wantTake("mail", 2, 0, 1)
	f.wantHead("mail", 0, buffer.DrainStatus{State: buffer.Delivering})
	f.wantStanding("mail", 2, buffer.DrainStatus{State: buffer.Queued})
	f.ack("mail", 1)
	f.release("mail", 0, time.Hour)
	f.wantHead("mail", 0, buffer.DrainStatus{State: buffer.Scheduled, Due: f.now.Add(time.Hour), Attempts: 1})
	f.now = f.now.Add(time.Hour)
	f.wantTake("mail", 1, 0)
	f.bury("mail", 0)
	f.wantHead("mail", 2, buffer.DrainStatus{State: buffer.Queued})
	f.wantTake("mail", 1, 2)
	f.ack("mail", 2)
	f.wantNoHead("mail")
}

func headsOfDrains(f *fixture) {
	f.fill("orders", 2)
	f.wantTake("mail", 1, 0)
	f.ack("mail", 0)
	f.wantHead("mail", 1, buffer.DrainStatus{State: buffer.Queued})
	f.wantHead("sms", 0, buffer.DrainStatus{State: buffer.Queued})
}

// wantBehind wants a message to wait for another one of its key; itself is none.
func (f *fixture) wantBehind(drain string, offset, want uint64) {
	f.Helper()
	first, ok := f.standings().Behind(drain, offset)
	if ok != (want != offset) || ok && first != want {
		f.Fatalf("Behind(%s, %d) = %d, %v; want %d", drain, offset, first, ok, want)
	}
}

func headOfAKey(f *fixture) {
	f.append("orders", keyed(0, "a"), keyed(1, "b"), keyed(2, "a"), keyed(3, ""), keyed(4, "a"))
	f.wantBehind("nobody", 0, 0)
	f.wantBehind("mail", 1<<40, 1<<40)
	f.wantTake("mail", 5, 0, 1, 3)
	for offset, first := range []uint64{0, 1, 0, 3, 0} {
		f.wantBehind("mail", uint64(offset), first)
	}
	f.release("mail", 0, time.Hour)
	f.wantBehind("mail", 4, 0)
	f.now = f.now.Add(time.Hour)
	f.wantTake("mail", 1, 0)
	f.ack("mail", 0)
	f.wantBehind("mail", 0, 0)
	f.wantTake("mail", 1, 2)
	f.wantBehind("mail", 2, 2)
	f.wantBehind("mail", 4, 2)
}

func headBacklog(f *fixture) {
	want := func(drain string, n int, want ...buffer.Waiting) {
		f.Helper()
		got := f.standings().Backlog(drain, n)
		if !slices.EqualFunc(got, want, func(a, b buffer.Waiting) bool { return a.Ahead == b.Ahead && a.AcceptedAt.Equal(b.AcceptedAt) }) {
			f.Fatalf("Backlog(%s, %d) = %v, want %v", drain, n, got, want)
		}
	}
	want("nobody", 3)
	want("mail", 3)
	first := f.now
	f.fill("orders", 2)
	f.now = f.now.Add(time.Hour)
	f.fill("orders", 3)
	second := f.now
	want("mail", 3, buffer.Waiting{AcceptedAt: first}, buffer.Waiting{Ahead: 2, AcceptedAt: second}, buffer.Waiting{Ahead: 4, AcceptedAt: second})
	want("mail", 1, buffer.Waiting{AcceptedAt: first})
	f.wantTake("mail", 3, 0, 1, 2)
	f.ack("mail", 0)
	f.ack("mail", 2)
	want("mail", 9, buffer.Waiting{AcceptedAt: first}, buffer.Waiting{AcceptedAt: second}, buffer.Waiting{Ahead: 1, AcceptedAt: second})
	f.wantTake("mail", 3, 3, 4)
	for _, offset := range []uint64{1, 3, 4} {
		f.ack("mail", offset)
	}
	want("mail", 9)
}

func headReplayed(f *fixture) {
	f.fill("orders", 2)
	f.wantTake("mail", 2, 0, 1)
	f.bury("mail", 0)
	f.wantHead("mail", 1, buffer.DrainStatus{State: buffer.Delivering})
	f.replay("mail", 0)
	ref, ok := f.standings().Head("mail")
	if want := (buffer.Ref{Stream: "orders"}); !ok || ref != want {
		f.Fatalf("Head after a replay = %v, %v; want %v", ref, ok, want)
	}
}
