package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// server is one that is served over real connections, or pipes in a bubble.
type server struct {
	*Server
	t   *testing.T
	log *bytes.Buffer
	ln  net.Listener
}

func newServer(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	log := &bytes.Buffer{}
	return &server{t: t, log: log, Server: New(&http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 8 << 10,
	}, func(w http.ResponseWriter, _ *http.Request, f *Fault) { http.Error(w, f.Detail, f.Status) },
		slog.New(slog.NewTextHandler(log, nil)))}
}

// listen serves on a loopback address until the test ends.
func (s *server) listen() {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.ln = ln
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	s.t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			s.t.Errorf("Serve: %v", err)
		}
	})
}

// client is one connection.
type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (s *server) dial() *client {
	s.t.Helper()
	if s.ln == nil {
		s.listen()
	}
	c, err := net.Dial("tcp", s.ln.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return &client{c, s.t, bufio.NewReader(c)}
}

// pipe is dial without a network, for a bubble.
func (s *server) pipe() *client {
	c, theirs := net.Pipe()
	s.start(theirs)
	return &client{c, s.t, bufio.NewReader(c)}
}

func (c *client) send(raw string) {
	c.t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one, with its body.
func (c *client) answer(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read an answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("read an answer's body: %v", err)
	}
	return resp, string(body)
}

func (c *client) ask(raw string, status int, body string) *http.Response {
	c.t.Helper()
	c.send(raw)
	resp, got := c.answer(strings.Fields(raw)[0])
	if resp.StatusCode != status || got != body {
		c.t.Fatalf("%q: status %d, body %q; want %d, %q", raw, resp.StatusCode, got, status, body)
	}
	return resp
}

func (c *client) ended() {
	c.t.Helper()
	if n, err := io.Copy(io.Discard, c.r); n > 0 || err != nil {
		c.t.Errorf("%d bytes and %v at the end of the connection, want its end", n, err)
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+" "+string(body))
}

const length2 = "Content-Length: 2\r\n\r\n"

func TestManyRequestsOnAConnection(t *testing.T) {
	c := newServer(t, echo).dial()
	resp := c.ask(post+length2+"ab", 202, "POST /v1/orders ab")
	if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
		t.Errorf("Date: %v", err)
	}
	c.ask(post+"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n3\r\ncde\r\n0\r\nX-Trailer: x\r\n\r\n", 202, "POST /v1/orders abcde")
	c.ask("GET /x HTTP/1.1\r\nHost: h\r\n\r\n", 202, "GET /x ")
	long := strings.Repeat("x", 300<<10)
	c.ask(post+"Content-Length: 307200\r\n\r\n"+long, 202, "POST /v1/orders "+long)
	if resp := c.ask("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n", 202, ""); resp.ContentLength != int64(len("HEAD /x ")) {
		t.Errorf("HEAD: Content-Length %d", resp.ContentLength)
	}
	// All at once, and one cut in the middle of its head.
	c.send(post + length2 + "abPOST /second HTTP/1.1\r\nHost: h\r\n" + length2 + "cdPOST /third HTTP/1.1\r")
	c.answer("POST")
	if _, body := c.answer("POST"); body != "POST /second cd" {
		t.Errorf("second: %q", body)
	}
	c.ask("\nHost: h\r\nConnection: close\r\n"+length2+"ef", 202, "POST /third ef")
	c.ended()
}

// TestStringsMayBeKept: what a request said outlives it.
func TestStringsMayBeKept(t *testing.T) {
	var kept []string
	c := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		kept = append(kept, r.Header.Get("X"), r.URL.Path, r.Host)
	}).dial()
	for _, v := range []string{"a", "b", "c"} {
		c.ask("GET /"+v+" HTTP/1.1\r\nHost: h"+v+"\r\nX: x"+v+"\r\n\r\n", 200, "")
	}
	if got := strings.Join(kept, " "); got != "xa /a ha xb /b hb xc /c hc" {
		t.Errorf("kept %s", got)
	}
}

func TestRefusals(t *testing.T) {
	called := false
	s := newServer(t, func(http.ResponseWriter, *http.Request) { called = true })
	for name, tt := range map[string]struct {
		send   string
		status int
	}{
		"smuggled":        {post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"bare LF":         {"GET / HTTP/1.1\nHost: h\n\n", 400},
		"endless line":    {"GET /" + strings.Repeat("x", 8<<10), 414},
		"endless header":  {"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 8<<10), 431},
		"too many fields": {post + strings.Repeat("a:\r\n", maxFields+1) + "\r\n", 431},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.dial()
			c.t = t
			c.send(tt.send)
			resp, body := c.answer("GET")
			if resp.StatusCode != tt.status || !resp.Close || body == "" {
				t.Errorf("status %d, closes %t, body %q; want %d, true", resp.StatusCode, resp.Close, body, tt.status)
			}
			c.ended()
		})
	}
	if called {
		t.Error("the handler saw a request that was refused")
	}
}

