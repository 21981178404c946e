package buffertest

import (
	"time"

	"forebay/buffer"
)

// lastDue changes in every way which retry is due last.
func lastDue(f *fixture) {
	start := f.now
	none := time.Time{}
	in := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	check := func(step string, want time.Time) {
		f.Helper()
		if got := f.drainStats("mail").LastDue; !got.Equal(want) {
			f.Fatalf("after %s the last retry is due at %s, want %s", step, clock(got), clock(want))
		}
	}
	f.fillKeys("orders", "", "", "", "", "a", "a")
	f.wantTake("mail", 9, 0, 1, 2, 3, 4)
	check("a take", none)
	for offset, minutes := range []int{3, 9, 5, 7} {
		f.release("mail", uint64(offset), time.Duration(minutes)*time.Minute)
	}
	check("four releases", in(9))
	f.now = in(3)
	f.wantTake("mail", 9, 0)
	check("a take of the first that is due", in(9))
	if f.can(needReceipts) {
		f.wantErr("Cancel", f.cancel(order(1)), nil)
		check("a cancel of the last", in(7))
	}
	f.now = in(9)
	f.wantTakeSome("mail", 2, 3)
	check("a take of all that is due", none)
	f.Buffer.Return("mail", 3)
	check("a return", in(7))
	f.release("mail", 2, 0)
	check("a release that is due at once", in(9))
	f.wantTakeSome("mail", 2, 3)
	f.ack("mail", 2, 3)
	f.release("mail", 4, time.Hour)
	check("a release of a key's first message", in(69))
	f.now = in(69)
	f.wantTake("mail", 9, 4)
	f.ack("mail", 4)
	check("an ack", none)
}

// wantTakeSome takes all, and wants these to be among them.
func (f *fixture) wantTakeSome(drain string, want ...uint64) {
	f.Helper()
	got := map[uint64]buffer.Delivery{}
	for _, d := range f.take(drain, 99) {
		got[d.Offset] = d
	}
	for _, offset := range want {
		if _, ok := got[offset]; !ok {
			f.Fatalf("Take(%s) gave %d messages without offset %d", drain, len(got), offset)
		}
	}
}
