package buffer_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/block"

	"github.com/google/go-cmp/cmp"
)

// TestStoredRecords: what was stored before is read, whatever was added since.
func TestStoredRecords(t *testing.T) {
	field := []buffer.Field{{Name: "A", Value: "b"}}
	tests := map[string]struct {
		stored string
		want   []buffer.Message
	}{
		"method, target, body": {
			"\x00\x0c\x08\x03PUT\x02/x\x00\x02hi",
			[]buffer.Message{{Method: "PUT", Target: "/x", Body: []byte("hi")}},
		},
		"a header field and an ordering key": {
			"\x05\x11\x0c\x03PUT\x02/x\x01\x01A\x01b\x00\x02k1",
			[]buffer.Message{{Method: "PUT", Target: "/x", Header: field, Key: "k1"}},
		},
		"an answer to keep": {
			"\x00\x0d\x08\x03PUT\x02/x\x00\x00\x00\x80\x08",
			[]buffer.Message{{Method: "PUT", Target: "/x", KeepAnswer: 1024}},
		},
		"cancel keys": {
			"\x00\x13\x08\x03PUT\x02/x\x00\x00\x02k1\x00\x02\x01a\x01b",
			[]buffer.Message{{Method: "PUT", Target: "/x", Key: "k1", CancelKeys: []string{"a", "b"}}},
		},
		"no cancel keys, which is said": {
			"\x00\x0d\x08\x03PUT\x02/x\x00\x00\x00\x00\x00",
			[]buffer.Message{{Method: "PUT", Target: "/x", CancelKeys: []string{}}},
		},
		"the head of the one before": {
			"\x00\x10\x0c\x03PUT\x02/x\x01\x01A\x01b\x02hi" + "\x01\x04\x00\x02ho",
			[]buffer.Message{
				{Method: "PUT", Target: "/x", Header: field, Body: []byte("hi")},
				{Method: "PUT", Target: "/x", Header: field, Body: []byte("ho")},
			},
		},
		"a batch": {
			"\x00\x0d\x0b\x03PUT\x02/x\x00\x01b\x06\x00" + "\x00\x02\x00\x00" + "\x00\x05\x00\x00\x02k1",
			[]buffer.Message{
				{Method: "PUT", Target: "/x", Batch: "b", Index: 6},
				{Method: "PUT", Target: "/x", Batch: "b", Index: 7},
				{Method: "PUT", Target: "/x", Batch: "b", Index: 8, Key: "k1"},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := buffer.Decode(tt.stored, len(tt.want), false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFields: the field of a batch stands in its place, and not in the shared header.
func TestFields(t *testing.T) {
	room := []buffer.Field{{Name: "Accept"}, {Name: "Via"}, {Name: "X-Not-Ours"}}
	m := buffer.Message{Header: room[:2], Batch: "b-1", Index: 3}
	batch := buffer.Field{Name: "Forebay-Batch", Value: "b-1; index=3"}
	if diff := cmp.Diff([]buffer.Field{room[0], batch, room[1]}, m.Fields()); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	m.Header = room[:1]
	if diff := cmp.Diff([]buffer.Field{room[0], batch}, m.Fields()); diff != "" {
		t.Errorf("fields, the batch last (-want +got):\n%s", diff)
	}
	if room[1].Name != "Via" || room[2].Name != "X-Not-Ours" {
		t.Errorf("the header's memory was written to: %v", room)
	}
}

// TestDamagedHeads: a payload that nobody wrote is damage, wherever it was found.
func TestDamagedHeads(t *testing.T) {
	for name, stored := range map[string]string{
		"the first has the head of none": "\x00\x02\x00\x00" + "\x00\x02\x00\x00",
		"a shared head ends early":       "\x00\x04\x02\x03P\x00" + "\x00\x02\x00\x00",
		"a record without a head":        "\x00\x00" + "\x00\x00",
	} {
		if got, err := buffer.Decode(stored, 2, false); !errors.Is(err, block.ErrDamaged) {
			t.Errorf("%s: %v, %v; want ErrDamaged", name, got, err)
		}
	}
}

// TestRewrittenHeads: whichever messages are left out, the others keep their heads
// and their places in their batch, and share what they shared.
func TestRewrittenHeads(t *testing.T) {
	e := open(t, t.TempDir())
	defer e.Close()
	header := []buffer.Field{{Name: "Content-Type", Value: "application/json"}}
	var msgs []buffer.Message
	for i := range 12 {
		msgs = append(msgs, buffer.Message{Method: "POST", Target: "/x", Header: header, Batch: "b", Index: i % 9, Body: noise(uint64(i), 10_000).Body})
	}
	msgs[5].Header = []buffer.Field{{Name: "X-Own", Value: "5"}}
	raw := e.PackBatch(msgs)[0].Raw
	for kept := 1; kept < 1<<len(msgs); kept++ {
		var want []buffer.Message
		for i := range msgs {
			if kept>>i&1 == 1 {
				want = append(want, msgs[i])
			}
		}
		payload := buffer.RewritePayload(raw, len(msgs), func(i int) bool { return kept>>i&1 == 1 })
		got, err := buffer.Decode(payload, len(msgs), true)
		if err != nil || !slices.EqualFunc(want, got, func(a, b buffer.Message) bool {
			return a.Index == b.Index && slices.Equal(a.Fields(), b.Fields()) && bytes.Equal(a.Body, b.Body)
		}) {
			t.Fatalf("of %012b: %v; messages differ:\n%s", kept, err, cmp.Diff(want, got))
		}
		if most := len(raw) + 2*len(want); len(payload) > most {
			t.Fatalf("of %012b: %d bytes, want at most %d: heads are stored again", kept, len(payload), most)
		}
	}
}

// TestStuckMessagesOfABatch: what is stuck of a batch is what it was after it was
// rewritten, rewritten again, and read after a crash.
func TestStuckMessagesOfABatch(t *testing.T) {
	const n = 1000
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	header := []buffer.Field{{Name: "Content-Type", Value: "application/json"}}
	msgs := make([]buffer.Message, n)
	for i := range msgs {
		msgs[i] = buffer.Message{Method: "POST", Target: "/x", Header: header, Batch: "b", Index: i, Body: noise(uint64(i), 4000).Body}
	}
	for at := 0; at < n; at += 100 { // so that segments are sealed
		if _, err := e.Append(t.Context(), "orders", noon, msgs[at:at+100]); err != nil {
			t.Fatal(err)
		}
	}
	stuck := map[uint64]bool{}
	for _, offset := range every(n, 40) {
		stuck[offset+7], stuck[offset+8] = true, true
	}
	finishBut(t, e, "mail", func(offset uint64) bool { return stuck[offset] })
	waitFor(t, "segments are sealed", func() bool { return sealedCount(e) >= 3 })
	blocks := e.StoredBlocks("orders")
	rewriteAll(t, e)
	if now := e.StoredBlocks("orders"); now >= blocks {
		t.Fatalf("%d blocks after a rewrite, %d before", now, blocks)
	}
	for range 2 {
		dir = crashed(t, e, dir)
		e = open(t, dir)
		configure(t, e, "mail")
		rewriteAll(t, e)
	}
	defer e.Close()
	ds, _, err := e.Take("mail", noon.Add(later), n)
	if err != nil || len(ds) != len(stuck) {
		t.Fatalf("%d deliveries, %v; want %d", len(ds), err, len(stuck))
	}
	for _, d := range ds {
		if diff := cmp.Diff(msgs[d.Offset], d.Message); diff != "" || !stuck[d.Offset] {
			t.Errorf("message %d (-want +got):\n%s", d.Offset, diff)
		}
	}
}

// FuzzDecode: no payload does harm, and what can be read is read the same once it was
// rewritten.
func FuzzDecode(f *testing.F) {
	f.Add("\x00\x0c\x08\x03PUT\x02/x\x00\x02hi", uint16(1), false)
	f.Add("\x00\x02\x00\x00", uint16(1), false)
	f.Add("\x00\x0d\x0b\x03PUT\x02/x\x00\x01b\x06\x00"+"\x00\x02\x00\x00"+"\x00\x05\x00\x00\x02k1", uint16(3), false)
	f.Add("\x02\x00\x0d\x0b\x03PUT\x02/x\x00\x01b\x06\x00"+"\x05\x00\x02\x00\x00", uint16(9), true)
	f.Fuzz(func(t *testing.T, raw string, count uint16, rewritten bool) {
		msgs, err := buffer.Decode(raw, int(count), rewritten)
		if err != nil {
			if !errors.Is(err, block.ErrDamaged) {
				t.Errorf("error %v is not ErrDamaged", err)
			}
			return
		}
		if rewritten || len(msgs) < 2 {
			return // there has to be one to keep
		}
		payload := buffer.RewritePayload(raw, int(count), func(i int) bool { return i%3 != 0 })
		var want []buffer.Message
		for i, m := range msgs {
			if i%3 != 0 {
				want = append(want, m)
			}
		}
		got, err := buffer.Decode(payload, int(count), true)
		if err != nil || !cmp.Equal(want, got) {
			t.Errorf("rewritten: %v (-want +got):\n%s", err, cmp.Diff(want, got))
		}
	})
}

// TestSourceTime: the time of a record is written as time.Format would.
func TestSourceTime(t *testing.T) {
	for _, at := range []time.Time{{}, time.UnixMilli(-1), time.UnixMilli(1_800_000_000_007), time.UnixMilli(253_402_300_800_000), time.Date(2027, 1, 2, 23, 4, 59, 999_999_999, time.FixedZone("", -7200))} {
		m := buffer.Message{Origin: &buffer.Origin{Time: at}}
		want := []buffer.Field{{Name: buffer.SourceField, Value: "0"}, {Name: buffer.SourceTime, Value: at.UTC().Format(buffer.SourceTimeFormat)}}
		if diff := cmp.Diff(want, m.Fields()); diff != "" {
			t.Errorf("fields (-want +got):\n%s", diff)
		}
	}
}