// TestBadChunks: a body that lies about its end is an error to the handler, and
// the end of the connection: what follows would be read as a request.
func TestBadChunks(t *testing.T) {
	for name, body := range map[string]string{
		"no number":               "zz\r\n",
		"signed":                  "+2\r\nab\r\n0\r\n\r\n",
		"prefixed":                "0x2\r\nab\r\n0\r\n\r\n",
		"underscore":              "0_2\r\nab\r\n0\r\n\r\n",
		"empty line":              "\r\nab",
		"bare LF":                 "2\nab\r\n0\r\n\r\n",
		"longer than it says":     "2\r\nabc\r\n0\r\n\r\n",
		"beyond numbers":          "ffffffffffffffffff\r\n",
		"bare LF after data":      "2\r\nab\n0\r\n\r\n",
		"endless extension":       "2;" + strings.Repeat("x", 1000),
		"endless trailer":         "0\r\n" + strings.Repeat("X: "+strings.Repeat("y", 200)+"\r\n", 50),
		"bare LF in the trailer":  "0\r\nX: y\n\r\n",
		"space before the number": " 2\r\nab\r\n0\r\n\r\n",
		"CR in an extension":      "2;a\rb\r\nab\r\n0\r\n\r\n",
		"request in the trailer":  "0\r\nGET /x HTTP/1.1\r\n\r\n",
		"fold in the trailer":     "0\r\nX: a\r\n b\r\n\r\n",
		"CR in the trailer":       "0\r\nX: a\rb\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := newServer(t, echo).dial()
			c.send(post + "Transfer-Encoding: chunked\r\n\r\n" + body)
			if resp, _ := c.answer("POST"); resp.StatusCode != 400 || !resp.Close {
				t.Errorf("status %d, closes %t; want 400, true", resp.StatusCode, resp.Close)
			}
			c.ended()
		})
	}
}

func TestContinue(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		echo(w, r)
	})
	c := s.dial()
	c.send(post + "Expect: 100-continue\r\n" + length2)
	line, err := c.r.ReadString('\n')
	if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v; want 100 Continue", line, err)
	}
	if line, err = c.r.ReadString('\n'); err != nil || line != "\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	c.ask("ab", 202, "POST /v1/orders ab")
	c.send("POST /no HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n" + length2)
	if resp, _ := c.answer("POST"); resp.StatusCode != 413 || !resp.Close {
		t.Errorf("refused before it was sent: status %d, closes %t; want 413, true", resp.StatusCode, resp.Close)
	}
	c.ended()
}

// TestUnreadBodies: a body that the handler leaves is read where it is short,
// and ends the connection where it is long; the answer arrives in any case.
func TestUnreadBodies(t *testing.T) {
	s := newServer(t, func(http.ResponseWriter, *http.Request) {})
	c := s.dial()
	c.ask(post+"Content-Length: 100000\r\n\r\n"+strings.Repeat("x", 100000), 200, "")
	c.ask(post+length2+"ab", 200, "")
	if resp := c.ask(post+"Content-Length: 900000\r\n\r\n"+strings.Repeat("x", 10000), 200, ""); !resp.Close {
		t.Error("the connection goes on behind a long body that was not read")
	}
	c.ended()
	// More than the kernel holds, sent before the answer is looked at.
	c = s.dial()
	c.ask(post+"Content-Length: 16777216\r\n\r\n"+strings.Repeat("x", 16<<20), 200, "")
	c.ended()
}

func TestStreams(t *testing.T) {
	next := make(chan string)
	c := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			w.Header().Set("Content-Length", "200000")
			for range 20 {
				_, _ = io.WriteString(w, strings.Repeat("x", 10000))
			}
			return
		}
		for part := range next {
			_, _ = io.WriteString(w, part)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}
	}).dial()
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	next <- "one"
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two", "three"} {
		if want != "one" {
			next <- want
		}
		part := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, part); err != nil || string(part) != want {
			t.Fatalf("%q, %v; want %q", part, err, want)
		}
	}
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Fatalf("%q, %v behind the last part", rest, err)
	}
	if resp := c.ask("GET /long HTTP/1.1\r\nHost: h\r\n\r\n", 200, strings.Repeat("x", 200000)); resp.ContentLength != 200000 {
		t.Errorf("Content-Length %d", resp.ContentLength)
	}
	c.ask("HEAD /long HTTP/1.1\r\nHost: h\r\n\r\n", 200, "")
}

