package buffertest

import (
	"time"

	"forebay/buffer"
)

// bulkSections append so much that an engine with segments of 1 MiB rolls,
// seals, reads back and reclaims them.
func bulkSections() []section {
	return []section{
		{name: "12 MiB are given back", streams: twoDrains(), run: bulkReclaimed},
		{name: "a few stuck messages in 6 MiB", streams: oneDrain(), run: bulkStuck},
	}
}

// fillNoise appends n messages that do not compress, a few in each batch.
func (f *fixture) fillNoise(n, size int) []buffer.Message {
	f.Helper()
	const batch = 6
	msgs := make([]buffer.Message, n)
	for i := range msgs {
		msgs[i] = buffer.Message{Method: "POST", Target: "/noise", Body: noise(uint64(i), size)}
	}
	for from := 0; from < n; from += batch {
		f.append("orders", msgs[from:min(from+batch, n)]...)
	}
	return msgs
}

func bulkReclaimed(f *fixture) {
	const n = 800
	empty, _ := f.diskBytes()
	want := f.fillNoise(n, 16<<10)
	full, inspects := f.diskBytes()
	if inspects && full-empty < n*16<<10/2 {
		f.Fatalf("12 MiB that do not compress take %d bytes on disk", full-empty)
	}
	for _, drain := range []string{"mail", "sms"} {
		ds := f.takeAll(drain)
		f.wantMessages(ds, 0, want)
		f.ack(drain, offsets(ds)...)
	}
	f.settle()
	f.fill("orders", 1) // goes on behind what is given back
	f.wantTake("mail", 9, n)
	if inspects {
		f.checkLedger()
		f.eventually("half of the disk space of a finished backlog is free again", func() bool {
			now, _ := f.diskBytes()
			return now-empty <= (full-empty)/2
		})
	}
	if _, ok := f.Buffer.(buffer.Receipts); !ok {
		return
	}
	for _, offset := range []uint64{0, n / 2, n - 1} {
		if s := f.find(order(offset)); s.State() != buffer.Delivered {
			f.Fatalf("offset %d is %s after its segment was given back, want %s", offset, s.State(), buffer.Delivered)
		}
	}
}

// diskBytes is the size of all files; false where the engine cannot tell.
func (f *fixture) diskBytes() (int64, bool) {
	i, ok := f.Buffer.(buffer.Inspector)
	if !ok {
		return 0, false
	}
	return i.Stats().Bytes, true
}

// bulkStuck finishes all but three messages that lie far apart. They stay what
// they were, wherever an engine has moved them.
func bulkStuck(f *fixture) {
	const n = 384
	want := f.fillNoise(n, 16<<10)
	stuck := []uint64{3, 200, n - 1}
	ds := f.takeAll("mail")
	retry := f.release("mail", stuck[0], time.Minute)
	f.Buffer.Return("mail", stuck[1])
	for _, d := range ds {
		if d.Offset != stuck[0] && d.Offset != stuck[1] && d.Offset != stuck[2] {
			f.ack("mail", d.Offset)
		}
	}
	f.settle()
	for i := range 3 { // lets the engine go on
		f.append("orders", small(i))
		f.settle()
	}
	f.Buffer.Return("mail", stuck[2])
	f.now = retry.Due
	got := f.wantTake("mail", 99, stuck[0], stuck[1], stuck[2], n, n+1, n+2)
	for i, offset := range stuck {
		f.wantMessage(got[i], want[offset])
		if !got[i].AcceptedAt.Equal(ds[offset].AcceptedAt) {
			f.Fatalf("offset %d: accepted %s; was accepted %s", offset, clock(got[i].AcceptedAt), clock(ds[offset].AcceptedAt))
		}
	}
	if diff := differ(retry.Tries, got[0].Tries); diff != "" {
		f.Fatalf("tries of offset %d (-want +got):\n%s", stuck[0], diff)
	}
}
