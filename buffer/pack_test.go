package buffer_test

import (
	"bytes"
	"testing"

	"forebay/buffer"
)

// TestUnreadAppends: what no drain comes to soon takes no memory once it is stored, and is
// read as it was, whether it shrank or not.
func TestUnreadAppends(t *testing.T) {
	e, err := buffer.Open(t.Context(), buffer.Config{Dir: t.TempDir(), SegmentBytes: 64 * mib})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	configure(t, e, "mail")
	var want []buffer.Message
	add := func(msgs ...buffer.Message) int64 {
		t.Helper()
		before := e.Cached()
		if _, err := e.Append(t.Context(), "orders", noon, msgs); err != nil {
			t.Fatal(err)
		}
		want = append(want, msgs...)
		return e.Cached() - before
	}
	zeros := buffer.Message{Method: "POST", Target: "/", Body: make([]byte, mib)}
	if grown := add(zeros, zeros, zeros); grown < 3*mib {
		t.Errorf("what a drain comes to next is not in memory: %d bytes more", grown)
	}
	for range 12 {
		add(zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros)
	}
	var mixed []buffer.Message
	for i := range uint64(10) {
		mixed = append(mixed, noise(i, 300_000)) // a block each, which does not shrink
	}
	for range 30 {
		mixed = append(mixed, zeros)
	}
	if grown := add(mixed...); grown > 0 {
		t.Errorf("what the drain comes to after 99 MiB takes %d bytes of memory", grown)
	}
	ds, _, err := e.Take("mail", noon, len(want))
	if err != nil || len(ds) != len(want) {
		t.Fatalf("%d messages, %v; want %d", len(ds), err, len(want))
	}
	for i, d := range ds {
		if d.Message.Target != want[i].Target || !bytes.Equal(d.Message.Body, want[i].Body) {
			t.Fatalf("message %d is not what was appended", i)
		}
	}
}