// TestAnswersAreFramed: a handler can neither end a header early nor lie about a length.
func TestAnswersAreFramed(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X", "a\r\nX-Injected: b")
		switch r.URL.Path {
		case "/short":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "abc")
		case "/long":
			w.Header().Set("Content-Length", "3")
			if _, err := io.WriteString(w, "abcdef"); err == nil {
				t.Error("more than Content-Length was taken")
			}
		case "/none":
			w.WriteHeader(http.StatusNoContent)
			if _, err := io.WriteString(w, "a"); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Errorf("a body of a 204: %v", err)
			}
		}
	})
	resp := s.dial().ask("GET /none HTTP/1.1\r\nHost: h\r\n\r\n", 204, "")
	if resp.Header.Get("X") != "a  X-Injected: b" || resp.Header.Get("X-Injected") != "" || resp.Header.Get("Content-Length") != "" {
		t.Errorf("header %v", resp.Header)
	}
	for _, path := range []string{"/short", "/long"} {
		c := s.dial()
		c.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v, want an answer cut short", path, err)
		}
	}
}

func TestPanic(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			panic("at the disco")
		}
		echo(w, r)
	})
	c := s.dial()
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	c.ended()
	s.dial().ask("GET /x HTTP/1.1\r\nHost: h\r\n\r\n", 202, "GET /x ")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if log := s.log.String(); !strings.Contains(log, "at the disco") || !strings.Contains(log, "server_test.go") {
		t.Errorf("log: %s", log)
	}
}

// TestCallerLeaves: a handler that waits hears of it; one that was asked for
// more in the meantime does not, and the next request is whole.
func TestCallerLeaves(t *testing.T) {
	waiting, release := make(chan struct{}), make(chan struct{})
	left := make(chan error, 1)
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/wait" {
			echo(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
		defer cancel()
		close(waiting)
		select {
		case <-ctx.Done():
			left <- ctx.Err()
		case <-release:
		}
	})
	c := s.dial()
	c.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
	<-waiting
	c.send("GET /next HTTP/1.1\r\n")
	close(release)
	c.answer("GET")
	c.ask("Host: h\r\n\r\n", 202, "GET /next ")

	waiting, release = make(chan struct{}), make(chan struct{})
	c.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
	<-waiting
	c.Close()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("context ended with %v", err)
	}
}

// TestWholeBody: a body that is lent out stays as it is while its request lasts,
// whatever the caller sends meanwhile.
func TestWholeBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan string, 1)
		c := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
			var whole []byte
			if b, ok := r.Body.(*body); ok {
				whole = b.Whole()
			}
			if rest, err := io.ReadAll(r.Body); len(rest) > 0 || err != nil {
				t.Errorf("%q, %v behind the whole body", rest, err)
			}
			_ = r.Context().Done() // somebody wants to know when the caller leaves
			time.Sleep(30 * time.Second)
			got <- string(whole)
		}).pipe()
		for _, more := range []string{"", "x", strings.Repeat("y", firstBuffer)} {
			b := strings.Repeat("b", 100)
			next := "GET /" + more + " HTTP/1.1\r\nHost: h\r\n\r\n"
			go func() {
				_, _ = io.WriteString(c, post+"Content-Length: 100\r\n\r\n"+b)
				time.Sleep(time.Second)
				_, _ = io.WriteString(c, next)
			}()
			if whole := <-got; whole != b {
				t.Errorf("the body became %.200q", whole)
			}
			c.answer("POST")
			if whole := <-got; whole != "" {
				t.Errorf("the next request has a body of %q", whole)
			}
			c.answer("GET")
		}
		c.Close()
	})
}

// TestHandedOn: what this server does not speak is answered by net/http.
func TestHandedOn(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, r.Proto)
			return
		}
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.CopyN(nc, rw, 4)
	})
	c := s.dial()
	c.ask("GET / HTTP/1.0\r\n\r\n", 200, "HTTP/1.0")
	c.ended()
	c = s.dial()
	c.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 200, "HTTP/1.1")
	c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nping")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v; want 101", resp, err)
	}
	back := make([]byte, 4)
	if _, err := io.ReadFull(c.r, back); err != nil || string(back) != "ping" {
		t.Errorf("%q, %v; want ping", back, err)
	}
}

