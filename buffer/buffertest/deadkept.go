package buffertest

import (
	"time"

	"forebay/buffer"
)

// deadHour keeps the dead of one stream for an hour, those of the other for 14 days.
func deadHour() []buffer.Stream {
	streams := twoDrains()
	streams[0].DeadKeep = time.Hour
	return streams
}

func deadKept(f *fixture) {
	f.fill("orders", 3)
	f.fill("logs", 1)
	f.takeBury("mail", 0, 1)
	f.takeBury("archive", 0)
	f.now = f.now.Add(time.Minute)
	f.takeBury("mail", 2)

	f.Housekeep(f.now.Add(time.Hour - time.Minute)) // as old as allowed
	f.wantDead("mail", 0, 1, 2)
	changed, stop := f.receipts().Watch(order(0))
	defer stop()
	f.now = f.now.Add(time.Hour)
	f.Housekeep(f.now)
	f.wantDead("mail", 2)
	f.wantDead("archive", 0)
	if !signalled(changed) {
		f.Fatal("Watch did not fire when a dead letter expired")
	}
	if got := f.find(order(0)).Drains[0]; got.State != buffer.Expired || !got.At.Equal(f.now) || got.Reason != "" {
		f.Fatalf("a dead letter past its time is %+v, want expired at %s", got, clock(f.now))
	}
	f.wantAccounts("dead letters expired",
		buffer.Account{Stream: "orders", Drain: "mail", Accepted: 3, Expired: 2, Dead: 1},
		buffer.Account{Stream: "orders", Drain: "sms", Accepted: 3, Buffered: 3},
		buffer.Account{Stream: "logs", Drain: "archive", Accepted: 1, Dead: 1})
	f.Housekeep(f.now.Add(15 * 24 * time.Hour))
	f.wantDead("archive")
}
