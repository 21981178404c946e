package buffer_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/block"
	"forebay/buffer/segment"

	"github.com/google/go-cmp/cmp"
)

const later = time.Hour // when stuck messages are tried again

// finishBut takes everything, acks most of it, and schedules what is stuck.
func finishBut(t testing.TB, e *buffer.Engine, drain string, stuck func(offset uint64) bool) {
	t.Helper()
	for {
		ds, _, err := e.Take(drain, noon, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(ds) == 0 {
			break
		}
		for _, d := range ds {
			if stuck(d.Offset) {
				e.Release(drain, d.Offset, buffer.Retry{Due: noon.Add(later), Tries: buffer.Tries{Attempts: 1}})
			} else {
				e.Ack(drain, d.Offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
			}
		}
	}
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
}

// wantLeft takes at the time when stuck messages are due, and compares offsets and
// contents with what fill appended.
func wantLeft(t testing.TB, e *buffer.Engine, drain string, want []uint64) {
	t.Helper()
	var got []uint64
	for {
		ds, _, err := e.Take(drain, noon.Add(later), 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(ds) == 0 {
			break
		}
		for _, d := range ds {
			if want := noise(d.Offset, len(d.Body)); d.Target != want.Target || !bytes.Equal(d.Body, want.Body) {
				t.Fatalf("message %d is %s with a body of %d bytes that are not its own", d.Offset, d.Target, len(d.Body))
			}
			if !d.AcceptedAt.Equal(noon) {
				t.Errorf("message %d was accepted at %s, want %s", d.Offset, d.AcceptedAt, noon)
			}
			got = append(got, d.Offset)
			e.Ack(drain, d.Offset, buffer.Result{At: noon.Add(later), Attempts: 2, Status: 200})
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what %s had left (-want +got):\n%s", drain, diff)
	}
	wantBalanced(t, e)
}

func every(n, step uint64) (list []uint64) {
	for offset := uint64(0); offset < n; offset += step {
		list = append(list, offset)
	}
	return list
}

func sealedCount(e *buffer.Engine) int { return e.Stats().Segments["sealed"] }

func rewriteAll(t testing.TB, e *buffer.Engine) {
	t.Helper()
	if err := e.Rewrite(); err != nil {
		t.Fatal(err)
	}
}

// TestStuckMessagesPinNoLog: of a log with a stuck message in every twentieth place
// only those stay on disk, with ids, times, receipts and position, through stops and
// crashes; the other drain has its own.
func TestStuckMessagesPinNoLog(t *testing.T) {
	const n = 300
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail", "sms")
	fill(t, e, 0, n, 60_000)
	ids := map[uint64]string{}
	for _, offset := range every(n, 20) {
		ids[offset] = e.ID(buffer.Ref{Stream: "orders", Offset: offset})
	}
	finishBut(t, e, "mail", func(offset uint64) bool { return offset%20 == 0 })
	finishBut(t, e, "sms", func(offset uint64) bool { return offset%40 == 0 })
	waitFor(t, "segments are sealed", func() bool { return sealedCount(e) >= 15 })
	rewriteAll(t, e)
	waitFor(t, "sparse segments go", func() bool { return sealedCount(e) <= 1 })
	if got, most := e.Stats().Streams[0].Bytes, int64(n/20*61_000+200_000); got > most {
		t.Errorf("the stream's bytes are %d after the rewrite, want at most %d", got, most)
	}
	check := func() {
		t.Helper()
		wantBalanced(t, e)
		for i, offset := range every(n, 20) {
			st, err := e.Find(buffer.Ref{Stream: "orders", Offset: offset}, noon)
			if err != nil || st.State() != buffer.Scheduled || st.Drains[0].Ahead != uint64(i) || !st.AcceptedAt.Equal(noon) {
				t.Errorf("Find(%d) = %+v, %v; want scheduled, %d ahead", offset, st, err, i)
			}
			if id := e.ID(st.Ref); id != ids[offset] {
				t.Errorf("the id of %d is %s, was %s", offset, id, ids[offset])
			}
		}
		if st, err := e.Find(buffer.Ref{Stream: "orders", Offset: 1}, noon); err != nil || st.State() != buffer.Delivered {
			t.Errorf("Find of a delivered message = %+v, %v", st, err)
		}
	}
	check()
	for _, crash := range []bool{true, false} {
		if crash {
			dir = crashed(t, e, dir)
		} else if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = open(t, dir)
		configure(t, e, "mail", "sms")
		check()
	}
	wantLeft(t, e, "mail", every(n, 20))
	wantLeft(t, e, "sms", every(n, 40))
}

// TestTrickleLeavesNoTinyBlocks: what came one by one lies in full blocks, and is
// not copied again for nothing.
func TestTrickleLeavesNoTinyBlocks(t *testing.T) {
	const n = 1500
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, n, 2000)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	if before := e.StoredBlocks("orders"); before != n {
		t.Fatalf("%d blocks before the rewrite, want %d", before, n)
	}
	rewriteAll(t, e)
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
	after, seq := e.StoredBlocks("orders"), e.Seq()
	if after > n*2000/250_000+8 {
		t.Errorf("%d blocks after the rewrite of %d", after, n)
	}
	rewriteAll(t, e)
	if e.Seq() != seq {
		t.Error("full blocks were rewritten again")
	}
	e = open(t, crashed(t, e, dir))
	configure(t, e, "mail")
	if got := e.StoredBlocks("orders"); got != after {
		t.Errorf("%d blocks after a crash, %d before", got, after)
	}
	if diff := cmp.Diff(upTo(n), drainAll(t, e, "mail")); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	wantBalanced(t, e)
}

// TestCrashInARewrite ends the process at each commit from the start of a rewrite
// on, before the commit is written and after. Nothing is lost and nothing comes twice.
func TestCrashInARewrite(t *testing.T) {
	const n = 700 // more than one commit of rewritten blocks
	sparse := filepath.Join(t.TempDir(), "data")
	e := open(t, sparse)
	configure(t, e, "mail")
	fill(t, e, 0, n, 8000)
	finishBut(t, e, "mail", func(offset uint64) bool { return offset%7 != 0 })
	waitFor(t, "segments are sealed", func() bool { return sealedCount(e) >= 5 })
	sparse = crashed(t, e, sparse)
	for at := range 5 {
		for _, stored := range []bool{false, true} {
			t.Run(fmt.Sprintf("commit %d stored %v", at, stored), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "data")
				copyTree(t, sparse, dir)
				e := open(t, dir)
				configure(t, e, "mail")
				commits := 0
				e.Hook(func(s *segment.Segment, b []segment.Block) error {
					if commits++; commits <= at {
						return s.Commit(b)
					}
					if stored {
						if err := s.Commit(b); err != nil {
							return err
						}
					}
					return errors.New("input/output error")
				})
				// Acked after the blocks were chosen or before: both have to be right.
				ds, _, err := e.Take("mail", noon.Add(later), 1)
				if err != nil || len(ds) != 1 {
					t.Fatal(ds, err)
				}
				e.Ack("mail", ds[0].Offset, buffer.Result{At: noon, Attempts: 2, Status: 200})
				_ = e.Rewrite() // it fails where the engine does
				_ = e.Settled()
				if at < 3 { // two of blocks, one of the segments that go
					<-e.Failed()
				}
				e = open(t, crashed(t, e, dir))
				configure(t, e, "mail")
				var want []uint64
				for offset := range uint64(n) {
					if offset%7 != 0 && (offset != ds[0].Offset || e.Unfinished("mail", offset)) {
						want = append(want, offset)
					}
				}
				wantLeft(t, e, "mail", want)
				if lost := e.Recovery().Damaged; lost > 0 || e.Stats().Corrupt > 0 {
					t.Errorf("%d messages and %d blocks count as damaged", lost, e.Stats().Corrupt)
				}
			})
		}
	}
}

// TestDeadLettersAreCopied: a dead message can be read and replayed after its
// segment went.
func TestDeadLettersAreCopied(t *testing.T) {
	const n = 60
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, n, 60_000)
	for {
		ds, _, err := e.Take("mail", noon, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(ds) == 0 {
			break
		}
		for _, d := range ds {
			if d.Offset%30 == 7 {
				e.Bury("mail", d.Offset, buffer.ReasonPermanent, buffer.Result{At: noon, Attempts: 1, Status: 422})
			} else {
				e.Ack("mail", d.Offset, buffer.Result{At: noon, Attempts: 1, Status: 200})
			}
		}
	}
	waitFor(t, "all but the open segment are sealed", func() bool { return e.Stats().Segments["open"] == 1 })
	rewriteAll(t, e)
	waitFor(t, "sparse segments go", func() bool { return sealedCount(e) == 0 })
	e = open(t, crashed(t, e, dir))
	configure(t, e, "mail")
	if _, m, err := e.DeadMessage("mail", 7); err != nil || !cmp.Equal(m, noise(7, 60_000)) {
		t.Errorf("the dead message after its segment went: %v", err)
	}
	if n, err := e.Replay(t.Context(), "mail", []uint64{7}, noon); n != 1 || err != nil {
		t.Errorf("Replay = %d, %v", n, err)
	}
	if n, err := e.DropDead(t.Context(), "mail", []uint64{37}, noon); n != 1 || err != nil {
		t.Errorf("DropDead = %d, %v", n, err)
	}
	wantLeft(t, e, "mail", []uint64{7})
	if got := e.Stats().Streams[0].Bytes; got != 0 {
		t.Errorf("the stream has %d bytes with nothing in it", got)
	}
}

// TestDamageInARewrite: what is damaged is dead as damaged, what is sound is copied,
// and the segment goes.
func TestDamageInARewrite(t *testing.T) {
	const n = 40
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, n, 60_000)
	finishBut(t, e, "mail", func(offset uint64) bool { return offset == 2 || offset == 3 })
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, files(t, dir, "seg-*/*.vlog")[0], func(b []byte) { b[nthBlock(t, b, 3)+block.HeaderSize+500] ^= 1 })
	e = open(t, dir)
	configure(t, e, "mail")
	// A tenth of the segment and a bit is two messages of 17: as on a tight disk.
	e.SetMaxBytes(6 * mib)
	rewriteAll(t, e)
	waitFor(t, "the segments go", func() bool { return sealedCount(e) == 0 })
	st := e.Stats()
	if dead := st.Drains[0].Dead[buffer.ReasonDamaged]; dead != 1 || st.Corrupt != 1 {
		t.Errorf("%d dead as damaged, %d blocks corrupt; want 1 and 1", dead, st.Corrupt)
	}
	e = open(t, crashed(t, e, dir))
	configure(t, e, "mail")
	if _, _, err := e.DeadMessage("mail", 3); !errors.Is(err, block.ErrDamaged) {
		t.Errorf("the damaged message = %v, want ErrDamaged", err)
	}
	if n, err := e.DropDead(t.Context(), "mail", []uint64{3}, noon); n != 1 || err != nil {
		t.Errorf("DropDead of it = %d, %v", n, err)
	}
	wantLeft(t, e, "mail", []uint64{2})
}

