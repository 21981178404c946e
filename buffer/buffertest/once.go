package buffertest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"forebay/buffer"
)

func onceSections() []section {
	return needing(slices.Concat([]section{
		{name: "once: sent again within the ttl", streams: oneDrain(), run: onceReplayed},
		{name: "once: sent again after the ttl", streams: oneDrain(), run: onceAfterTTL},
		{name: "once: another request with the same key", streams: oneDrain(), run: onceMismatch},
		{name: "once: other scopes and streams", streams: twoDrains(), run: onceScopes},
		{name: "once: a refused append frees its key", streams: twoDrains(), run: onceRefused},
		{name: "once: a full stream still knows what it has", streams: boundedStream(), run: onceFull},
		{name: "once: ten thousand racing callers", streams: oneDrain(), run: onceRace},
		{name: "once: many keys race for their first append", streams: oneDrain(), run: onceManyRaces},
	}, afterReopen([]reopening{
		{name: "once: keeps the keys", streams: oneDrain(), run: onceReopened},
		{name: "once: keeps the keys of what is finished", streams: oneDrain(), run: onceReopenedFinished},
	})), needOnce)
}

// onceTTL is long enough for any section that does not move the time.
const onceTTL = time.Hour

// onceKey hashes a key and what is asked as ingress would.
func onceKey(key, body string) buffer.OnceKey {
	k, b := sha256.Sum256([]byte(key)), sha256.Sum256([]byte(body))
	return buffer.OnceKey{Key: [16]byte(k[:16]), Body: [8]byte(b[:8]), TTL: onceTTL}
}

func (f *fixture) appendOnce(stream string, key buffer.OnceKey, msgs ...buffer.Message) (buffer.Accepted, bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f.Buffer.(buffer.Once).AppendOnce(ctx, stream, f.now, msgs, key)
}

// foretold is appendOnce, after it was asked whether that would find an append.
func (f *fixture) foretold(stream string, key buffer.OnceKey, msgs ...buffer.Message) (buffer.Accepted, bool, error) {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	known, repeated, asked := f.Buffer.(buffer.Once).Repeated(ctx, stream, f.now, key)
	a, replayed, err := f.appendOnce(stream, key, msgs...)
	if repeated != replayed || repeated && known != a || errors.Is(asked, buffer.ErrMismatch) != errors.Is(err, buffer.ErrMismatch) {
		f.Fatalf("Repeated(%s): %v, %v, %v; then AppendOnce: %v, %v, %v", stream, known, repeated, asked, a, replayed, err)
	}
	return a, replayed, err
}

// wantOnce appends, and compares the first offset, and whether it was stored before.
func (f *fixture) wantOnce(what, stream string, key buffer.OnceKey, first uint64, replayed bool, msgs ...buffer.Message) buffer.Accepted {
	f.Helper()
	a, again, err := f.foretold(stream, key, msgs...)
	if err != nil {
		f.Fatalf("AppendOnce of %s: %v", what, err)
	}
	if a.First != first || a.Count != len(msgs) || again != replayed {
		f.Fatalf("AppendOnce of %s: %d messages at offset %d, replayed %v; want %d at %d, %v", what, a.Count, a.First, again, len(msgs), first, replayed)
	}
	return a
}

func onceReplayed(f *fixture) {
	f.fill("orders", 1)
	key := onceKey("order 1", "body")
	msgs := []buffer.Message{small(1), small(2)}
	first := f.wantOnce("a new key", "orders", key, 1, false, msgs...)
	f.now = f.now.Add(onceTTL - time.Second)
	again := f.wantOnce("the same again", "orders", key, 1, true, msgs...)
	if !again.At.Equal(first.At) {
		f.Fatalf("AppendOnce of the same again: accepted at %s, want what the first append said: %s", again.At, first.At)
	}
	f.wantMessages(f.wantTake("mail", 9, 0, 1, 2)[1:], 1, msgs)
	f.ack("mail", 0, 1, 2)
	f.settle()
	f.wantOnce("the same after it was delivered", "orders", key, 1, true, msgs...)
	f.wantTake("mail", 9)
	f.fill("orders", 1)
	f.wantTake("mail", 9, 3)
}

