package main_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A sink that cannot be reached, or answers nonsense, is tried again and named;
// the program and its other work go on.
func TestBadSinks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		url  func(t *testing.T) string
	}{
		{"does not resolve", func(*testing.T) string { return "http://no-such-host.invalid" }},
		{"refuses connections", func(t *testing.T) string {
			ln := listen(t)
			ln.Close()
			return "http://" + ln.Addr().String()
		}},
		{"answers garbage", func(t *testing.T) string { return garbage(t, "\x16\x03\x01 \x00\xff not http at all\r\n\r\n") }},
		{"hangs up", func(t *testing.T) string { return garbage(t, "") }},
		{"breaks off", func(t *testing.T) string { return garbage(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := newSite(t, orderPolicy(tt.url(t), "50/s")).start()
			id := postAll(t, srv.public, realOrders(t)[:1], 1)[0].ID
			c := newCaller(t, 1)
			until(t, 20*time.Second, "two attempts on the receipt, and an error", func() bool {
				d := getReceipt(t, c, srv.public, id).Drains[0]
				return d.Attempts >= 2 && d.LastError != ""
			})
			if now := getReceipt(t, c, srv.public, id); now.State == "delivered" || now.State == "dead" {
				t.Errorf("receipt: %+v, want that it waits for its next attempt", now)
			}
			if n := failures(t, srv, "orders-to-shop", "shop"); n < 2 {
				t.Errorf("forebay_drain_attempts_total counts %d failures of the sink, want at least 2", n)
			}
			// One that can be reached takes what waited.
			if got := audit(t, srv); got.Buffered != 1 || got.Dead != 0 {
				t.Errorf("audit = %+v, want the message buffered", got)
			}
			srv.stop()
		})
	}
}

// A sink that comes back gets what it could not take.
func TestSinkComesBack(t *testing.T) {
	late := watchLateness(t)
	shop := newSink(t, func(log []arrival, _ arrival) answer {
		if len(log) < 10 {
			return answer{status: http.StatusInternalServerError}
		}
		return answer{status: http.StatusOK}
	})
	srv := newSite(t, orderPolicy(shop.url, "50/s")).start()
	receipts := postAll(t, srv.public, realOrders(t)[:20], 4)
	got := settle(t, srv, 20*time.Second)
	if got.Delivered != len(receipts) || got.Dead != 0 {
		t.Errorf("audit = %+v, want %d delivered", got, len(receipts))
	}
	log := shop.arrivals()
	if len(log) != len(receipts)+10 {
		t.Errorf("%d attempts, want %d", len(log), len(receipts)+10)
	}
	if breach := (envelope{rate: 50, burst: 1, late: late.max()}).breach(times(log)); breach != "" {
		t.Errorf("first attempts and retries together: %s", breach)
	}
}

// failures counts the attempts of a drain that the sink failed.
func failures(t *testing.T, srv *server, drain, sink string) int {
	t.Helper()
	n := 0
	for _, outcome := range []string{"retry", "timeout"} {
		v, _ := metric(t, srv, fmt.Sprintf("forebay_drain_attempts_total{drain=%q,outcome=%q,sink=%q}", drain, outcome, sink))
		n += int(v)
	}
	return n
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// garbage is a server that reads a request's head, says that, and hangs up.
func garbage(t *testing.T, say string) string {
	t.Helper()
	ln := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second)) // a failure shows in the read
			r := bufio.NewReader(conn)
			for line := "-"; strings.TrimSpace(line) != ""; {
				if line, err = r.ReadString('\n'); err != nil {
					break
				}
			}
			_, _ = conn.Write([]byte(say)) // the other side may be gone
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return "http://" + ln.Addr().String()
}
