package buffertest

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"forebay/buffer"
)

func messageSections() []section {
	return []section{
		{name: "messages come back byte for byte", streams: oneDrain(), run: byteForByte},
		{name: "5000 small messages in one append", streams: oneDrain(), run: manySmall},
		{
			name:    "large messages between small ones",
			streams: []buffer.Stream{{Name: "orders", Drains: []string{"mail"}, MaxMessageBytes: 4 << 20}},
			run:     largeMessages,
		},
		{name: "records of a source", streams: oneDrain(), run: sourced},
		{name: "append keeps nothing of its arguments", streams: oneDrain(), run: keepsNothing},
		{name: "messages of a batch come back each as its own", streams: oneDrain(), run: batches},
	}
}

func byteForByte(f *fixture) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	want := []buffer.Message{
		{},
		{Method: "POST", Target: "/"},
		{Body: every},
		{Method: "PUT", Target: "/a%20b/ü?q=1&q=2&empty=#x", Body: []byte("\r\n\x00")},
		{Method: "POST", Target: "/x", Header: []buffer.Field{
			{Name: "X-Tag", Value: "second"},
			{Name: "Accept", Value: "*/*"},
			{Name: "X-Tag", Value: "first"},
			{Name: "X-Tag", Value: "second"},
			{Name: "X-Empty", Value: ""},
			{Name: "X-Latin", Value: "caf\xe9"},
		}},
		{Method: "POST", Target: "/" + strings.Repeat("t", 8000), Header: []buffer.Field{{Name: "X-Long", Value: strings.Repeat("v", 70_000)}}},
		{Body: bytes.Repeat([]byte("forebay "), 100_000)},
		{Body: noise(1, 1<<16)},
		{Body: noise(2, 1<<20)}, // just max_message_bytes
	}
	f.append("orders", want...)
	for _, msg := range want { // and each alone
		f.append("orders", msg)
	}
	f.wantMessages(f.takeAll("mail"), 0, append(want, want...))
}

func manySmall(f *fixture) {
	want := f.fill("orders", 5000)
	f.wantMessages(f.takeAll("mail"), 0, want)
}

func largeMessages(f *fixture) {
	var want []buffer.Message
	for i := range 3 {
		want = append(want, small(2*i), buffer.Message{Method: "POST", Target: "/large", Body: noise(uint64(i), 3<<20+i)})
	}
	for _, msg := range want {
		f.append("orders", msg)
	}
	f.wantMessages(f.takeAll("mail"), 0, want)
	for i := range want {
		f.ack("mail", uint64(i))
	}
}

func keepsNothing(f *fixture) {
	msgs := []buffer.Message{small(0), small(1)}
	f.append("orders", msgs...)
	for i := range msgs {
		for j := range msgs[i].Body {
			msgs[i].Body[j] = 'x'
		}
		msgs[i].Header[0] = buffer.Field{Name: "X-Other", Value: "other"}
	}
	msgs[0], msgs[1] = msgs[1], msgs[0]
	f.wantMessages(f.take("mail", 2), 0, []buffer.Message{small(0), small(1)})
}

// batchOf returns n messages of a batch, from a place in it on, that share a header.
func batchOf(name string, from, n int) []buffer.Message {
	header := small(0).Header
	msgs := make([]buffer.Message, n)
	for i := range msgs {
		msgs[i] = buffer.Message{
			Method: "POST", Target: "/batch", Header: header, Batch: name, Index: from + i,
			Body: fmt.Appendf(nil, `{"line":%d}`, from+i),
		}
	}
	return msgs
}

// records returns messages that were records, which share a header: with keys of their
// own and with that of the message, with and without cancel keys. No two have one key.
func records(from, n int) []buffer.Message {
	header := []buffer.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "Forebay-Source", Value: "t/0"}, {Name: "X-Last"}}
	msgs := make([]buffer.Message, n)
	for i := range msgs {
		m, key := &msgs[i], fmt.Sprint("k", from+i)
		*m = buffer.Message{Method: "POST", Target: "/record", Header: header, Body: noise(uint64(i), 200), Key: [2]string{key, ""}[i/4%2]}
		m.Origin = &buffer.Origin{Offset: int64(i) << (i % 50), Time: time.UnixMilli(int64(i-1) << (i % 40)), Keyed: i%4 > 0, Key: [4]string{"", "", key, "own"}[i%4]}
		if i > 6 {
			m.CancelKeys = [3][]string{{}, {"c" + key, "d" + key}, nil}[i%3]
		}
	}
	return msgs
}

func sourced(f *fixture) {
	want := append(records(0, 30), small(0))
	want = append(want, records(40, 20)...)
	f.append("orders", want...)
	large := records(100, 3000) // more than one block
	f.append("orders", large...)
	f.wantMessages(f.takeAll("mail"), 0, append(want, large...))
}

func batches(f *fixture) {
	want := []buffer.Message{small(0)}
	want = append(want, batchOf("b/1", 0, 20)...)
	want = append(want, batchOf("b/2", 7, 3)...) // from the middle on
	want[9].Key, want[10].CancelKeys, want[11].KeepAnswer = "k", []string{"c", "d"}, 100
	want[12].Index = 40                                                   // out of turn
	want[14].Header = []buffer.Field{{Name: "X-Own", Value: "14"}}        // and the next has the old one
	want[16].Method, want[17].Target, want[18].Batch = "PUT", "/own", "b" // not alike, with the same header
	want = append(want, small(1))
	f.append("orders", want...)
	large := batchOf(`"three"`, 0, 3000) // more than one block
	for i := range large {
		large[i].Body = noise(uint64(i), 200)
	}
	f.append("orders", large...)
	f.wantMessages(f.takeAll("mail"), 0, append(want, large...))
}
