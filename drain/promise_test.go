package drain

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"forebay/buffer"
	"forebay/limiter"
)

// start and seconds after it.
func at(seconds float64) time.Time {
	return start().Add(time.Duration(seconds * float64(time.Second)))
}

// What is scored is the last promise before the final tenth of the wait, however
// the message's eta moved and whenever it leaves.
func TestSampleBindsBeforeTheFinalTenth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &sample{from: start()}
		var all []promise
		now, leaves := 0.0, rapid.Float64Range(1, 10_000).Draw(t, "leaves")
		for now < leaves {
			eta := now + rapid.Float64Range(0, 5000).Draw(t, "left")
			s.promise(promise{made: at(now), eta: at(eta)})
			all = append(all, s.last)
			now = s.due.Sub(start()).Seconds() + rapid.Float64Range(0, 30).Draw(t, "late")
		}
		want := all[0]
		for _, p := range all {
			if !p.made.After(at(leaves).Add(-at(leaves).Sub(start()) / 10)) {
				want = p
			}
		}
		if got := s.binding(at(leaves)); got != want {
			t.Fatalf("left after %v s: the promise made after %v counts, want that after %v",
				leaves, got.made.Sub(start()), want.made.Sub(start()))
		}
	})
}

// A promise that holds is renewed a handful of times, the last time just before
// the final tenth.
func TestSampleIsRenewedSeldom(t *testing.T) {
	s := &sample{from: start()}
	n := 0
	for now := 0.0; now < 28_800; now = s.due.Sub(start()).Seconds() {
		s.promise(promise{made: at(now), eta: at(28_800)})
		n++
	}
	if at := s.binding(at(28_800)).made.Sub(start()).Hours(); n > 4 || at < 0.8*8 || at > 0.9*8 {
		t.Errorf("%d promises in 8 h, the one that counts after %v h", n, at)
	}
}

func TestPromises(t *testing.T) {
	var p promises
	now := start()
	if got := margin(p.off(), 100*time.Second); got != 15*time.Second {
		t.Errorf("first margin of 100 s = %v", got)
	}
	if got := margin(p.off(), time.Second); got != time.Second {
		t.Errorf("least margin = %v", got)
	}
	p.takeUp(now, 0)
	// A tenth is off by half of the wait, the others by nothing to a tenth.
	kept, missed := 0, 0
	for offset := uint64(0); kept+missed < 2000; offset++ {
		p.takeUp(now, offset+1)
		if due, _ := p.due(now, 9); len(due) == 0 {
			if sampled(offset) {
				t.Fatalf("offset %d is not taken up", offset)
			}
			continue
		}
		eta := now.Add(100 * time.Second)
		p.open[offset].promise(promise{now, eta, eta.Add(margin(p.off(), 100*time.Second))})
		off := time.Duration((kept+missed)%10) * time.Second
		if (kept+missed)%10 == 9 {
			off = 50 * time.Second
		}
		ok, promised := p.left(eta.Add(off), offset)
		if !promised {
			t.Fatalf("offset %d is not known", offset)
		}
		if ok {
			kept++
		} else {
			missed++
		}
		if _, again := p.left(eta, offset); again {
			t.Fatalf("offset %d left twice", offset)
		}
		now = now.Add(2 * time.Hour)
	}
	if share := float64(kept) / float64(kept+missed); share < 0.89 || len(p.errors) != scored || len(p.open) != 0 {
		t.Errorf("%d kept, %d missed, %d errors, %d open", kept, missed, len(p.errors), len(p.open))
	}
}

