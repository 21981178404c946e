package buffertest

import (
	"context"
	"slices"

	"forebay/buffer"
)

func liveSections() []section {
	list := []section{
		{name: "live: a key's messages wait for its requests", streams: twoDrains(), run: liveHolds},
		{name: "live: nothing passes what is unfinished of its key", streams: oneDrain(), run: liveRefused},
		{name: "live: what is unfinished again, or for a new drain", needs: []capability{needDeadLetters}, streams: oneDrain(), run: liveRevived},
		{name: "live: without a key nothing waits", streams: oneDrain(), run: liveNoKey},
		{name: "live: what ends while it waits lets the next wait", needs: []capability{needReceipts}, streams: oneDrain(), run: liveCancelled},
		{name: "live: found by key beside cancel keys, alone and in a batch", streams: oneDrain(), run: liveCancelKeys},
	}
	return needing(append(list, afterReopen([]reopening{
		{name: "live: nothing passes what a restart found", streams: oneDrain(), run: liveReopened},
	})...), needLive)
}

// beginLive asks about a key of orders, and fails where the answer is another one.
func (f *fixture) beginLive(key string, want bool) buffer.Passage {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	passage, err := f.Buffer.(buffer.Live).BeginLive(ctx, "orders", key)
	if err != nil || (passage != nil) != want {
		f.Fatalf("BeginLive(orders, %q) lets pass: %v, %v; want %v", key, passage != nil, err, want)
	}
	return passage
}

func liveHolds(f *fixture) {
	first := f.beginLive("a", true)
	second := f.beginLive("a", true) // the order of these two is theirs
	f.fillKeys("orders", "a", "b", "a")
	f.wantTake("mail", 9, 1)
	f.beginLive("a", false) // it would overtake
	if first.Clear() || second.Clear() {
		f.Fatal("Clear after an append of the key, want that something is in the way")
	}
	first.End()
	f.wantTake("mail", 9)
	wake := f.Buffer.Wake("mail")
	pending(wake)
	second.End()
	if !signalled(wake) {
		f.Fatal("the end of the last request of a key does not wake the drain")
	}
	f.wantTake("mail", 9, 0)
	f.wantTake("sms", 9, 0, 1)
	f.ack("mail", 0)
	f.wantTake("mail", 9, 2)
}

func liveRefused(f *fixture) {
	f.fillKeys("orders", "a", "a")
	f.beginLive("a", false)
	f.wantTake("mail", 1, 0)
	f.beginLive("a", false) // in flight is not finished
	f.now = f.release("mail", 0, 0).Due
	f.beginLive("a", false)
	f.wantTake("mail", 1, 0)
	f.bury("mail", 0)
	f.beginLive("a", false)
	f.wantTake("mail", 1, 1)
	f.ack("mail", 1)
	f.beginLive("a", true).End()
	f.fillKeys("orders", "b")
	f.beginLive("a", true).End()
	if _, err := f.Buffer.(buffer.Live).BeginLive(context.Background(), "nothing", "a"); err == nil {
		f.Fatal("BeginLive of an unknown stream has no error")
	}
}

// liveRevived: what was seen of a key is not taken for what is.
func liveRevived(f *fixture) {
	f.fillKeys("orders", "z", "a", "a")
	f.wantTake("mail", 9, 0, 1)
	f.beginLive("a", false)
	f.bury("mail", 1)
	f.beginLive("a", false)
	f.wantTake("mail", 9, 2)
	f.ack("mail", 2)
	for range 2 {
		f.beginLive("a", true).End() // z is still in flight
	}
	if n := f.replay("mail", 1); n != 1 {
		f.Fatalf("Replay counts %d messages, want 1", n)
	}
	f.beginLive("a", false)
	f.wantTake("mail", 9, 1)
	f.ack("mail", 1)
	f.beginLive("a", true).End()
	streams := slices.Clone(f.streams)
	streams[0].Drains = append(slices.Clone(streams[0].Drains), "late")
	streams[0].FromOldest = []string{"late"}
	f.configure(streams)
	f.beginLive("a", false)
}

func liveNoKey(f *fixture) {
	passage := f.beginLive("", true)
	f.fillKeys("orders", "", "a")
	if !passage.Clear() {
		f.Fatal("without a key something is in the way")
	}
	f.beginLive("", true).End()
	f.wantTake("mail", 9, 0, 1)
	passage.End()
}

func liveCancelled(f *fixture) {
	passage := f.beginLive("a", true)
	f.fillKeys("orders", "a", "a", "a")
	f.wantTake("mail", 9)
	f.wantErr("Cancel", f.cancel(buffer.Ref{Stream: "orders", Offset: 0}), nil)
	f.wantTake("mail", 9)
	passage.End()
	f.wantTake("mail", 9, 1)
	f.Buffer.Return("mail", 1)
	f.wantTake("mail", 9, 1)
}

// liveCancelKeys: a message with cancel keys of its own is filed otherwise, and a
// large batch takes another way.
func liveCancelKeys(f *fixture) {
	msg := keyed(0, "a")
	msg.CancelKeys = []string{"b"}
	large := keyed(1, "b")
	large.Body = noise(1, 200<<10)
	endA, endB := f.beginLive("a", true), f.beginLive("b", true)
	f.append("orders", msg)
	f.append("orders", large, large)
	f.wantTake("mail", 9)
	f.beginLive("a", false)
	f.beginLive("b", false)
	endB.End()
	f.wantTake("mail", 9, 1)
	endA.End()
	f.wantTake("mail", 9, 0)
}

func liveReopened(f *fixture, crash bool) {
	f.fillKeys("orders", "a", "b")
	f.fillNoise(24, 64<<10) // seals its segment where segments are small
	f.reopen(crash)
	f.beginLive("a", false)
	f.beginLive("c", true).End()
	f.ack("mail", offsets(f.takeAll("mail"))...)
	f.beginLive("a", true).End()
}