func onceAfterTTL(f *fixture) {
	key := onceKey("order 1", "body")
	f.wantOnce("a new key", "orders", key, 0, false, small(0))
	f.now = f.now.Add(onceTTL + time.Second)
	f.wantOnce("the key after its ttl", "orders", key, 1, false, small(1))
	f.wantOnce("the same again", "orders", key, 1, true, small(1))
	f.now = f.now.Add(onceTTL + time.Second)
	other := onceKey("order 1", "another body")
	f.wantOnce("other content after the ttl", "orders", other, 2, false, small(2))
	short := onceKey("order 2", "body")
	short.TTL = time.Second
	f.wantOnce("a key with a short ttl", "orders", short, 3, false, small(3))
	f.now = f.now.Add(2 * time.Second)
	f.wantOnce("that key after its ttl", "orders", short, 4, false, small(4))
	f.wantOnce("another key within its ttl", "orders", other, 2, true, small(2))
	f.wantTake("mail", 9, 0, 1, 2, 3, 4)
}

func onceMismatch(f *fixture) {
	f.wantOnce("a new key", "orders", onceKey("order 1", "body"), 0, false, small(0))
	for range 2 {
		_, _, err := f.foretold("orders", onceKey("order 1", "another body"), small(1))
		f.wantErr("AppendOnce of other content with the same key", err, buffer.ErrMismatch)
	}
	f.wantOnce("the same again", "orders", onceKey("order 1", "body"), 0, true, small(0))
	f.wantTake("mail", 9, 0)
}

func onceScopes(f *fixture) {
	key := onceKey("route a, order 1", "body")
	f.wantOnce("a new key", "orders", key, 0, false, small(0))
	f.wantOnce("the same key of another scope", "orders", onceKey("route b, order 1", "body"), 1, false, small(1))
	f.wantOnce("another scope and stream", "logs", onceKey("route c, order 1", "body"), 0, false, small(0))
	f.fill("orders", 1) // a plain append knows no keys
	f.wantOnce("the first again", "orders", key, 0, true, small(0))
	// Accepted names no stream: the place in another one would be a stranger's.
	f.wantOnce("the first to another stream", "logs", key, 1, false, small(1))
	f.wantTake("mail", 9, 0, 1, 2)
	f.wantTake("archive", 9, 0, 1)
}

func onceRefused(f *fixture) {
	key := onceKey("order 1", "body")
	_, _, err := f.appendOnce("nothing", key, small(0))
	f.wantErr("AppendOnce to an unknown stream", err, buffer.ErrNoStream)
	_, _, err = f.appendOnce("orders", key, small(0), buffer.Message{Body: noise(1, 2<<20)})
	f.wantErr("AppendOnce of a message too large", err, buffer.ErrTooLarge)
	f.wantOnce("the key of a refused append", "orders", key, 0, false, small(0))
	f.wantTake("mail", 9, 0)
}

func onceFull(f *fixture) {
	key := onceKey("order 1", "body")
	f.wantOnce("a new key", "orders", key, 0, false, buffer.Message{Body: noise(99, 32<<10)})
	for n := 0; ; n++ {
		if err := appendNoise(f, n); err != nil {
			f.wantErr("Append near max_bytes", err, buffer.ErrBufferFull)
			break
		}
	}
	f.wantOnce("the same to a full stream", "orders", key, 0, true, buffer.Message{Body: noise(99, 32<<10)})
	other := onceKey("order 2", "body")
	_, _, err := f.appendOnce("orders", other, buffer.Message{Body: noise(98, 32<<10)})
	f.wantErr("AppendOnce of a new key to a full stream", err, buffer.ErrBufferFull)
	all := f.takeAll("mail")
	f.ack("mail", offsets(all)...)
	f.ack("sms", offsets(f.takeAll("sms"))...)
	f.settle()
	f.eventually("the refused key is free once there is room", func() bool {
		a, replayed, err := f.appendOnce("orders", other, buffer.Message{Body: noise(98, 32<<10)})
		return err == nil && !replayed && a.First == uint64(len(all))
	})
}

// onceRace makes one message, whoever is first.
func onceRace(f *fixture) {
	const callers = 10_000
	key := onceKey("order 1", "body")
	var stored, late atomic.Int64
	var g errgroup.Group
	start := make(chan struct{})
	for range callers {
		g.Go(func() error {
			<-start
			a, replayed, err := f.appendOnce("orders", key, small(0))
			switch {
			case errors.Is(err, buffer.ErrInProgress):
				late.Add(1)
			case err != nil:
				return err
			case a.First != 0 || a.Count != 1:
				return fmt.Errorf("one of %d callers got %d messages at offset %d, want 1 at 0", callers, a.Count, a.First)
			case !replayed:
				stored.Add(1)
			}
			return nil
		})
	}
	close(start)
	if err := g.Wait(); err != nil {
		f.Fatalf("%v", err)
	}
	if stored.Load() != 1 {
		f.Fatalf("%d of %d callers stored the message (%d found it in progress), want 1", stored.Load(), callers, late.Load())
	}
	f.wantTake("mail", 9, 0)
}

