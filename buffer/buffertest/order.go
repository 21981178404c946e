package buffertest

import (
	"fmt"
	"slices"
	"time"

	"forebay/buffer"
)

func orderSections() []section {
	expired := []capability{needExpirer}
	return slices.Concat([]section{
		{name: "order: one message of a key at a time", streams: twoDrains(), run: orderOneAtATime},
		{name: "order: a scheduled message parks its key alone", streams: oneDrain(), run: orderScheduled},
		{name: "order: a return keeps the order", streams: oneDrain(), run: orderReturned},
		{name: "order: a dead message lets its key go on", streams: oneDrain(), run: orderBuried},
		{name: "order: a cancel lets its key go on", needs: []capability{needReceipts}, streams: twoDrains(), run: orderCancelled},
		{name: "order: expiry lets its key go on", needs: expired, streams: oneDrain(), run: orderExpired},
		{name: "order: the end of a message wakes its key", streams: oneDrain(), run: orderWakes},
		{name: "order: without a key there is none", streams: oneDrain(), run: orderNoKey},
		{name: "order: keys are nothing to a drain without", streams: keylessDrain(), run: orderKeyless},
		{name: "order: a drain loses its keys", streams: oneDrain(), run: orderLosesKeys},
		{name: "order: a hot key hides nobody", streams: oneDrain(), run: orderHotKey},
		{name: "order: many keys are parked", streams: oneDrain(), run: orderManyKeys},
		{name: "order: no more than 100,000 keys are parked", needs: []capability{needInspector}, streams: oneDrain(), run: orderBound},
		{name: "order: parked keys are counted", needs: []capability{needInspector}, streams: oneDrain(), run: orderCounted},
		{name: "order: a long run without an inversion", streams: oneDrain(), run: func(f *fixture) { newOrderRun(f).run() }},
	}, afterReopen([]reopening{
		{name: "order: keeps who is first", streams: oneDrain(), run: orderReopened},
		{name: "order: there are no keys after a start either", streams: keylessDrain(), run: orderKeylessReopened},
		{name: "order: finds keys in sealed segments", streams: oneDrain(), run: orderReopenedSealed},
	}))
}

// keyed is small with a key.
func keyed(n int, key string) buffer.Message {
	msg := small(n)
	msg.Key = key
	return msg
}

// fillKeys appends one small message a key in one batch.
func (f *fixture) fillKeys(stream string, keys ...string) []buffer.Message {
	f.Helper()
	var msgs []buffer.Message
	for i, key := range keys {
		msgs = append(msgs, keyed(i, key))
	}
	f.append(stream, msgs...)
	return msgs
}

func orderOneAtATime(f *fixture) {
	want := f.fillKeys("orders", "a", "a", "b", "", "a", "")
	f.fillKeys("logs", "a")
	ds := f.wantTake("mail", 9, 0, 2, 3, 5)
	for _, d := range ds {
		f.wantMessage(d, want[d.Offset])
	}
	f.wantTake("mail", 9)
	f.wantTake("sms", 9, 0, 2, 3, 5) // each drain has its own order
	f.wantTake("archive", 9, 0)      // and each stream
	f.ack("mail", 2, 3)
	f.wantTake("mail", 9)
	f.ack("mail", 0)
	f.wantMessage(f.wantTake("mail", 9, 1)[0], want[1])
	f.ack("mail", 1)
	f.fillKeys("orders", "b", "a")
	f.wantTake("mail", 9, 4, 6)
	f.ack("mail", 4)
	f.wantTake("mail", 9, 7)
	f.ack("sms", 0)
	f.wantTake("sms", 9, 1)
}

