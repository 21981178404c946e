package buffertest

import (
	"slices"
	"time"

	"forebay/buffer"
)

func cancelSections() []section {
	return needing(slices.Concat([]section{
		{name: "cancel keys: several of a message", streams: oneDrain(), run: cancelSeveral},
		{name: "cancel keys: come back as they were given", streams: oneDrain(), run: cancelRoundTrip},
		{name: "cancel keys: the empty one is nobody's", streams: oneDrain(), run: cancelEmpty},
		{name: "cancel keys: attempts under way are the last", needs: []capability{needReceipts}, streams: twoDrains(), run: cancelInFlight},
		{name: "cancel keys: the end of an attempt lets its key go on", streams: oneDrain(), run: cancelKeyGoesOn},
	}, afterReopen([]reopening{
		{name: "cancel keys: keeps what was cancelled in flight", needs: []capability{needInspector}, streams: oneDrain(), run: cancelInFlightReopened},
		{name: "cancel keys: keeps a retry cancelled in flight", streams: oneDrain(), run: cancelRetryReopened},
		{name: "cancel keys: finds them in sealed segments", streams: oneDrain(), run: cancelFar},
	})), needSearcher)
}

// cancellable is keyed with cancel keys.
func cancellable(n int, key string, cancel ...string) buffer.Message {
	msg := keyed(n, key)
	msg.CancelKeys = cancel
	return msg
}

func cancelSeveral(f *fixture) {
	f.append("orders",
		cancellable(0, "c1", "sku-1", "sku-2"),
		cancellable(1, "c1", "sku-2"),
		keyed(2, "sku-2"),
		cancellable(3, "sku-2", "sku-3"), // its ordering key is no cancel key then
		cancellable(4, "", "sku-2"),
		cancellable(5, "c2", []string{}...),
		keyed(6, "c2"))
	f.wantKey("orders", "sku-2", 9, 2, 3) // found by ordering key alone
	f.wantCancelKey("orders", "sku-1", 1)
	f.wantCancelKey("orders", "sku-1", 0)
	f.wantCancelKey("orders", "sku-2", 3)
	f.wantKey("orders", "c1", 9)
	f.wantCancelKey("orders", "c1", 0)
	f.wantTake("mail", 9, 3, 5)
	f.ack("mail", 3, 5)
	f.wantTake("mail", 9, 6)
}

// cancelRoundTrip has every mix of what a record may end with: none is taken
// for another.
func cancelRoundTrip(f *fixture) {
	var want []buffer.Message
	for _, key := range []string{"", "a"} {
		for _, keep := range []int{0, 512} {
			for _, cancel := range [][]string{nil, {}, {"x"}, {"x", "", "z"}} {
				msg := cancellable(len(want), key, cancel...)
				msg.CancelKeys, msg.KeepAnswer = cancel, keep
				want = append(want, msg)
			}
		}
	}
	f.append("orders", want...)
	for range want {
		for _, d := range f.take("mail", 99) {
			f.wantMessage(d, want[d.Offset])
			if nilled := want[d.Offset].CancelKeys == nil; nilled != (d.CancelKeys == nil) {
				f.Fatalf("offset %d has cancel keys %#v, want %#v", d.Offset, d.CancelKeys, want[d.Offset].CancelKeys)
			}
			f.ack("mail", d.Offset)
		}
	}
}

func cancelEmpty(f *fixture) {
	f.append("orders", keyed(0, ""), keyed(1, "a"), cancellable(2, "", ""), cancellable(3, "b", []string{}...))
	f.wantKey("orders", "", 9)
	f.wantCancelKey("orders", "", 0)
	f.wantTake("mail", 9, 0, 1, 2, 3)
}