// One message in a hundred is taken up, of batches of any size, and never more
// than the bound; what was there before the first look is not.
func TestPromisesAreTakenUp(t *testing.T) {
	var p promises
	p.takeUp(start(), 5000)
	p.takeUp(start(), 15_000)
	if n := len(p.open); n < 98 || n > 102 {
		t.Errorf("%d of 10,000 are taken up", n)
	}
	for _, step := range []uint64{2, 10, 64, 100, 1000} {
		n := 0
		for i := range uint64(10_000) {
			if sampled(i * step) {
				n++
			}
		}
		if n < 80 || n > 120 {
			t.Errorf("%d of 10,000 are taken up of every %dth message", n, step)
		}
	}
	p.takeUp(start(), 3_000_000)
	if n := len(p.open); n != maxPromises {
		t.Errorf("%d of 3 million are open, want %d", n, maxPromises)
	}
	due, next := p.due(start(), maxRenewed)
	if len(due) != maxRenewed || !next.Equal(start()) {
		t.Errorf("%d due at once, the others at %v", len(due), next)
	}
	p.open[due[0]].promise(promise{made: start()})
	if n := p.void(); n != 1 || len(p.open) != 0 {
		t.Errorf("%d promises void, %d samples open; want the one that was promised, and none", n, len(p.open))
	}
	p.takeUp(start(), 3_000_000)
	if len(p.open) != 0 {
		t.Errorf("%d that were passed over are taken up later", len(p.open))
	}
}

func (b *bench) wantPromises(kept, missed, void int) {
	b.t.Helper()
	err := testutil.GatherAndCompare(b.reg, strings.NewReader(fmt.Sprintf(`
# HELP forebay_drain_eta_promises_total Messages that were held to their last eta before the final tenth of their wait, by how that went: one in a hundred.
# TYPE forebay_drain_eta_promises_total counter
forebay_drain_eta_promises_total{drain="d",result="kept"} %d
forebay_drain_eta_promises_total{drain="d",result="missed"} %d
forebay_drain_eta_promises_total{drain="d",result="void"} %d
`, kept, missed, void)), "forebay_drain_eta_promises_total")
	if err != nil {
		b.t.Error(err)
	}
}

// A drain that goes at its rate keeps what it promised; a hold, a new policy and
// a cancel void it; a sink that is slower than its budget breaks it.
func TestRunKeepsPromises(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		policy := set(base(10), wide())
		b.apply(policy)
		b.pass(promiseEvery * 3 / 2) // the drain was seen empty, and no look is due
		for range 50 {
			b.fill(200)
			b.pass(10 * time.Second)
		}
		b.pass(10 * time.Minute)
		want := 0 // the first left before anyone could have asked
		for offset := range uint64(10_000) {
			if offset > 0 && sampled(offset) {
				want++
			}
		}
		b.wantPromises(want, 0, 0)
		if _, p90, _ := b.drains.ETA("d", time.Now(), time.Time{}, 10_000); time.Until(p90) > 1010*time.Second {
			t.Errorf("after %d promises kept, p90 of 1000 s is %v ahead", want, time.Until(p90))
		}
		void := b.voids(want, 0, func() { b.must(b.drains.Pause("d", time.Now().Add(time.Minute), "")) })
		void += b.voids(want, void, func() { b.apply(policy) })
		void += b.voids(want, void, func() {
			for offset := uint64(10_000); offset < b.buf.Stats().Streams[0].Accepted; offset++ {
				_ = b.buf.Cancel(t.Context(), buffer.Ref{Stream: "orders", Offset: offset}, time.Now()) // most have left
			}
			b.pass(time.Minute)
		})
		b.sinks["service"].slow(10 * time.Second)
		slow := set(base(limiter.Rate(10)), wide())
		slow.Sinks[0].Budget.Concurrency = 10
		b.apply(slow)
		from := b.buf.Stats().Streams[0].Accepted
		b.fill(500)
		b.pass(time.Hour)
		missed := 0
		for offset := from + 10; offset < from+500; offset++ { // ten left at once
			if sampled(offset) {
				missed++
			}
		}
		b.wantPromises(want, missed, void)
	})
}

// voids appends messages, does what voids the promises made to them, lets all end
// and returns how many there were.
func (b *bench) voids(kept, before int, what func()) (n int) {
	b.t.Helper()
	from := b.buf.Stats().Streams[0].Accepted
	b.fill(500)
	b.pass(time.Second)
	for offset := from; offset < from+500; offset++ {
		if s, ok := b.buf.Standing("d", offset); ok && s.State == buffer.Queued && sampled(offset) {
			n++
		}
	}
	what()
	b.wantPromises(kept, 0, before+n)
	b.pass(time.Hour)
	b.wantPromises(kept, 0, before+n)
	return n
}
