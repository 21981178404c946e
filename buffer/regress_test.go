package buffer_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/buffer/block"
	"forebay/buffer/segment"
)

// TestNothingIsAnsweredAfterAFailedSync: after a failed sync no commit follows: what gathered meanwhile is refused.
func TestNothingIsAnsweredAfterAFailedSync(t *testing.T) {
	for i := range 20 {
		e := open(t, t.TempDir())
		configure(t, e, "mail")
		var n atomic.Int32
		entered, release := make(chan struct{}), make(chan struct{})
		e.Hook(func(s *segment.Segment, b []segment.Block) error {
			if n.Add(1) == 1 {
				close(entered)
				<-release
				_ = s.Commit(b)
				return errors.New("sync: input/output error")
			}
			return s.Commit(b)
		})
		r1, r2 := make(chan error, 1), make(chan error, 1)
		go func() { _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(0, 100)}); r1 <- err }()
		<-entered
		go func() { _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(1, 100)}); r2 <- err }()
		waitFor(t, "pending", func() bool { return e.PendingParts() == 1 })
		close(release)
		if err := <-r1; err == nil {
			t.Fatal("first ok?")
		}
		if err := <-r2; err == nil {
			t.Errorf("round %d: a message was acknowledged after a failed sync; Err()=%v", i, e.Err())
			return
		}
	}
}

// TestStartsAtMaxBytes: a buffer that is full starts, or what it holds would never drain.
func TestStartsAtMaxBytes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	cfg := buffer.Config{Dir: dir, SegmentBytes: mib, MaxBytes: 14 * mib}
	e, err := buffer.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	configure(t, e, "mail")
	n := uint64(0)
	for err == nil {
		if _, err = e.Append(t.Context(), "orders", noon, []buffer.Message{noise(n, 60_000)}); err == nil {
			n++
		}
	}
	dir = crashed(t, e, dir)
	cfg.Dir = dir
	e, err = buffer.Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%d accepted messages cannot be reached: %v", n, err)
	}
	e.Close()
}

// TestCancelOrphans: orphaned drains go with their last message, while a cancel ranges over them.
func TestCancelOrphans(t *testing.T) {
	e := open(t, t.TempDir())
	configure(t, e, "mail", "sms")
	fill(t, e, 0, 1, 100)
	if err := e.Configure(nil); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v", p)
			}
		}()
		if err := e.Cancel(t.Context(), buffer.Ref{Stream: "orders"}, noon); err != nil {
			t.Error(err)
		}
	}()
}

// TestFindDuringRoll: receipts find what ended a moment ago while a segment follows another.
func TestFindDuringRoll(t *testing.T) {
	e := open(t, t.TempDir())
	configure(t, e, "mail")
	fill(t, e, 0, 3, 1000)
	drainAll(t, e, "mail")
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	e.Hook(func(s *segment.Segment, b []segment.Block) error {
		if block.Peek(b[0].Data).Kind == block.Snapshot || len(b) > 1 && block.Peek(b[1].Data).Kind == block.Snapshot {
			once.Do(func() { close(entered); <-release })
		}
		return s.Commit(b)
	})
	var appends sync.WaitGroup
	appends.Go(func() {
		for i := uint64(3); i < 30; i++ {
			e.Append(t.Context(), "orders", noon, []buffer.Message{noise(i, 60_000)})
		}
	})
	defer appends.Wait()
	<-entered
	_, err := e.Find(buffer.Ref{Stream: "orders", Offset: 1}, noon)
	if err != nil {
		t.Errorf("find of a message delivered a moment ago, while a segment rolls: %v", err)
	}
	close(release)
}

// TestHoleWithoutDrain: damage in a stream that no drain reads yet waits for the first one.
func TestHoleWithoutDrain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e)
	fill(t, e, 0, 5, 30_000)
	dir = crashed(t, e, dir)
	logs := files(t, dir, "seg-*/*.vlog")
	edit(t, logs[len(logs)-1], func(b []byte) { b[nthBlock(t, b, 2)+block.HeaderSize+500] ^= 1 })
	e = open(t, dir)
	configure(t, e, "mail")
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("take panics: %v", p)
		}
	}()
	if got := drainAll(t, e, "mail"); len(got) != 4 {
		t.Errorf("delivered %v, want all but one", got)
	}
	wantBalanced(t, e)
}

// TestNoStallBehindDamage: a drain that met damage looks again by itself.
func TestNoStallBehindDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, 5, 30_000)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, files(t, dir, "seg-*/*.vlog")[0], func(b []byte) { b[nthBlock(t, b, 0)+block.HeaderSize+500] ^= 1 })
	e = open(t, dir)
	configure(t, e, "mail")
	for len(e.Wake("mail")) > 0 {
		<-e.Wake("mail")
	}
	ds, next, err := e.Take("mail", noon, 1)
	if len(ds) == 0 && next.IsZero() && err == nil {
		select {
		case <-e.Wake("mail"):
		case <-time.After(time.Second):
			ds, _, _ = e.Take("mail", noon, 1)
			t.Errorf("Take(1) gave none and nothing woke the drain; the next Take gives %d", len(ds))
		}
	}
	e.Close()
}