func orderScheduled(f *fixture) {
	f.fillKeys("orders", "a", "a", "b", "b")
	f.wantTake("mail", 9, 0, 2)
	due := f.release("mail", 0, time.Minute).Due
	f.ack("mail", 2)
	ds, next := f.takeNext("mail", 9)
	if !slices.Equal(offsets(ds), []uint64{3}) || !next.Equal(due) {
		f.Fatalf("Take while the first of key a is scheduled: offsets %v, next %s; want [3], %s", offsets(ds), clock(next), clock(due))
	}
	f.now = due
	f.wantTake("mail", 9, 0)
	f.release("mail", 0, time.Second)
	f.wantTake("mail", 9)
	f.now = f.now.Add(time.Second)
	f.wantTake("mail", 9, 0)
	f.wantTake("mail", 9)
	f.ack("mail", 0)
	f.wantTake("mail", 9, 1)
}

func orderReturned(f *fixture) {
	f.fillKeys("orders", "a", "b", "a", "b")
	f.wantTake("mail", 9, 0, 1)
	f.Buffer.Return("mail", 0)
	f.wantTake("mail", 9, 0)
	f.ack("mail", 0, 1)
	f.wantTake("mail", 1, 2) // was in hand as a follower before
	f.Buffer.Return("mail", 2)
	f.wantTake("mail", 9, 2, 3)
	r := f.release("mail", 2, time.Second)
	f.now = r.Due
	f.fillKeys("orders", "a")
	f.wantTake("mail", 9, 2)
	f.Buffer.Return("mail", 2) // it stays a retry, and first
	f.wantTake("mail", 9, 2)
	f.ack("mail", 2)
	f.wantTake("mail", 9, 4)
}

func orderBuried(f *fixture) {
	f.fillKeys("orders", "a", "a", "a")
	f.wantTake("mail", 9, 0)
	f.bury("mail", 0)
	f.wantTake("mail", 9, 1)
	f.now = f.release("mail", 1, time.Second).Due
	f.wantTake("mail", 9, 1)
	f.bury("mail", 1)
	f.wantTake("mail", 9, 2)
}

func orderCancelled(f *fixture) {
	f.fillKeys("orders", "a", "a", "a", "a", "b", "b")
	f.wantTake("mail", 9, 0, 4)
	f.release("mail", 0, time.Hour)
	f.wantErr("Cancel of a follower", f.cancel(order(1)), nil)
	f.wantTake("mail", 9)
	f.wantErr("Cancel of the scheduled first", f.cancel(order(0)), nil)
	f.wantTake("mail", 9, 2)
	f.wantTake("sms", 9, 2, 4)
	f.Buffer.Return("mail", 2)
	f.wantErr("Cancel of a message returned", f.cancel(order(2)), nil) // in flight at sms
	f.wantTake("mail", 9, 3)
	f.wantTake("sms", 9)
	f.ack("sms", 2)
	f.wantTake("sms", 9, 3)
	f.wantErr("Cancel of a follower that is in flight nowhere", f.cancel(order(5)), nil)
	f.ack("mail", 4)
	f.wantTake("mail", 9)
}

func orderExpired(f *fixture) {
	f.fillKeys("orders", "a", "a", "b", "b")
	f.now = f.now.Add(time.Second)
	f.fillKeys("orders", "a", "b")
	f.wantTake("mail", 9, 0, 2)
	f.release("mail", 0, time.Hour)
	if n, _ := f.expire("mail", f.now, ""); n != 3 {
		f.Fatalf("Expire ended %d messages, want 3: the scheduled first of key a and two followers", n)
	}
	f.wantTake("mail", 9, 4)
	f.ack("mail", 2)
	f.wantTake("mail", 9, 5)
}

