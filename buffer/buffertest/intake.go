package buffertest

import (
	"context"
	"errors"
	"time"

	"forebay/buffer"
)

func intakeSections() []section {
	return []section{
		{
			name:    "a message too large refuses its batch",
			streams: []buffer.Stream{{Name: "orders", Drains: []string{"mail"}, MaxMessageBytes: 64 << 10}},
			run:     tooLarge,
		},
		{name: "messages are bounded by 1 MiB without a bound of their own", streams: oneDrain(), run: defaultBound},
		{name: "a full stream refuses, and accepts after finishing", streams: boundedStream(), run: fullStream},
		{name: "accepted_at never decreases", streams: twoDrains(), run: acceptedAt},
		{name: "an append of nothing stores nothing", streams: oneDrain(), run: emptyAppend},
		{name: "a cancelled append is stored whole or not at all", streams: oneDrain(), run: cancelledAppend},
	}
}

func tooLarge(f *fixture) {
	ctx := context.Background()
	large := buffer.Message{Body: noise(1, 128<<10)}
	_, err := f.Buffer.Append(ctx, "orders", f.now, []buffer.Message{large})
	f.wantErr("Append of a message over max_message_bytes", err, buffer.ErrTooLarge)
	_, err = f.Buffer.Append(ctx, "orders", f.now, []buffer.Message{small(0), large, small(1)})
	f.wantErr("Append of a batch with a message over max_message_bytes", err, buffer.ErrTooLarge)
	f.wantTake("mail", 9)

	// Many messages are not one large message, and the bound itself is allowed.
	want := []buffer.Message{{Body: noise(2, 64<<10)}, {Body: noise(3, 64<<10)}, {Body: noise(4, 64<<10)}}
	if a := f.append("orders", want...); a.First != 0 {
		f.Fatalf("first offset after refused batches is %d, want 0", a.First)
	}
	f.wantMessages(f.takeAll("mail"), 0, want)
}

func defaultBound(f *fixture) {
	_, err := f.Buffer.Append(context.Background(), "orders", f.now, []buffer.Message{{Body: noise(1, 2<<20)}})
	f.wantErr("Append of 2 MiB", err, buffer.ErrTooLarge)
	f.append("orders", buffer.Message{Body: noise(2, 1<<20)})
}

func boundedStream() []buffer.Stream {
	return []buffer.Stream{
		{Name: "orders", Drains: []string{"mail", "sms"}, MaxBytes: 1 << 20},
		{Name: "logs", Drains: []string{"archive"}},
	}
}

// appendNoise appends one message that does not compress.
func appendNoise(f *fixture, seed int) error {
	_, err := f.Buffer.Append(context.Background(), "orders", f.now, []buffer.Message{{Body: noise(uint64(seed), 32<<10)}})
	return err
}

// fillUp appends to the stream of 1 MiB until it is full, and returns how many
// messages it took.
func fillUp(f *fixture) int {
	f.Helper()
	const least, most = 16, 48 // messages of 32 KiB, generous to any encoding
	for n := range most {
		err := appendNoise(f, n)
		if err == nil {
			continue
		}
		f.wantErr("Append to a stream near its max_bytes", err, buffer.ErrBufferFull)
		if n < least {
			f.Fatalf("full after %d messages of 32 KiB, max_bytes is 1 MiB", n)
		}
		return n
	}
	f.Fatalf("not full after %d messages of 32 KiB, max_bytes is 1 MiB", most)
	return 0
}

func fullStream(f *fixture) {
	n := fillUp(f)
	f.wantErr("Append to a full stream", appendNoise(f, n), buffer.ErrBufferFull)
	f.append("logs", small(0)) // another stream has its own bound

	all := f.takeAll("mail")
	if len(all) != n {
		f.Fatalf("took %d messages, want the %d that were accepted", len(all), n)
	}
	f.ack("mail", offsets(all)...)
	f.settle()
	f.wantErr("Append while one drain has finished nothing", appendNoise(f, n), buffer.ErrBufferFull)

	f.ack("sms", offsets(f.takeAll("sms"))...)
	f.settle()
	f.eventually("an append is accepted once all is finished", func() bool {
		err := appendNoise(f, n)
		if err != nil {
			f.wantErr("Append after all was finished", err, buffer.ErrBufferFull)
		}
		return err == nil
	})
	f.wantTake("mail", 9, uint64(n))
}

func acceptedAt(f *fixture) {
	start := f.now
	steps := []struct {
		stream    string
		now, want time.Duration // from the start
	}{
		{"orders", 0, 0},
		{"orders", 5 * time.Second, 5 * time.Second},
		{"orders", 2 * time.Second, 5 * time.Second}, // the clock went back
		{"logs", time.Second, time.Second},           // another stream is another sequence
		{"orders", 5*time.Second + 1_900*time.Microsecond, 5*time.Second + time.Millisecond},
		{"orders", -time.Hour, 5*time.Second + time.Millisecond},
		{"orders", time.Minute, time.Minute},
	}
	var want []time.Time
	for i, s := range steps {
		f.now = start.Add(s.now)
		at := f.append(s.stream, small(i)).At
		if !at.Equal(start.Add(s.want)) {
			f.Fatalf("step %d: Append(%s) at %s was accepted at %s, want %s", i, s.stream, clock(f.now), clock(at), clock(start.Add(s.want)))
		}
		if s.stream == "orders" {
			want = append(want, at)
		}
	}
	for i, d := range f.takeAll("mail") {
		if !d.AcceptedAt.Equal(want[i]) {
			f.Fatalf("delivery %d: accepted at %s, want what Append said: %s", i, clock(d.AcceptedAt), clock(want[i]))
		}
	}
}

func emptyAppend(f *fixture) {
	f.fill("orders", 1)
	for _, msgs := range [][]buffer.Message{nil, {}} {
		if a, err := f.Buffer.Append(context.Background(), "orders", f.now, msgs); err == nil && a.Count != 0 {
			f.Fatalf("Append of nothing: %+v, want an error or a Count of 0", a)
		}
	}
	f.fill("orders", 1)
	f.wantTake("mail", 9, 0, 1)
}

func cancelledAppend(f *fixture) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	msgs := []buffer.Message{small(0), small(1)}
	_, err := f.Buffer.Append(ctx, "orders", f.now, msgs)
	if err != nil && !errors.Is(err, context.Canceled) {
		f.Fatalf("Append with a cancelled context: error is %v, want %v or none", err, context.Canceled)
	}
	a := f.append("orders", small(2))
	if a.First != 0 && a.First != 2 {
		f.Fatalf("the next append begins at offset %d, want 0 or 2", a.First)
	}
	want := append(msgs, small(2))[2-a.First:]
	f.wantMessages(f.takeAll("mail"), 0, want)
}