// TestLostTail: a block that was durable and is gone is an alarm, and its ids are not used again.
func TestLostTail(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, 5, 1000)
	ds, _, _ := e.Take("mail", noon, 1)
	e.Ack("mail", ds[0].Offset, buffer.Result{At: noon})
	if err := e.Settled(); err != nil {
		t.Fatal(err)
	}
	id := e.ID(buffer.Ref{Stream: "orders", Offset: 4})
	dir = crashed(t, e, dir)
	edit(t, files(t, dir, "seg-*/*.vlog")[0], func(b []byte) { b[nthBlock(t, b, 4)+block.HeaderSize+500] ^= 1 })
	e = open(t, dir)
	configure(t, e, "mail")
	defer e.Close()
	r, st := e.Recovery(), e.Stats()
	t.Logf("recovery %+v corrupt=%d dead=%v accepted=%d", r, st.Corrupt, st.Drains[0].Dead, st.Streams[0].Accepted)
	if r.Damaged == 0 && r.Lost == 0 {
		t.Error("an acknowledged message is gone and recovery counts none")
	}
	a, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(99, 10)})
	if err == nil && e.ID(buffer.Ref{Stream: "orders", Offset: a.First}) == id {
		t.Errorf("its receipt id now names another message (offset %d)", a.First)
	}
}

// TestTornCommit: a commit that a crash cut short is no damage.
func TestTornCommit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, 2, 1000)
	e.Hook(func(s *segment.Segment, b []segment.Block) error {
		// kill -9 while Badger copies a transaction block by block, in map order, into
		// its mapping: any subset of the blocks may be there.
		if err := s.Commit(b[1:]); err != nil {
			return err
		}
		return errors.New("killed")
	})
	_, err := e.Append(t.Context(), "orders", noon, []buffer.Message{noise(2, 300_000), noise(3, 300_000), noise(4, 300_000)})
	if err == nil {
		t.Fatal("acked")
	}
	dir = crashed(t, e, dir)
	e = open(t, dir)
	configure(t, e, "mail")
	defer e.Close()
	st := e.Stats()
	t.Logf("recovery %+v", e.Recovery())
	if st.Corrupt > 0 || st.Drains[0].Dead[buffer.ReasonDamaged] > 0 {
		t.Errorf("a crash in a commit nobody was answered for: corrupt %d, dead %v, accepted %d of 2", st.Corrupt, st.Drains[0].Dead, st.Streams[0].Accepted)
	}
}

// TestCarryLarge: what Badger lost may be larger than a segment.
func TestCarryLarge(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	cfg := []buffer.Stream{{Name: "orders", Drains: []string{"mail"}, MaxMessageBytes: 16 * mib}}
	if err := e.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	fill(t, e, 0, 2, 1000)
	fill(t, e, 2, 1, 5*mib)
	dir = crashed(t, e, dir)
	mems := files(t, dir, "seg-*/*.mem")
	for _, m := range mems {
		edit(t, m, func(b []byte) { clear(b) }) // as TestDamage's "all of a write-ahead log lost"
	}
	e, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	e.Configure(cfg)
	if got := drainAll(t, e, "mail"); len(got) != 3 {
		t.Error(got)
	}
	e.Close()
}

// TestManyStreamsInOneCommit: a commit may hold a block of each of very many streams.
func TestManyStreamsInOneCommit(t *testing.T) {
	e := open(t, t.TempDir())
	var cfg []buffer.Stream
	for i := range 1900 {
		cfg = append(cfg, buffer.Stream{Name: fmt.Sprint("s", i), Drains: []string{fmt.Sprint("d", i)}})
	}
	if err := e.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	e.Hook(func(s *segment.Segment, b []segment.Block) error {
		once.Do(func() { close(entered); <-release })
		return s.Commit(b)
	})
	go e.Append(t.Context(), "s0", noon, []buffer.Message{noise(0, 10)})
	<-entered
	errs := make(chan error, 1900)
	for i := range 1900 {
		go func() {
			_, err := e.Append(t.Context(), fmt.Sprint("s", i), noon, []buffer.Message{noise(0, 10)})
			errs <- err
		}()
	}
	waitFor(t, "all wait", func() bool { return e.PendingParts() == 1900 })
	close(release)
	for range 1900 {
		if err := <-errs; err != nil {
			t.Fatalf("1900 small messages to as many streams: %v", err)
		}
	}
	e.Close()
}