// orderWakes leaves no signal behind that could stand in for a missing one.
func orderWakes(f *fixture) {
	wake := f.Buffer.Wake("mail")
	steps := []struct {
		what  string
		needs capability // empty: none
		end   func(offset uint64)
	}{
		{"an ack", "", func(offset uint64) { f.ack("mail", offset) }},
		{"a bury", "", func(offset uint64) { f.bury("mail", offset) }},
		{"a cancel while scheduled", needReceipts, func(offset uint64) {
			f.release("mail", offset, time.Hour)
			pending(wake)
			f.wantErr("Cancel", f.cancel(order(offset)), nil)
		}},
		{"expiry while scheduled", needExpirer, func(offset uint64) {
			f.release("mail", offset, time.Hour)
			pending(wake)
			f.expire("mail", f.now, "")
		}},
	}
	next := uint64(0)
	for _, s := range steps {
		if s.needs != "" && !f.can(s.needs) {
			continue
		}
		f.fillKeys("orders", "a")
		f.now = f.now.Add(time.Second)
		f.fillKeys("orders", "a")
		f.wantTake("mail", 9, next)
		f.quiet(wake)
		s.end(next)
		if !signalled(wake) {
			f.Fatalf("Wake(mail) is not signalled after %s of the first message of a key", s.what)
		}
		f.wantTake("mail", 9, next+1)
		f.ack("mail", next+1)
		next += 2
	}
}

// quiet empties the slot until no signal comes late.
func (f *fixture) quiet(wake <-chan struct{}) {
	f.settle()
	for pending(wake) {
		<-time.After(time.Millisecond)
	}
}

func orderNoKey(f *fixture) {
	f.fillKeys("orders", "", "", "", "a", "a")
	f.wantTake("mail", 2, 0, 1)
	f.release("mail", 0, time.Hour)
	f.wantTake("mail", 9, 2, 3)
	f.ack("mail", 2, 1)
	f.now = f.now.Add(time.Hour)
	f.wantTake("mail", 9, 0)
}

func orderHotKey(f *fixture) {
	const hot = 3000
	keys := slices.Repeat([]string{"hot"}, hot)
	f.fillKeys("orders", append(keys, "cold", "")...)
	f.wantTake("mail", 9, 0, hot, hot+1)
	due := f.release("mail", 0, time.Minute).Due
	f.fillKeys("orders", "hot", "warm")
	f.wantTake("mail", 9, hot+3)
	f.now = due
	for offset := range uint64(hot) {
		f.wantTake("mail", 1, offset)
		f.ack("mail", offset)
	}
	f.wantTake("mail", 9, hot+2)
}

func orderManyKeys(f *fixture) {
	const n = 2000
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprint("key-", i))
	}
	f.fillKeys("orders", keys...)
	f.fillKeys("orders", keys...)
	if got := len(f.takeAll("mail")); got != n {
		f.Fatalf("took %d messages of %d keys with two messages each, want one of each", got, n)
	}
	for i := range uint64(n) {
		f.release("mail", i, time.Minute)
	}
	f.fillKeys("orders", "another")
	f.wantTake("mail", 9, 2*n)
	f.now = f.now.Add(time.Minute)
	again := f.takeAll("mail")
	f.wantOffsets("retries that came due", again, count(0, n)...)
	f.ack("mail", offsets(again)...)
	f.wantOffsets("followers after all first messages were delivered", f.takeAll("mail"), count(n, n)...)
}

func (f *fixture) wantOffsets(what string, ds []buffer.Delivery, want ...uint64) {
	f.Helper()
	if got := offsets(ds); !slices.Equal(got, want) {
		f.Fatalf("%s: offsets %v, want %v", what, got, want)
	}
}

func orderCounted(f *fixture) {
	check := func(step string, want int) {
		f.Helper()
		if got := f.drainStats("mail"); got.ParkedKeys != want || got.Blocked {
			f.Fatalf("after %s: %d keys are parked, blocked %v; want %d, not blocked", step, got.ParkedKeys, got.Blocked, want)
		}
	}
	f.fillKeys("orders", "a", "a", "b", "", "c")
	check("an append", 0)
	f.wantTake("mail", 3, 0, 2, 3)
	check("a take of two keys and of one message without", 2)
	f.release("mail", 0, time.Minute)
	check("a release", 2)
	f.ack("mail", 2, 3)
	check("an ack of the only message of a key", 1)
	f.now = f.now.Add(time.Minute)
	f.wantTake("mail", 1, 0)
	f.ack("mail", 0)
	f.wantTake("mail", 9, 1, 4)
	check("a take of two more", 2)
	f.ack("mail", 1, 4)
	check("all was acked", 0)
}

