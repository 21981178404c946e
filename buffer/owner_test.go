package buffer_test

import (
	"testing"
	"time"

	"forebay/buffer"
)

// TestOwnersGo: files that say whose messages are go once no receipt of theirs is
// kept, and not before.
func TestOwnersGo(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	configure(t, e, "mail")
	web := buffer.OwnerOf("web")
	const n = 40 // in several segments
	for i := range n {
		m := noise(uint64(i), 60_000)
		m.Owner = web
		if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		ds, _, err := e.Take("mail", noon, n)
		if err != nil {
			t.Fatal(err)
		}
		if len(ds) == 0 {
			break
		}
		for _, d := range ds {
			e.Ack("mail", d.Offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	e.KeepHouse(noon.Add(23 * time.Hour))
	if got, err := e.Owner(buffer.Ref{Stream: "orders"}); err != nil || got != web {
		t.Errorf("the owner of a message that is gone is %d, %v; want %d", got, err, web)
	}
	if got := matches(t, dir, "outcomes/*.out"); got < 2 {
		t.Fatalf("%d files of outcomes while there are receipts, want several", got)
	}
	e.KeepHouse(noon.Add(48 * time.Hour)) // from 23 h on they count as finished
	if got := matches(t, dir, "outcomes/*.out"); got != 0 {
		t.Errorf("%d files of outcomes are left", got)
	}
}

// TestOwnerOf: no principal's owner is nobody.
func TestOwnerOf(t *testing.T) {
	if buffer.OwnerOf("") != 0 || buffer.OwnerOf("web") == 0 || buffer.OwnerOf("web") == buffer.OwnerOf("app") {
		t.Error("owners of nobody, web and app are not three, the first 0")
	}
}