// TestForgedBlock: a message that holds a block is not one after damage.
func TestForgedBlock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, 1, 1000)
	evil := []byte{0}
	evil = append(evil, recordOf("POST", "/orders/evil", "transfer everything")...)
	h := block.Header{Kind: block.Messages, Seq: 1 << 40, First: 0, Base: noon.UnixMilli(), Stream: 1, Count: 1, RawLen: uint32(len(evil))}
	forged := block.Sealer{Seed: 0}.Seal(nil, &h, evil)
	body := append(noise(1, 400).Body, forged...)
	body = append(body, noise(2, 400).Body...)
	if _, err := e.Append(t.Context(), "orders", noon, []buffer.Message{{Method: "POST", Target: "/x", Body: body}}); err != nil {
		t.Fatal(err)
	}
	dir = crashed(t, e, dir)
	edit(t, files(t, dir, "seg-*/*.vlog")[0], func(b []byte) { b[nthBlock(t, b, 1)+block.HeaderSize+50] ^= 1 })
	e = open(t, dir)
	configure(t, e, "mail")
	defer e.Close()
	ds, _, err := e.Take("mail", noon, 10)
	for _, d := range ds {
		if d.Target == "/orders/evil" {
			t.Errorf("offset %d is delivered as %s %q, which nobody appended as such", d.Offset, d.Target, d.Body)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// TestDamagedNames: one bad bit must not make messages nobody's.
func TestDamagedNames(t *testing.T) {
	for _, ack := range []bool{false, true} {
		t.Run(fmt.Sprint("ack ", ack), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			e := open(t, dir)
			configure(t, e, "mail")
			fill(t, e, 0, 5, 1000)
			if ack {
				ds, _, _ := e.Take("mail", noon, 1)
				e.Ack("mail", ds[0].Offset, buffer.Result{At: noon})
				e.Settled()
			}
			dir = crashed(t, e, dir)
			edit(t, files(t, dir, "seg-*/*.vlog")[0], func(b []byte) {
				for at := 0; ; at++ {
					at += bytes.Index(b[at:], []byte("FBLK"))
					if block.Peek(b[at:]).Kind == block.Control {
						b[at+block.HeaderSize] ^= 1
						return
					}
				}
			})
			e, err := buffer.Open(t.Context(), buffer.Config{Dir: dir, SegmentBytes: mib})
			if err != nil {
				t.Fatalf("one bit makes the buffer unusable: %v", err)
			}
			defer e.Close()
			configure(t, e, "mail")
			st := e.Stats()
			t.Logf("recovery %+v corrupt %d streams %+v", e.Recovery(), st.Corrupt, st.Streams)
			want := 5
			if ack {
				want = 4 // one had been delivered
			}
			if got := drainAll(t, e, "mail"); len(got) != want {
				t.Errorf("%d delivered, want %d; dead %v", len(got), want, e.Stats().Drains[0].Dead)
			}
			wantBalanced(t, e)
		})
	}
}

func recordOf(method, target, body string) []byte {
	head := block.AppendString(block.AppendString(nil, method), target)
	in := block.AppendString(nil, append(head, 0))
	return block.AppendString(nil, block.AppendString(in, body))
}

// TestHoleReceipt: a message that is dead as damaged has a receipt.
func TestHoleReceipt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e, "mail")
	fill(t, e, 0, 5, 30_000)
	dir = crashed(t, e, dir)
	edit(t, files(t, dir, "seg-*/*.vlog")[0], func(b []byte) { b[nthBlock(t, b, 2)+block.HeaderSize+500] ^= 1 })
	e = open(t, dir)
	configure(t, e, "mail")
	st, err := e.Find(buffer.Ref{Stream: "orders", Offset: 2}, time.Now())
	if err != nil {
		t.Errorf("a message that is dead as damaged (%v): %v %v", e.Stats().Drains[0].Dead, st, err)
	}
	e.Close()
}

// TestDropStreamWithoutDrains: what no drain ever read can be given up, or a
// policy could never leave the stream out again; what comes after is kept.
func TestDropStreamWithoutDrains(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	e := open(t, dir)
	configure(t, e)
	fill(t, e, 0, 3, 1000)
	key := buffer.OnceKey{Key: [16]byte{1}, Body: [8]byte{2}, TTL: time.Hour}
	appendOnce := func() bool {
		t.Helper()
		_, replayed, err := e.AppendOnce(t.Context(), "orders", noon, []buffer.Message{noise(0, 1000)}, key)
		if err != nil {
			t.Fatal(err)
		}
		return replayed
	}
	appendOnce()
	if n, err := e.DropStream(t.Context(), "orders", noon); n != 4 || err != nil {
		t.Fatalf("drop a stream without drains: %d, %v; want all 4", n, err)
	}
	if s := e.Stats().Streams[0]; s.Messages != 0 || s.Bytes != 0 {
		t.Errorf("after the drop %d messages and %d bytes are left", s.Messages, s.Bytes)
	}
	if appendOnce() {
		t.Error("a message that was given up is taken for one that is stored")
	}
	for range 2 {
		dir = crashed(t, e, dir)
		e = open(t, dir)
		configure(t, e)
		if s := e.Stats().Streams[0]; s.Messages != 1 {
			t.Errorf("after a start %d messages, want the one of after the drop", s.Messages)
		}
	}
	configure(t, e, "mail")
	if got := drainAll(t, e, "mail"); len(got) != 1 {
		t.Errorf("delivered %v, want one", got)
	}
	wantBalanced(t, e)
}
