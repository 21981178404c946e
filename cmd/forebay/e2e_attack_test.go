package main_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// An attack is what so many callers do at once, again and again.
type attack struct {
	callers int
	every   int // how often they come again, in attackEvery; 0: 1
	// once is one connection's life. It returns the status that it was answered with, 0 for
	// none, and may not outlast ctx by much.
	once func(ctx context.Context, c net.Conn) int
	// statuses are what it may be answered with.
	statuses []int
	// quiet attacks hold on without being answered while it lasts.
	quiet bool
}

// attackEvery is how often a caller comes again at most: the attackers' own work is done
// on this machine, and in this process, too.
const attackEvery = 50 * time.Millisecond

// slowly sends head, and then a byte ten times a second.
func slowly(head string) func(context.Context, net.Conn) int {
	return func(ctx context.Context, c net.Conn) int {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for _, err := io.WriteString(c, head); err == nil; _, err = io.WriteString(c, "x") {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return 0
			}
		}
		return 0
	}
}

// sending sends head, and then more until it is answered.
func sending(head, more string) func(context.Context, net.Conn) int {
	return func(_ context.Context, c net.Conn) int {
		go func() {
			tick := time.NewTicker(time.Millisecond) // see attackEvery
			defer tick.Stop()
			for _, err := io.WriteString(c, head); err == nil && more != ""; _, err = io.WriteString(c, more) {
				<-tick.C
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
}

// bomb is 512 MiB of zeros: members, or frames, one after another, as both formats allow,
// of which one is made. Each is larger than what a decoder looks back on.
func bomb(t *testing.T, encoding string) string {
	t.Helper()
	const members, size = 32, 16 << 20
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if encoding == "zstd" {
		var err error
		if w, err = zstd.NewWriter(&b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat(b.String(), members)
	return fmt.Sprintf("POST /v1/logs HTTP/1.1\r\nHost: h\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", encoding, len(body), body)
}

// TestAttacks: whatever strangers send, memory stays bounded, and others are served as
// before: their p99 is within twice what it is without the attack and 20 ms. That is
// held with FOREBAY_INTEGRATION; elsewhere, where others may use the machine too, they
// have half a second.
func TestAttacks(t *testing.T) {
	const post = "POST /v1/orders HTTP/1.1\r\nHost: h\r\n"
	chunk := "10000\r\n" + strings.Repeat("x", 64<<10) + "\r\n"
	attacks := map[string]attack{
		"slow headers":     {callers: 300, once: slowly(post + "X: "), quiet: true},
		"slow bodies":      {callers: 300, once: slowly(post + "Content-Length: 60000\r\n\r\n"), quiet: true},
		"declared 1 GiB":   {callers: 8, once: sending(post+"Content-Length: 1073741824\r\n\r\n", chunk), statuses: []int{413}},
		"endless chunks":   {callers: 8, once: sending(post+"Transfer-Encoding: chunked\r\n\r\n", chunk), statuses: []int{413}},
		"gzip bombs":       {callers: 4, every: 10, once: sending(bomb(t, "gzip"), ""), statuses: []int{413, 503}},
		"zstd bombs":       {callers: 4, every: 10, once: sending(bomb(t, "zstd"), ""), statuses: []int{413, 503}},
		"many fields":      {callers: 8, once: sending(post+strings.Repeat("X: y\r\n", 5000)+"\r\n", ""), statuses: []int{431}},
		"large headers":    {callers: 8, once: sending(post, "X: "+strings.Repeat("y", 4000)+"\r\n"), statuses: []int{431}},
		"a trailer no end": {callers: 8, once: sending(post+"Transfer-Encoding: chunked\r\n\r\n0\r\n", "X: "+strings.Repeat("y", 500)+"\r\n"), statuses: []int{400}},
	}
	shop := newSink(t, nil)
	srv := newSite(t, orderPolicy(shop.url, "unlimited")+`  - { name: logs, match: { path: /v1/logs }, mode: buffer, stream: orders, split: lines }
`).start()
	orders := realOrders(t)[:120]
	acceptP99(t, srv.public, orders, 8, 400) // what a start makes once
	before, _ := metric(t, srv, "process_resident_memory_bytes")
	most := 500 * time.Millisecond
	if os.Getenv("FOREBAY_INTEGRATION") != "" {
		most = 20 * time.Millisecond
	}
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			const rounds = 20
			var alone, beside []time.Duration
			for range rounds {
				alone = append(alone, acceptP99(t, srv.public, orders, 8, 400))
				stop := a.begin(t, strings.TrimPrefix(srv.public, "http://"))
				beside = append(beside, acceptP99(t, srv.public, orders, 8, 400))
				// Bodies may take 256 MiB; the rest is small.
				if during, ok := metric(t, srv, "process_resident_memory_bytes"); ok && during-before > 320<<20 {
					t.Errorf("it takes %.0f MiB more than before", (during-before)/(1<<20))
				}
				stop()
				if n := len(beside) - 1; beside[n] <= 2*alone[n]+most {
					break
				}
			}
			t.Logf("%s: p99 alone %v, beside it %v", name, alone, beside)
			if n := len(beside) - 1; beside[n] > 2*alone[n]+most {
				t.Errorf("others were never served as before: p99 alone %v, beside it %v", alone, beside)
			}
		})
	}
}

// begin has the attack go on until stop, which fails the test unless it was refused as it
// has to be.
func (a attack) begin(t *testing.T, addr string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var answered, wrong atomic.Int64
	for range a.callers {
		wg.Go(func() {
			pace := time.NewTicker(attackEvery * time.Duration(max(1, a.every)))
			defer pace.Stop()
			for ; ctx.Err() == nil; <-pace.C {
				c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
				if err != nil {
					continue
				}
				end := context.AfterFunc(ctx, func() { c.Close() })
				status := a.once(ctx, c)
				end()
				c.Close()
				if ctx.Err() != nil {
					return
				}
				if status != 0 {
					answered.Add(1)
				}
				ok := false
				for _, want := range a.statuses {
					ok = ok || status == want
				}
				if !ok {
					wrong.Store(int64(status))
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		if !a.quiet && answered.Load() == 0 {
			t.Error("none of it was answered")
		}
		if s := wrong.Load(); s != 0 {
			t.Errorf("some of it was answered with %d, want one of %v", s, a.statuses)
		}
	}
}
