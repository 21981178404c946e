package buffertest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"forebay/buffer"
)

func searchSections() []section {
	return needing(slices.Concat([]section{
		{name: "search: find a key", streams: twoDrains(), run: searchFind},
		{name: "search: find a key far back", streams: oneDrain(), run: searchFar},
		{name: "search: cancel a key", streams: twoDrains(), run: searchCancel},
		{name: "search: no such stream", streams: oneDrain(), run: searchNothing},
	}, afterReopen([]reopening{
		{name: "search: keeps a cancelled key", streams: oneDrain(), run: searchReopened},
	})), needSearcher)
}

func (f *fixture) searcher() buffer.Searcher { return f.Buffer.(buffer.Searcher) }

func (f *fixture) wantKey(stream, key string, limit int, want ...uint64) {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	refs, err := f.searcher().FindKey(ctx, stream, key, limit)
	if err != nil {
		f.Fatalf("FindKey(%s, %s, %d): %v", stream, key, limit, err)
	}
	var got []uint64
	for _, ref := range refs {
		if ref.Stream != stream {
			f.Fatalf("FindKey(%s, %s, %d) found %v", stream, key, limit, ref)
		}
		got = append(got, ref.Offset)
	}
	if !slices.Equal(got, want) {
		f.Fatalf("FindKey(%s, %s, %d): offsets %v, want %v", stream, key, limit, got, want)
	}
}

func (f *fixture) wantCancelKey(stream, key string, want int) {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := f.searcher().CancelKey(ctx, stream, key, f.now)
	if err != nil || n != want {
		f.Fatalf("CancelKey(%s, %s): %d messages, %v; want %d", stream, key, n, err, want)
	}
}

func searchFind(f *fixture) {
	f.fillKeys("orders", "a", "b", "a", "", "a", "ab")
	f.fillKeys("logs", "a")
	f.wantKey("orders", "a", 9, 0, 2, 4)
	f.wantKey("orders", "a", 2, 0, 2)
	f.wantKey("orders", "ab", 9, 5)
	f.wantKey("orders", "c", 9)
	f.wantKey("logs", "a", 9, 0)

	f.wantTake("mail", 1, 0)
	f.wantKey("orders", "a", 9, 0, 2, 4) // in flight is unfinished
	f.ack("mail", 0)
	f.wantKey("orders", "a", 9, 0, 2, 4) // with the other drain it is not finished
	f.wantTake("sms", 1, 0)
	f.ack("sms", 0)
	f.wantKey("orders", "a", 9, 2, 4)
	f.wantTake("mail", 2, 1, 2)
	f.release("mail", 2, time.Hour)
	f.wantKey("orders", "a", 9, 2, 4)
}

// searchFar has a key at both ends of what no longer is in memory alone.
func searchFar(f *fixture) {
	const n = 48
	f.fillKeys("orders", "needle")
	for i := range n {
		f.append("orders", buffer.Message{Key: fmt.Sprint("hay-", i), Body: noise(uint64(i), 64<<10)})
	}
	f.fillKeys("orders", "needle")
	f.wantKey("orders", "needle", 9, 0, n+1)
	f.wantKey("orders", "hay-7", 9, 8)
	f.ack("mail", offsets(f.takeAll("mail"))...)
	f.settle()
	f.wantKey("orders", "hay-7", 9)
	f.wantKey("orders", "needle", 9, n+1)
}

func searchCancel(f *fixture) {
	f.fillKeys("orders", "a", "b", "a", "a", "a")
	f.wantTake("mail", 1, 0)
	f.wantTake("sms", 1, 0)
	f.ack("sms", 0)
	f.wantCancelKey("orders", "c", 0)
	f.wantCancelKey("orders", "a", 3) // the first is in flight with mail, and finished with sms
	f.wantTake("mail", 9, 1)
	f.wantTake("sms", 9, 1)
	f.wantKey("orders", "a", 9, 0)
	f.ack("mail", 0)
	f.wantKey("orders", "a", 9)
	f.wantCancelKey("orders", "a", 0)
	f.release("mail", 1, time.Hour)
	f.wantCancelKey("orders", "b", 1) // scheduled with one, in flight with the other
	f.ack("sms", 1)
	f.wantKey("orders", "b", 9)
	if f.can(needInspector) {
		f.wantAccounts("CancelKey",
			buffer.Account{Stream: "orders", Drain: "mail", Accepted: 5, Delivered: 1, Cancelled: 4},
			buffer.Account{Stream: "orders", Drain: "sms", Accepted: 5, Delivered: 2, Cancelled: 3},
			buffer.Account{Stream: "logs", Drain: "archive"})
	}
}

func searchNothing(f *fixture) {
	_, err := f.searcher().FindKey(context.Background(), "nothing", "a", 9)
	f.wantErr("FindKey in an unknown stream", err, buffer.ErrNoStream)
	_, err = f.searcher().CancelKey(context.Background(), "nothing", "a", f.now)
	f.wantErr("CancelKey in an unknown stream", err, buffer.ErrNoStream)
}

// searchReopened does not wait for anything: a cancel is durable when it returns.
func searchReopened(f *fixture, crash bool) {
	f.fillKeys("orders", "a", "b", "a")
	f.wantCancelKey("orders", "a", 2)
	f.reopen(crash)
	f.wantKey("orders", "a", 9)
	f.wantKey("orders", "b", 9, 1)
	f.wantTake("mail", 9, 1)
}