func TestShutdown(t *testing.T) {
	waiting, release := make(chan struct{}), make(chan struct{})
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(waiting)
			<-release
		}
	})
	idle, busy := s.dial(), s.dial()
	idle.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 200, "")
	busy.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
	<-waiting
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	idle.ended()
	if _, err := net.Dial("tcp", s.ln.Addr().String()); err == nil {
		t.Error("a connection is accepted while shutting down")
	}
	select {
	case err := <-ended:
		t.Fatalf("shut down with a request at hand: %v", err)
	default:
	}
	close(release)
	if resp, _ := busy.answer("GET"); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("status %d, closes %t; want 200, true", resp.StatusCode, resp.Close)
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := s.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

// Who had begun when the stop came, and was neither accepted nor read yet, is
// answered; who keeps coming does not hold the stop up.
func TestShutdownSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, echo)
		idle := s.pipe()
		idle.ask("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n", 202, "GET /1 ")
		ended := make(chan error, 1)
		began := time.Now()
		go func() { ended <- s.Shutdown(t.Context()) }()
		synctest.Wait()
		fresh := s.pipe()
		for _, c := range []*client{idle, fresh} {
			if resp := c.ask("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n", 202, "GET /2 "); !resp.Close {
				t.Error("the connection stays open while shutting down")
			}
		}
		idle.ended()
		fresh.ended()
		for time.Since(began) < 2*settleMost {
			s.pipe()
			time.Sleep(settleQuiet / 2)
		}
		s.pipe().ended()
		if err := <-ended; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

func TestShutdownCutOff(t *testing.T) {
	waiting := make(chan struct{})
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		close(waiting)
		<-r.Context().Done()
	})
	c := s.dial()
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-waiting
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	s.Close()
	_, _ = io.Copy(io.Discard, c.r) // it ends
}

// TestTimeouts: nobody holds a connection by being slow. Time is virtual.
func TestTimeouts(t *testing.T) {
	s := func(t *testing.T, failed *atomic.Bool) *server {
		return newServer(t, func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			if r.URL.Path == "/long" {
				_, err = io.WriteString(w, strings.Repeat("x", 1<<20))
			}
			failed.Store(err != nil)
		})
	}
	for _, tt := range []struct {
		name, send string
		slowly     bool // the rest comes a byte a second
		want       time.Duration
		answered   bool
	}{
		{"silent", "", false, 5 * time.Second, false},
		{"idle after a request", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", false, 2 * time.Minute, true},
		{"slow head", "GET / HTTP/1.1\r\n" + strings.Repeat("x", 1000), true, 5 * time.Second, false},
		{"slow body", post + "Content-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000), true, 30 * time.Second, true},
		{"slow reader", "GET /long HTTP/1.1\r\nHost: h\r\n\r\n", false, time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var failed atomic.Bool
				c := s(t, &failed).pipe()
				began := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() {
					head, rest, _ := strings.Cut(tt.send, "xx")
					if _, err := io.WriteString(c, head); err != nil || !tt.slowly {
						return
					}
					for i := range rest {
						time.Sleep(time.Second)
						if _, err := io.WriteString(c, rest[i:i+1]); err != nil {
							return
						}
					}
				})
				if tt.name == "slow reader" {
					time.Sleep(3 * time.Minute)
					if !failed.Load() {
						t.Error("an answer that nobody reads is not given up")
					}
				}
				rest, _ := io.ReadAll(c)
				if answered := bytes.HasPrefix(rest, []byte("HTTP/1.1 200")); answered != tt.answered {
					t.Errorf("answered %q", rest)
				}
				if took := time.Since(began); tt.name != "slow reader" && (took < tt.want || took > tt.want+2*time.Second) {
					t.Errorf("ended after %v, want %v", took, tt.want)
				}
				if tt.name == "slow body" && !failed.Load() {
					t.Error("the handler was not told")
				}
				c.Close()
				sending.Wait()
			})
		})
	}
}

// TestBusyConnectionIsNotTimedOut: limits end with what they were for.
func TestBusyConnectionIsNotTimedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			time.Sleep(45 * time.Second)
		})
		c := s.pipe()
		for range 5 {
			c.ask(post+length2+"ab", 200, "")
			time.Sleep(119 * time.Second)
		}
		c.Close()
	})
}

// TestStopsLooking: without connections nothing runs.
func TestStopsLooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, echo)
		for range 3 {
			c := s.pipe()
			c.ask("GET /x HTTP/1.1\r\nHost: h\r\n\r\n", 202, "GET /x ")
			c.Close()
			synctest.Wait()
			if s.watched != nil {
				t.Error("limits are looked after without a connection")
			}
		}
	})
}