// TestRewriteOnAFullDisk: where stuck messages in every segment fill the disk, a
// rewrite makes room, and appends are taken again.
func TestRewriteOnAFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib, MaxBytes: 20 * mib})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	configure(t, e, "mail")
	accepted := fillUp(t, e)
	finishBut(t, e, "mail", func(offset uint64) bool { return offset%6 == 0 })
	if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(accepted, 60_000)}); !errors.Is(err, buffer.ErrDiskFull) {
		t.Fatalf("append = %v, want ErrDiskFull: every segment has a stuck message", err)
	}
	waitFor(t, "an append after rewrites", func() bool {
		rewriteAll(t, e)
		_, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(accepted, 60_000)})
		return err == nil
	})
	wantLeft(t, e, "mail", append(every(accepted, 6), accepted))
}

// TestOldestOfARewrittenBlock: the age of a message is its own, not that of a
// finished one that it was put together with.
func TestOldestOfARewrittenBlock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	for i := range uint64(50) {
		if _, err := e.Append(t.Context(), "orders", noon.Add(time.Duration(i)*time.Minute), []buffer.Message{noise(i, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	rewriteAll(t, e)
	if got := e.StoredBlocks("orders"); got != 1 {
		t.Fatalf("%d blocks, want 1", got)
	}
	finishBut(t, e, "mail", func(offset uint64) bool { return offset >= 30 })
	st := e.Stats()
	if want := noon.Add(30 * time.Minute); !st.Drains[0].Oldest.Equal(want) || !st.Streams[0].Oldest.Equal(want) {
		t.Errorf("the oldest is of %s and %s, want %s", st.Drains[0].Oldest, st.Streams[0].Oldest, want)
	}
	n, oldest, err := e.Expire("mail", noon.Add(later), noon.Add(35*time.Minute), "")
	if want := noon.Add(35 * time.Minute); n != 5 || !oldest.Equal(want) || err != nil {
		t.Errorf("Expire in the middle of a block = %d, %s, %v; want 5, %s", n, oldest, err, want)
	}
}

// TestReadingGoesOnInARewrite: who reads a block while it is put together with
// others, and its segment goes, reads its messages all the same.
func TestReadingGoesOnInARewrite(t *testing.T) {
	const n = 1200
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail", "sms")
	for i := range uint64(n) {
		m := noise(i, 3000)
		m.Key = fmt.Sprint("key-", i)
		if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail", "sms")
	var readers sync.WaitGroup
	readers.Go(func() {
		if diff := cmp.Diff(upTo(n), drainAll(t, e, "mail")); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
	})
	readers.Go(func() {
		for i := uint64(0); i < n; i += 50 {
			refs, err := e.FindKey(t.Context(), "orders", fmt.Sprint("key-", i), 9)
			if err != nil || len(refs) != 1 || refs[0].Offset != i {
				t.Errorf("FindKey of message %d = %v, %v", i, refs, err)
			}
		}
	})
	readers.Go(func() {
		for i := range uint64(n) {
			if _, err := e.Find(buffer.Ref{Stream: "orders", Offset: i}, noon); err != nil {
				t.Errorf("Find(%d): %v", i, err)
			}
		}
	})
	rewriteAll(t, e)
	waitFor(t, "the segments go", func() bool { return sealedCount(e) == 0 })
	readers.Wait()
	if st := e.Stats(); st.Corrupt > 0 {
		t.Errorf("%d blocks count as damaged", st.Corrupt)
	}
	if got := len(drainAll(t, e, "sms")); got != n {
		t.Errorf("%d messages were left for the other drain, want %d", got, n)
	}
	wantBalanced(t, e)
}

// TestTimesInARewrittenBlock: a message that ends without having been taken keeps its
// own time on its receipt, not that of the block.
func TestTimesInARewrittenBlock(t *testing.T) {
	const n = 40
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	for i := range uint64(n) {
		m := noise(i, 100)
		m.Key = fmt.Sprint("key-", i)
		if _, err := e.Append(t.Context(), "orders", noon.Add(time.Duration(i)*time.Minute), []buffer.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, dir)
	configure(t, e, "mail")
	rewriteAll(t, e)
	if err := e.Cancel(t.Context(), buffer.Ref{Stream: "orders", Offset: 20}, noon); err != nil {
		t.Fatal(err)
	}
	e = open(t, crashed(t, e, dir))
	configure(t, e, "mail")
	if n, err := e.CancelKey(t.Context(), "orders", "key-25", noon); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if ended, err := e.DropDrain(t.Context(), "mail", noon); ended != n-2 || err != nil {
		t.Fatalf("DropDrain = %d, %v", ended, err)
	}
	for i := range uint64(n) {
		st, err := e.Find(buffer.Ref{Stream: "orders", Offset: i}, noon)
		if want := noon.Add(time.Duration(i) * time.Minute); err != nil || !st.AcceptedAt.Equal(want) || st.State() != buffer.Cancelled {
			t.Errorf("Find(%d) = %s of %s, %v; want cancelled, %s", i, st.State(), st.AcceptedAt, err, want)
		}
	}
}

// TestBusyIntakeIsNotRewritten: blocks of a busy stream that are not much too small
// are merged once it is quiet.
func TestBusyIntakeIsNotRewritten(t *testing.T) {
	const n = 1200
	e := open(t, t.TempDir())
	configure(t, e, "mail")
	fill(t, e, 0, n, 6000)
	waitFor(t, "segments are sealed", func() bool { return sealedCount(e) >= 6 })
	rewriteAll(t, e)
	if got := e.StoredBlocks("orders"); got != n {
		t.Errorf("%d blocks of %d are left right after the flood", got, n)
	}
	rewriteAll(t, e)
	if got := e.StoredBlocks("orders"); got > n/4 {
		t.Errorf("%d blocks of %d are left when it is quiet", got, n)
	}
}
