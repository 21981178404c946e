package drain

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/limiter"
)

func TestPromises(t *testing.T) {
	var p promises
	now := start()
	if got := p.margin(100 * time.Second); got != 15*time.Second {
		t.Errorf("first margin of 100 s = %v", got)
	}
	if got := p.margin(time.Second); got != time.Second {
		t.Errorf("least margin = %v", got)
	}
	// A tenth is off by half of the wait, the others by nothing to a tenth.
	kept, missed := 0, 0
	for i := range uint64(2000) {
		offset := i * promiseOf
		if !p.due(now) || !p.wants(now, offset) {
			t.Fatalf("offset %d is not wanted", offset)
		}
		eta := now.Add(100 * time.Second)
		p.add(promise{offset, now, eta, eta.Add(p.margin(100 * time.Second))})
		if p.due(now) || p.wants(now.Add(time.Hour), offset+promiseOf-1) {
			t.Fatalf("another soon after offset %d is wanted", offset)
		}
		off := time.Duration(i%10) * time.Second
		if i%10 == 9 {
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
	if p.wants(now, 1999*promiseOf) {
		t.Error("a message that has left is promised")
	}
}

func TestPromisesAreBounded(t *testing.T) {
	var p promises
	void := 0
	for i := range uint64(maxPromises + 5) {
		void += p.add(promise{offset: i})
	}
	if _, known := p.left(start(), 4); known || void != 5 || len(p.open) != maxPromises {
		t.Errorf("%d open, %d void", len(p.open), void)
	}
	if n := p.void(); n != maxPromises || len(p.open) != 0 {
		t.Errorf("%d void, %d open", n, len(p.open))
	}
}

func (b *bench) wantPromises(kept, missed, void int) {
	b.t.Helper()
	err := testutil.GatherAndCompare(b.reg, strings.NewReader(fmt.Sprintf(`
# HELP forebay_drain_eta_promises_total Messages that were held to the eta they had when they were accepted, by how that went.
# TYPE forebay_drain_eta_promises_total counter
forebay_drain_eta_promises_total{drain="d",result="kept"} %d
forebay_drain_eta_promises_total{drain="d",result="missed"} %d
forebay_drain_eta_promises_total{drain="d",result="void"} %d
`, kept, missed, void)), "forebay_drain_eta_promises_total")
	if err != nil {
		b.t.Error(err)
	}
}

// A drain that goes at its rate keeps what it promised; a hold and a new policy
// void it; a sink that is slower than its budget breaks it.
func TestRunKeepsPromises(t *testing.T) {
	inBubble(t, []string{"d"}, func(b *bench) {
		policy := set(base(10), wide())
		b.apply(policy)
		for range 50 {
			b.fill(200)
			b.pass(10 * time.Second)
		}
		b.pass(10 * time.Minute)
		b.wantPromises(50, 0, 0)
		if _, p90, _ := b.drains.ETA("d", time.Now(), 10_000); time.Until(p90) > 1010*time.Second {
			t.Errorf("after 50 promises kept, p90 of 1000 s is %v ahead", time.Until(p90))
		}
		b.fill(200)
		b.must(b.drains.Pause("d", time.Now().Add(time.Minute), ""))
		b.pass(10 * time.Second)
		b.wantPromises(50, 0, 1)
		b.pass(time.Hour)
		b.fill(200)
		b.apply(policy)
		b.pass(time.Hour)
		b.wantPromises(50, 0, 2)

		b.sinks["service"].slow(10 * time.Second)
		slow := set(base(limiter.Rate(10)), wide())
		slow.Sinks[0].Budget.Concurrency = 10
		b.apply(slow)
		b.fill(500)
		b.pass(time.Hour)
		b.wantPromises(50, 1, 2)
	})
}
