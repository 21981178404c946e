package buffertest

import (
	"context"
	"slices"
	"time"

	"forebay/buffer"
)

func lookupSections() []section {
	return needing(slices.Concat([]section{
		{name: "look up: a key within its ttl", streams: twoDrains(), run: lookupFinds},
		{name: "look up: what was never stored", streams: twoDrains(), run: lookupNothing},
	}, afterReopen([]reopening{
		{name: "look up: keys in sealed segments", streams: oneDrain(), run: lookupReopened},
	})), needOnce)
}

// wantLookup compares what is known of an idempotency key; nil: nothing.
func (f *fixture) wantLookup(stream string, key buffer.OnceKey, want *buffer.Accepted) {
	f.Helper()
	a, err := f.lookUp(stream, key)
	if want == nil {
		f.wantErr("Lookup of an unknown key in "+stream, err, buffer.ErrNoMessage)
		return
	}
	if diff := differ(*want, a); err != nil || diff != "" {
		f.Fatalf("Lookup in %s: %v (-want +got):\n%s", stream, err, diff)
	}
}

func (f *fixture) lookUp(stream string, key buffer.OnceKey) (buffer.Accepted, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f.Buffer.(buffer.Once).Lookup(ctx, stream, key.Key, f.now)
}

func lookupFinds(f *fixture) {
	f.fill("orders", 1)
	key := onceKey("order 1", "body")
	a := f.wantOnce("a new key", "orders", key, 1, false, small(1), small(2))
	f.wantLookup("orders", key, &a)
	f.wantLookup("orders", onceKey("order 1", "another body"), &a) // whatever was asked
	f.wantLookup("logs", key, nil)                                 // a key is one stream's
	f.wantLookup("orders", onceKey("order 2", "body"), nil)

	f.wantTake("mail", 9, 0, 1, 2)
	f.wantTake("sms", 9, 0, 1, 2)
	f.ack("mail", 0, 1, 2)
	f.ack("sms", 0, 1, 2)
	f.settle()
	f.now = f.now.Add(onceTTL - time.Millisecond)
	f.wantLookup("orders", key, &a) // finished, and just within its ttl
	f.now = f.now.Add(time.Millisecond)
	f.wantLookup("orders", key, nil)
	again := f.wantOnce("the key after its ttl", "orders", key, 3, false, small(3))
	f.wantLookup("orders", key, &again)
}

func lookupNothing(f *fixture) {
	_, err := f.lookUp("nothing", onceKey("order 1", "body"))
	f.wantErr("Lookup in an unknown stream", err, buffer.ErrNoStream)
	key := onceKey("order 1", "body")
	_, _, err = f.appendOnce("orders", key, buffer.Message{Body: noise(1, 2<<20)})
	f.wantErr("AppendOnce of a message too large", err, buffer.ErrTooLarge)
	f.wantLookup("orders", key, nil)
	f.wantTake("mail", 9)
}

func lookupReopened(f *fixture, crash bool) {
	key := onceKey("order 1", "body")
	a := f.wantOnce("a key", "orders", key, 0, false, small(0))
	f.fillNoise(24, 64<<10) // seals its segment where segments are small
	other := onceKey("order 2", "body")
	b := f.wantOnce("a later key", "orders", other, 25, false, small(25))
	f.ack("mail", offsets(f.takeAll("mail"))...)
	f.settle()
	for range 2 {
		f.reopen(crash)
		f.wantLookup("orders", key, &a)
		f.wantLookup("orders", other, &b)
		f.wantLookup("orders", onceKey("order 3", "body"), nil)
	}
	f.now = f.now.Add(onceTTL)
	f.wantLookup("orders", key, nil)
}
