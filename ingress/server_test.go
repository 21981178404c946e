package ingress

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestServerBoundsEverything(t *testing.T) {
	s := limits(http.NotFoundHandler(), ServerConfig{}, slog.New(slog.DiscardHandler))
	for name, d := range map[string]time.Duration{
		"ReadHeaderTimeout": s.ReadHeaderTimeout, "ReadTimeout": s.ReadTimeout, "IdleTimeout": s.IdleTimeout, "WriteTimeout": s.WriteTimeout,
	} {
		if d <= 0 {
			t.Errorf("%s is not set", name)
		}
	}
	if s.WriteTimeout <= s.ReadTimeout+defaultWaitMax {
		t.Errorf("WriteTimeout %v cuts a wait of %v short", s.WriteTimeout, defaultWaitMax)
	}
	if s.MaxHeaderBytes != 32<<10 {
		t.Errorf("MaxHeaderBytes = %d, want 32 KiB", s.MaxHeaderBytes)
	}
}

// serve runs a real server and returns a connection to it.
func serve(t *testing.T, f *fixture) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(f, ServerConfig{}, slog.New(slog.DiscardHandler))
	done := make(chan error)
	go func() { done <- s.Serve(LimitListener(l, 10)) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestOverTheWire(t *testing.T) {
	tests := []struct {
		name, send string
		want       int
		closes     bool
	}{
		{"accepted", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 202, false},
		{"accepted in chunks", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 202, false},
		{"absolute form", "POST http://h/v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 202, false},
		{"refused before 100 Continue", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", 413, true},
		{"no route before 100 Continue", "POST /none HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", 404, true},
		{"body cut short", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, true},
		{"double slash", "POST //v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 400, false},
		{"dot segment", "POST /v1/../v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 400, false},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400, false},
		{"connect", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 400, false},
		{"two lengths", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400, true},
		{"length and chunks", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400, true},
		{"folded field", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}", 400, true},
		{"bare LF", "POST /v1/orders HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}", 400, true},
		{"request line too long", "POST /" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n", 414, true},
		{"target too long", "POST /" + strings.Repeat("x", 9<<10) + " HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 414, false},
		{"another version", "POST /v1/orders HTTP/2.0\r\nHost: h\r\n\r\n", 400, true},
		{"HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, true},
		{"expects too much", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", 400, true},
		{"header too large", "POST /v1/orders HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, newFixture(t))
			if _, err := io.WriteString(c, tt.send); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.want || resp.Close != tt.closes {
				t.Errorf("status %d, closes %t; want %d, %t", resp.StatusCode, resp.Close, tt.want, tt.closes)
			}
			if resp.StatusCode == http.StatusAccepted {
				return
			}
			p := decode[problemDocument](t, resp)
			if resp.Header.Get("Content-Type") != "application/problem+json" || p.Status != tt.want || p.RequestID == "" || p.Instance == "" || tt.name == "expects too much" && p.Instance != "/v1/orders" {
				t.Errorf("answered %+v as %s", p, resp.Header.Get("Content-Type"))
			}
		})
	}
}

// chanListener accepts what it is sent.
type chanListener struct {
	net.Listener
	conns chan net.Conn
}

func (l chanListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l chanListener) Close() error {
	close(l.conns)
	return nil
}

func TestLimitListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := chanListener{conns: make(chan net.Conn, 3)}
		for range 3 {
			_, server := net.Pipe()
			inner.conns <- server
		}
		l := LimitListener(inner, 2)
		accepted := make(chan net.Conn, 3)
		go func() {
			defer close(accepted)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- c
			}
		}()
		synctest.Wait()
		if got := len(accepted); got != 2 {
			t.Fatalf("%d connections accepted, want 2", got)
		}
		first := <-accepted
		first.Close()
		first.Close() // gives its slot back once
		synctest.Wait()
		if got := len(accepted); got != 2 {
			t.Fatalf("%d connections accepted after one closed, want 2", got)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for c := range accepted {
			c.Close()
		}
	})
}
