package main_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"
)

// incompressible returns n bytes that no compression makes smaller.
func incompressible(n int) []byte {
	body, random := make([]byte, n), rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(body) // it never fails
	return body
}

// refusedWith returns the reason of a 503, which has to be a whole one.
func refusedWith(t *testing.T, r reply) string {
	t.Helper()
	var p struct {
		Type, Reason string
		RetryAfter   int `json:"retry_after_seconds"`
	}
	if err := json.Unmarshal(r.body, &p); err != nil {
		t.Fatalf("answer %d %q: %v", r.status, r.body, err)
	}
	const capacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
	if wait := r.header.Get("Retry-After"); r.status != http.StatusServiceUnavailable || p.Type != capacity || p.RetryAfter < 1 || wait != strconv.Itoa(p.RetryAfter) {
		t.Fatalf("answer %d, Retry-After %q: %s; want a 503 for want of capacity", r.status, wait, r.body)
	}
	return p.Reason
}

// fillUp posts bodies until one is refused, and returns how many were taken.
func fillUp(t *testing.T, srv *server, size, most int, reason string) (taken int) {
	t.Helper()
	c := newCaller(t, 1)
	for ; taken <= most; taken++ {
		r, err := c.do(http.MethodPost, srv.public+"/v1/orders", incompressible(size))
		if err != nil {
			t.Fatal(err)
		}
		if r.status == http.StatusAccepted {
			continue
		}
		if got := refusedWith(t, r); got != reason {
			t.Fatalf("refused with %s after %d of %d bytes, want %s", got, taken, size, reason)
		}
		wantCounted(t, srv, reason)
		return taken
	}
	t.Fatalf("%d of %d bytes were taken, want that it is full before", taken, size)
	return 0
}

// wantCounted fails the test unless the metrics say why requests were refused.
func wantCounted(t *testing.T, srv *server, reason string) {
	t.Helper()
	refused, _ := metric(t, srv, fmt.Sprintf("forebay_ingress_refusals_total{reason=%q,route=%q}", reason, "create-order"))
	full, _ := metric(t, srv, `forebay_ingress_requests_total{code="503",decision="full",route="create-order"}`)
	if refused < 1 || full != refused {
		t.Errorf("%v refusals with %s, %v requests that found it full; want the same, and some", refused, reason, full)
	}
}

// takesAgain opens the drain and waits until all that was taken is delivered, and
// more is taken.
func takesAgain(t *testing.T, site *site, srv *server, policy string, taken int) {
	t.Helper()
	site.setPolicy(policy)
	if r := reload(t, srv); r.status != http.StatusOK {
		t.Fatalf("reload = %d: %s", r.status, r.body)
	}
	c := newCaller(t, 1)
	until(t, 20*time.Second, "an order is taken again", func() bool {
		r, err := c.do(http.MethodPost, srv.public+"/v1/orders", []byte("{}"))
		return err == nil && r.status == http.StatusAccepted
	})
	if got := settle(t, srv, 20*time.Second); got.Delivered != taken+1 {
		t.Errorf("%d delivered, want the %d that were taken and the one after", got.Delivered, taken)
	}
}

// A stream at its max_bytes refuses, says until when, and takes again as it drains.
func TestStreamFull(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	full := clauses{stream: "max_bytes: 1MiB"}
	site := newSite(t, full.policy(shop.url, "0"))
	srv := site.start()
	taken := fillUp(t, srv, 60_000, 30, "buffer-full")
	if got := audit(t, srv); got.Buffered != taken || taken*60_000 < 1<<20 {
		t.Errorf("%d buffered of %d taken, want all, and at least 1 MiB", got.Buffered, taken)
	}
	takesAgain(t, site, srv, full.policy(shop.url, "unlimited"), taken)
}