// onceManyRaces has each key sent three times at once, while others are stored.
func onceManyRaces(f *fixture) {
	const keys, each = 300, 3
	var first [keys][each]uint64
	var stored atomic.Int64
	var g errgroup.Group
	for i := range keys * each {
		g.Go(func() error {
			k := i % keys
			a, replayed, err := f.appendOnce("orders", onceKey(fmt.Sprint("order ", k), "body"), small(k))
			if !replayed && err == nil {
				stored.Add(1)
			}
			first[k][i/keys] = a.First
			return err
		})
	}
	if err := g.Wait(); err != nil {
		f.Fatalf("%v", err)
	}
	if stored.Load() != keys {
		f.Fatalf("%d appends were stored, want %d keys once", stored.Load(), keys)
	}
	ds := f.takeAll("mail")
	f.wantOffsets("Take after the races", ds, count(0, keys)...)
	for k, places := range first {
		for _, offset := range places {
			if offset != places[0] || string(ds[offset].Body) != string(small(k).Body) {
				f.Fatalf("key %d was said to be at offsets %v; offset %d has %s", k, places, offset, brief(ds[offset].Body))
			}
		}
	}
}

// onceReopened does not wait: the record of a key is in its messages' commit.
func onceReopened(f *fixture, crash bool) {
	f.wantOnce("a batch", "orders", onceKey("order 1", "body"), 0, false, small(0), small(1))
	f.now = f.now.Add(time.Minute)
	f.wantOnce("a later key", "orders", onceKey("order 2", "body"), 2, false, small(2))
	for range 2 {
		f.reopen(crash)
		f.wantOnce("the batch after reopening", "orders", onceKey("order 1", "body"), 0, true, small(0), small(1))
		f.wantOnce("the later key after reopening", "orders", onceKey("order 2", "body"), 2, true, small(2))
		_, _, err := f.appendOnce("orders", onceKey("order 2", "another body"), small(3))
		f.wantErr("AppendOnce of other content after reopening", err, buffer.ErrMismatch)
	}
	f.now = f.now.Add(onceTTL - 30*time.Second) // past the first ttl, within the second
	f.wantOnce("the batch after its ttl", "orders", onceKey("order 1", "body"), 3, false, small(0), small(1))
	f.wantOnce("the later key within its ttl", "orders", onceKey("order 2", "body"), 2, true, small(2))
	f.reopen(crash)
	f.wantOnce("the batch that was stored again", "orders", onceKey("order 1", "body"), 3, true, small(0), small(1))
	f.wantTake("mail", 9, 0, 1, 2, 3, 4)
}

// onceReopenedFinished has keys in segments that are sealed and reclaimed.
func onceReopenedFinished(f *fixture, crash bool) {
	const n = 60
	key := func(i int) buffer.OnceKey { return onceKey(fmt.Sprint("order ", i), "body") }
	msg := func(i int) buffer.Message { return buffer.Message{Body: noise(uint64(i), 64<<10)} }
	for i := range n {
		f.wantOnce("a new key", "orders", key(i), uint64(i), false, msg(i))
	}
	f.reopen(crash)
	for i := range n {
		f.wantOnce(fmt.Sprintf("key %d after reopening", i), "orders", key(i), uint64(i), true, msg(i))
	}
	f.ack("mail", offsets(f.takeAll("mail"))...)
	f.settle()
	f.fillNoise(24, 64<<10) // lets the engine go on and reclaim
	f.settle()
	f.reopen(crash)
	for i := range n {
		f.wantOnce(fmt.Sprintf("key %d after its message was finished", i), "orders", key(i), uint64(i), true, msg(i))
	}
	f.ack("mail", offsets(f.takeAll("mail"))...)
	f.now = f.now.Add(onceTTL + time.Second)
	f.wantOnce("a key after its ttl", "orders", key(7), n+24, false, msg(7))
}