// cancelInFlight ends attempts in every way after a cancel.
func cancelInFlight(f *fixture) {
	f.fillKeys("orders", "a", "a", "a", "a")
	for range 4 {
		f.append("orders", cancellable(4, "", "a")) // without a key all can be in flight
	}
	for offset := range uint64(3) {
		f.wantTake("sms", 1, offset)
		f.ack("sms", offset)
	}
	f.wantTake("sms", 1, 3)
	f.wantTake("mail", 9, 0, 4, 5, 6, 7)
	cancelled := f.now
	f.wantCancelKey("orders", "a", 7) // all but offset 0, which waits nowhere
	f.now = f.now.Add(time.Minute)
	f.wantCancelKey("orders", "a", 0)
	f.wantErr("Cancel of what is in flight", f.cancel(order(3)), buffer.ErrDelivering)

	f.ack("mail", 0)
	f.release("mail", 4, time.Second)
	f.bury("mail", 5)
	f.Buffer.Return("mail", 6)
	f.wantStates(map[uint64]buffer.State{0: buffer.Delivered, 4: buffer.Cancelled, 5: buffer.Cancelled, 6: buffer.Cancelled, 7: buffer.Delivering})
	for offset, at := range map[uint64]time.Time{4: cancelled, 5: f.now, 6: cancelled} {
		if got := f.find(order(offset)).Drains[0]; !got.At.Equal(at) || got.Reason != "" {
			f.Fatalf("offset %d ended as %+v, want at %s, without a reason", offset, got, clock(at))
		}
	}
	f.ack("mail", 7)
	f.ack("sms", 3)
	f.now = f.now.Add(time.Hour)
	f.wantTake("mail", 9)
	f.wantTake("sms", 9)
	if f.can(needInspector) {
		f.wantAccounts("cancels in flight",
			buffer.Account{Stream: "orders", Drain: "mail", Accepted: 8, Delivered: 2, Cancelled: 6},
			buffer.Account{Stream: "orders", Drain: "sms", Accepted: 8, Delivered: 4, Cancelled: 4},
			buffer.Account{Stream: "logs", Drain: "archive"})
	}
}

// wantStates compares how messages stand with the first drain.
func (f *fixture) wantStates(want map[uint64]buffer.State) {
	f.Helper()
	for offset, state := range want {
		if got := f.find(order(offset)).Drains[0].State; got != state {
			f.Fatalf("offset %d is %s, want %s", offset, got, state)
		}
	}
}

func cancelKeyGoesOn(f *fixture) {
	f.append("orders", cancellable(0, "a", "x"), keyed(1, "a"), cancellable(2, "a", "x"), keyed(3, "a"))
	f.wantTake("mail", 9, 0)
	f.wantCancelKey("orders", "x", 1)
	f.wantTake("mail", 9) // its attempt goes on, and its key waits for it
	f.quiet(f.Buffer.Wake("mail"))
	f.release("mail", 0, time.Hour)
	if !signalled(f.Buffer.Wake("mail")) {
		f.Fatalf("Wake(mail) is not signalled when an attempt after a cancel ends")
	}
	f.wantTake("mail", 9, 1)
	f.ack("mail", 1)
	f.wantTake("mail", 9, 3)
}

// cancelInFlightReopened does not wait: a cancel is durable when it returns, of
// attempts that are under way too.
func cancelInFlightReopened(f *fixture, crash bool) {
	f.fillKeys("orders", "a", "a", "b")
	f.wantTake("mail", 9, 0, 2)
	f.wantCancelKey("orders", "a", 1)
	f.wantCancelKey("orders", "b", 0)
	for range 2 {
		f.reopen(crash)
		f.wantAccounts("reopening", buffer.Account{Stream: "orders", Drain: "mail", Accepted: 3, Cancelled: 3})
		f.wantTake("mail", 9)
	}
	f.wantState(0, buffer.Cancelled)
	f.fillKeys("orders", "a")
	f.wantTake("mail", 9, 3)
}

// cancelRetryReopened has the cancel go through a snapshot where segments are small.
func cancelRetryReopened(f *fixture, crash bool) {
	f.fillKeys("orders", "a", "a")
	f.wantTake("mail", 9, 0)
	f.now = f.release("mail", 0, time.Minute).Due
	f.wantTake("mail", 9, 0)
	f.wantCancelKey("orders", "a", 1)
	f.fillNoise(24, 64<<10)
	f.reopen(crash)
	f.wantTake("mail", 99, count(2, 24)...)
	f.wantKey("orders", "a", 9)
}

// cancelFar has a cancel key at both ends of what no longer is in memory alone.
func cancelFar(f *fixture, crash bool) {
	f.append("orders", cancellable(0, "", "needle"))
	f.fillNoise(48, 64<<10)
	f.append("orders", cancellable(49, "c", "hay", "needle"))
	f.reopen(crash)
	f.wantCancelKey("orders", "needle", 2)
	f.reopen(crash)
	f.wantCancelKey("orders", "needle", 0)
	f.wantTake("mail", 99, count(1, 48)...)
}