// While a stream fills evenly `forebay streams` and the metrics say when it is full.
func TestForecast(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	srv := newSite(t, clauses{stream: "max_bytes: 4MiB"}.policy(shop.url, "0")).start()
	c, body, tick := newCaller(t, 1), incompressible(60_000), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for i := range 35 { // of the 70 that fill it
		<-tick.C
		if _, err := c.post(srv.public, body); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	took := time.Since(began)
	var list []struct {
		FullAt *time.Time `json:"full_at"`
	}
	cliJSON(t, srv, "streams", "", &list)
	if len(list) != 1 || list[0].FullAt == nil {
		t.Fatalf("streams = %+v, want one with a full_at", list)
	}
	// It was measured from the start of the program on, a little before.
	if off := list[0].FullAt.Sub(began.Add(2 * took)); off.Abs() > took*3/10 {
		t.Errorf("half full after %v, and forecast to be full %v from when it would be", took, off)
	}
	at, _ := metric(t, srv, `forebay_stream_full_timestamp_seconds{stream="orders"}`)
	if off := time.UnixMilli(int64(at * 1000)).Sub(*list[0].FullAt); off.Abs() > took*3/10 {
		t.Errorf("the metric is off by %v from what the command says", off)
	}
	if at, ok := metric(t, srv, "forebay_buffer_full_timestamp_seconds"); !ok || at < float64(time.Now().Unix()) {
		t.Errorf("forebay_buffer_full_timestamp_seconds = %v, want that it is not full yet", at)
	}
}

// At buffer.max_bytes everything is refused, while what is stored drains.
func TestBufferFull(t *testing.T) {
	t.Parallel()
	shop := newSink(t, nil)
	var plain clauses
	site := newSite(t, plain.policy(shop.url, "0"))
	site.write("forebay.yaml", "version: 1\nbuffer: { segment_bytes: 1MiB, max_bytes: 14MiB }\nshutdown: { delay: 200ms, timeout: 5s }\n")
	srv := site.start()
	taken := fillUp(t, srv, 60_000, 250, "disk-full")
	if v, _ := metric(t, srv, "forebay_buffer_read_only"); v != 1 {
		t.Errorf("forebay_buffer_read_only = %v while appends are refused, want 1", v)
	}
	if at, ok := metric(t, srv, "forebay_buffer_full_timestamp_seconds"); !ok || math.Abs(at-float64(time.Now().Unix())) > 5 {
		t.Errorf("forebay_buffer_full_timestamp_seconds = %v while appends are refused, want now", at)
	}
	takesAgain(t, site, srv, plain.policy(shop.url, "unlimited"), taken)
}

// The largest message there may be is taken, survives a crash, and arrives byte
// for byte; one byte more is refused.
func TestLargestMessage(t *testing.T) {
	t.Parallel()
	const most = 16 << 20
	shop := newSink(t, nil)
	large := clauses{stream: "max_message_bytes: 16MiB", route: "max_body: 16MiB"}
	site := newSite(t, large.policy(shop.url, "0"))
	srv := site.start()
	body := incompressible(most + 1)
	rec, err := newCaller(t, 1).post(srv.public, body[:most])
	if err != nil {
		t.Fatal(err)
	}
	r, err := newCaller(t, 1).do(http.MethodPost, srv.public+"/v1/orders", body)
	if err != nil || r.status != http.StatusRequestEntityTooLarge || problemType(t, r) != "urn:forebay:problem:too-large" {
		t.Errorf("one byte more = %d, %v: %s; want 413", r.status, err, r.body)
	}
	srv.kill()
	site.setPolicy(large.policy(shop.url, "unlimited"))
	if got := settle(t, site.start(), 20*time.Second); got.Delivered != 1 {
		t.Errorf("audit = %+v, want it delivered", got)
	}
	if log := shop.arrivals(); len(log) != 1 || log[0].ID != rec.ID || !log[0].Whole || log[0].Sum != sha256.Sum256(body[:most]) {
		t.Errorf("%d arrivals, want one of %s, byte for byte", len(log), rec.ID)
	}
}

// Many of the largest at once are taken or refused, within the memory there is for
// them; the refused get their answer, though they are still sending.
func TestManyLargeMessages(t *testing.T) {
	shop := newSink(t, nil)
	large := clauses{stream: "max_message_bytes: 16MiB", route: "max_body: 16MiB"}
	srv := newSite(t, large.policy(shop.url, "0")).start()
	body, c := incompressible(16<<20), newCaller(t, 50)
	var mu sync.Mutex
	answers := map[string]int{}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			r, err := c.do(http.MethodPost, srv.public+"/v1/orders", body)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				answers[err.Error()]++
			case r.status == http.StatusAccepted:
				answers["taken"]++
			default:
				answers[refusedWith(t, r)]++
			}
		})
	}
	wg.Wait()
	if answers["taken"] == 0 || answers["overloaded"] == 0 || len(answers) != 2 {
		t.Errorf("answers %v, want some taken and the others overloaded", answers)
	}
	wantCounted(t, srv, "overloaded")
	// Bodies may hold 256 MiB and commits 64 MiB; the collector lets as much again
	// gather, and a body that grows leaves its halves behind. Unbounded, 50 would take 1600.
	if peak := peakMemory(t, srv); peak > 1200<<20 {
		t.Errorf("%d MiB resident at the peak", peak>>20)
	}
	if _, err := c.post(srv.public, body); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if got := audit(t, srv); got.Buffered != answers["taken"]+1 {
		t.Errorf("%d buffered, want the %d that were taken and one", got.Buffered, answers["taken"])
	}
}

// peakMemory is the most that the program had resident, in bytes; 0 where the
// system does not tell.
func peakMemory(t *testing.T, srv *server) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", srv.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
