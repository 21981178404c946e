package main_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Every 202 is written after a sync of the log that began once its request had
// been read: of a thousand one after the other, and of a thousand at once.
func TestFaultNoAnswerBeforeSync(t *testing.T) {
	needs(t, "strace")
	srv := newSite(t, orderPolicy("http://127.0.0.1:1", "0")).start()
	orders := realOrders(t)
	orders = append(orders, orders[:488]...)
	tr := srv.trace("-e", "trace=read,write,fdatasync")
	postAll(t, srv.public, orders, 1)
	postAll(t, srv.public, orders, 32)
	tr.detach()
	answers, faults := tr.proof()
	if answers != 2*len(orders) || len(faults) != 0 {
		t.Errorf("%d answers, want %d; not covered by a sync: %q", answers, 2*len(orders), faults)
	}
}

// acked is what callers were promised.
type acked struct {
	mu  sync.Mutex
	ids map[string]sum // guarded by mu
}

// flood posts bodies that no other caller posts, up to a hundred over each of
// several connections, until one is not taken.
func flood(srv *server, t *testing.T, callers int) *acked {
	t.Helper()
	a := &acked{ids: map[string]sum{}}
	c := newCaller(t, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := range 100 {
				body := incompressible(60_000)
				copy(body, fmt.Sprintf("%d-%d", i, n))
				rec, err := c.post(srv.public, body)
				if err != nil {
					return
				}
				a.mu.Lock()
				a.ids[rec.ID] = sha256.Sum256(body)
				a.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return a
}

// wantAll fails the test unless the sink has each message that was promised, byte
// for byte.
func (a *acked) wantAll(t *testing.T, log []arrival) {
	t.Helper()
	got := map[string]sum{}
	for _, x := range log {
		got[x.ID] = x.Sum
	}
	for id, want := range a.ids {
		if got[id] != want {
			t.Errorf("%s was promised and did not arrive as it was", id)
		}
	}
}

// After a failed write or sync the program ends with one line and code 1, having
// promised nothing that the next start does not find.
func TestFaultFailedWrite(t *testing.T) {
	needs(t, "strace")
	index := func(s *site) (args []string) {
		for id := range 20 { // not all ids are used
			args = append(args, "-P", filepath.Join(s.data(), fmt.Sprintf("seg-%016x", id), "INDEX.tmp"))
		}
		return args
	}
	none := func(*site) []string { return nil }
	for name, tc := range map[string]struct {
		call  string
		paths func(*site) []string
	}{
		"sync of the log":       {"fdatasync:error=EIO", none},
		"a later sync":          {"fdatasync:error=EIO:when=20+", none}, // of a thread
		"sync of a file":        {"fsync:error=EIO", none},
		"write of an index":     {"write:error=EIO", index},
		"no space for an index": {"write:error=ENOSPC", index},
		"rename":                {"renameat:error=EIO", none},
		"reservation":           {"fallocate:error=EIO", none},
	} {
		t.Run(name, func(t *testing.T) {
			shop := newSink(t, nil)
			site := newSite(t, orderPolicy(shop.url, "0"))
			srv := site.start()
			first := postAll(t, srv.public, realOrders(t)[:20], 2)
			call, _, _ := strings.Cut(tc.call, ":")
			trace := "trace=read,write,fdatasync," + call
			tr := srv.trace(append([]string{"-e", trace, "-e", "inject=" + tc.call}, tc.paths(site)...)...)
			promised := flood(srv, t, 8)
			if code := srv.exit(20 * time.Second); code != 1 {
				t.Errorf("exit %d, want 1", code)
			}
			if last := srv.stderr.tail(1); !strings.Contains(last, "level=ERROR msg=stopped") || !strings.Contains(last, "buffer stopped after a failed write or sync") {
				t.Errorf("its last line does not say why:\n%s", last)
			}
			tr.detach()
			if answers, faults := tr.proof(); tc.paths(site) == nil && (answers != len(promised.ids) || len(faults) != 0) {
				t.Errorf("%d answers, %d of them seen; not covered by a sync: %q", answers, len(promised.ids), faults)
			}
			site.setPolicy(orderPolicy(shop.url, "unlimited"))
			srv = site.start()
			settle(t, srv, 30*time.Second)
			for i, r := range first {
				promised.ids[r.ID] = sha256.Sum256(realOrders(t)[i])
			}
			promised.wantAll(t, shop.arrivals())
		})
	}
}

// While a sync takes long every caller is answered in seconds, none with 202,
// memory is bounded, and a repeat with its key tells what became of it.
func TestFaultSlowSync(t *testing.T) {
	needs(t, "strace")
	shop := newSink(t, nil)
	site := newSite(t, orderPolicy(shop.url, "0"))
	srv := site.start()
	tr := srv.trace("-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=60000000")
	const callers, each = 64, 20 // 77 MB
	c := newCaller(t, callers)
	post := func(n int) reply {
		body := incompressible(60_000)
		r, err := c.send(http.MethodPost, srv.public+"/v1/orders", body, map[string]string{"Idempotency-Key": fmt.Sprint(n)})
		if err != nil {
			t.Error(err)
		}
		return r
	}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := range each {
				if r := post(i*each + n); refusedWith(t, r) != "overloaded" {
					t.Errorf("answer %d: %s", r.status, r.body)
				}
			}
		})
	}
	wg.Wait()
	if stalls, _ := metric(t, srv, "forebay_buffer_stalled_commits_total"); stalls < 1 {
		t.Error("no commit is counted as stalled")
	}
	if peak := peakMemory(t, srv); peak > 700<<20 {
		t.Errorf("%d MiB resident at the peak", peak>>20)
	}
	tr.detach()
	for n := range callers * each {
		until(t, 30*time.Second, "it is taken", func() bool { return post(n).status == http.StatusAccepted })
	}
	if got := audit(t, srv); got.Buffered != callers*each {
		t.Errorf("%d buffered, want %d, each sent twice with its key", got.Buffered, callers*each)
	}
}

// Killed at the very call that makes, seals or removes a file of a segment, the
// program comes up again with all that it had promised.
func TestFaultKilledAtACall(t *testing.T) {
	needs(t, "strace")
	hits, runs := 0, 0
	for _, call := range []string{"mkdirat", "fallocate", "ftruncate", "truncate", "fsync", "fdatasync", "renameat", "unlinkat"} {
		for nth := 1; nth <= 7; nth += 2 { // of a thread: of the program they are more
			t.Run(fmt.Sprint(call, " ", nth), func(t *testing.T) {
				shop := newSink(t, nil)
				site := newSite(t, orderPolicy(shop.url, "unlimited"))
				srv := site.start()
				tr := srv.trace("-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d+", call, nth))
				promised := flood(srv, t, 8)
				if runs++; len(promised.ids) < 8*100 {
					hits++ // the flood was cut short
				}
				srv.kill() // where it has not come to the call
				tr.detach()
				srv = site.start()
				settle(t, srv, 30*time.Second)
				promised.wantAll(t, shop.arrivals())
				if corrupt, _ := metric(t, srv, "forebay_buffer_corrupt_blocks_total"); corrupt != 0 {
					t.Errorf("%v blocks count as damaged after a kill", corrupt)
				}
			})
		}
	}
	t.Logf("%d of %d runs were killed at a call", hits, runs)
	if hits < runs/2 {
		t.Error("want most of them")
	}
}