func orderReopened(f *fixture, crash bool) {
	f.fillKeys("orders", "a", "a", "b", "b", "c", "c", "", "d", "d")
	f.wantTake("mail", 9, 0, 2, 4, 6, 7)
	due := f.release("mail", 0, time.Minute).Due // a: its first is scheduled
	f.ack("mail", 2)                             // b: its first is delivered
	f.Buffer.Return("mail", 4)                   // c: its first is returned
	f.settle()                                   // d: its first is in flight
	for range 2 {
		f.reopen(crash)
		f.wantTake("mail", 9, 3, 4, 6, 7)
		f.wantTake("mail", 9)
	}
	f.now = due
	f.wantTake("mail", 9, 0)
	f.wantTake("mail", 9)
	f.ack("mail", 0, 3, 4, 7)
	f.wantTake("mail", 9, 1, 5, 8)
}

// orderReopenedSealed has followers far behind their key's first message.
func orderReopenedSealed(f *fixture, crash bool) {
	const n = 60
	keys := []string{"a", "b", "c"}
	for i := range n {
		f.append("orders", buffer.Message{Key: keys[i%len(keys)], Body: noise(uint64(i), 64<<10)})
	}
	f.wantTake("mail", 99, 0, 1, 2)
	f.ack("mail", 1, 2)
	due := f.release("mail", 0, time.Minute).Due
	f.settle()
	f.reopen(crash)
	for i := uint64(3); i < n; i += 3 {
		f.wantTake("mail", 99, i+1, i+2)
		f.ack("mail", i+1, i+2)
	}
	f.settle()
	f.reopen(crash)
	f.wantTake("mail", 99)
	f.now = due
	for i := uint64(0); i < n; i += 3 {
		f.wantTake("mail", 99, i)
		f.ack("mail", i)
	}
	f.wantTake("mail", 99)
}

// keylessDrain is a stream whose one drain takes messages whatever their keys.
func keylessDrain() []buffer.Stream {
	return []buffer.Stream{{Name: "orders", Drains: []string{"mail"}, Keyless: []string{"mail"}}}
}

func orderKeyless(f *fixture) {
	f.fillKeys("orders", "a", "a", "", "a", "b", "b")
	f.wantTake("mail", 4, 0, 1, 2, 3)
	due := f.release("mail", 0, time.Minute).Due
	f.Buffer.Return("mail", 2)
	f.Buffer.Return("mail", 1)
	f.wantTake("mail", 9, 1, 2, 4, 5)
	f.bury("mail", 1)
	f.wantTake("mail", 9)
	f.now = due
	f.wantTake("mail", 9, 0)
}

// orderLosesKeys has what follows another message of its key go on by itself.
func orderLosesKeys(f *fixture) {
	f.fillKeys("orders", "a", "a", "b", "b", "b", "a")
	f.wantTake("mail", 9, 0, 2)
	due := f.release("mail", 2, time.Minute).Due
	f.configure(keylessDrain())
	f.wantTake("mail", 9, 1, 3, 4, 5)
	f.now = due
	f.wantTake("mail", 9, 2)
	f.ack("mail", 1, 2, 3, 4, 5)
	f.Buffer.Return("mail", 0)
	f.configure(oneDrain())
	f.fillKeys("orders", "c", "c")
	f.wantTake("mail", 9, 0, 6)
	f.ack("mail", 0, 6)
	f.wantTake("mail", 9, 7)
}

func orderKeylessReopened(f *fixture, crash bool) {
	f.fillKeys("orders", "a", "a", "a", "a")
	f.wantTake("mail", 3, 0, 1, 2)
	f.release("mail", 0, time.Minute)
	f.release("mail", 1, time.Minute)
	f.ack("mail", 2)
	f.settle()
	f.reopen(crash)
	f.wantTake("mail", 9, 3)
	f.now = f.now.Add(time.Minute)
	f.wantTake("mail", 9, 0, 1)
}
