package http_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"io"
	"log"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"forebay/drain"
	"forebay/drain/sink/http"
)

// talker answers each request of a connection with the next of some bytes, and keeps the
// connection open until it is told.
type talker struct {
	url         string
	connections atomic.Int64

	mu   sync.Mutex
	open []net.Conn // guarded by mu
}

func newTalker(t *testing.T, answers ...string) *talker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &talker{url: "http://" + l.Addr().String()}
	var wg sync.WaitGroup
	var asked atomic.Int64
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.connections.Add(1)
			s.mu.Lock()
			s.open = append(s.open, c)
			s.mu.Unlock()
			wg.Go(func() {
				for r := bufio.NewReader(c); ; {
					req, err := nethttp.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body) // the answer is the test
					_, _ = io.WriteString(c, answers[min(int(asked.Add(1)), len(answers))-1])
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); s.hangUp(); wg.Wait() })
	return s
}

func (s *talker) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		c.Close()
	}
	s.open = nil
}

// say writes what nobody asked for.
func (s *talker) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		_, _ = io.WriteString(c, text) // one of before is closed
	}
}

// until waits for so many idle connections, and so many of them that are quiet.
func until(t *testing.T, s *http.Sink, all, quiet int) {
	t.Helper()
	for ends := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		a, q := s.Idle()
		if a == all && q == quiet {
			return
		}
		if time.Now().After(ends) {
			t.Fatalf("%d connections are idle, %d of them quiet; want %d and %d", a, q, all, quiet)
		}
	}
}

const fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// What ends an answer is understood as by others, or it is refused; after anything odd
// the connection is not used again.
func TestClientFraming(t *testing.T) {
	tests := []struct {
		name, answer string
		class        drain.Class
		again        bool
	}{
		{"a length", fine, drain.Success, true},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", drain.Success, true},
		{"no body, with a length all the same", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", drain.Retry, true},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", drain.Success, true},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", drain.Success, true},
		{"chunks and a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", drain.Success, true},
		{"1xx before", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + fine, drain.Success, true},
		{"the same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", drain.Success, true},
		{"a field longer than the buffer", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 10_000) + "\r\nContent-Length: 0\r\n\r\n", drain.Success, true},

		{"it says that it closes", "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", drain.Success, false},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", drain.Success, false},
		{"a length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", drain.Success, false},
		{"a bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", drain.Success, false},
		{"a folded field", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", drain.Success, false},
		{"more than was asked for", fine + fine, drain.Success, false},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", drain.Retry, false},

		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", drain.Retry, false},
		{"a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", drain.Retry, false},
		{"a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", drain.Retry, false},
		{"a length without end", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok", drain.Retry, false},
		{"no length in it", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", drain.Retry, false},
		{"a folded length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n 3\r\n\r\nok", drain.Retry, false},
		{"a coding that is not known", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", drain.Retry, false},
		{"chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", drain.Retry, false},
		{"a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", drain.Retry, false},
		{"a line that is no field", "HTTP/1.1 200 OK\r\nContent-Length\r\n\r\nok", drain.Retry, false},
		{"a first line that is folded", "HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\nok", drain.Retry, false},
		{"a control in a field", "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok", drain.Retry, false},
		{"a chunk that is longer than it says", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n", drain.Retry, false},
		{"HTTP/2", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", drain.Retry, false},
		{"a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", drain.Retry, false},
		{"a status below all", "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", drain.Retry, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sink := newTalker(t, tt.answer, fine)
			s := newSink(t, policy(t, sink.url))
			if got := deliver(t, s, order()); got.Class != tt.class {
				t.Errorf("outcome = %+v, want class %v", got, tt.class)
			}
			if got := deliver(t, s, order()); got.Class != drain.Success {
				t.Errorf("the next outcome = %+v", got)
			}
			if got := sink.connections.Load() == 1; got != tt.again {
				t.Errorf("%d connections for two requests, want the first used again: %v", sink.connections.Load(), tt.again)
			}
		})
	}
}

// A body without a length ends with its connection, and is read to there.
func TestClientBodyToTheEnd(t *testing.T) {
	m := order()
	m.KeepAnswer = 100
	got := deliver(t, newSink(t, policy(t, speaker(t, "HTTP/1.1 200 OK\r\nX: y\r\n\r\nall of it"))), m)
	if got.Class != drain.Success || string(got.Answer.Body) != "all of it" || got.Answer.Header[0].Value != "y" {
		t.Errorf("outcome = %+v", got)
	}
}

// A connection that the sink closed, or on which it said something unasked, is not
// used: a request is neither lost on it nor answered by what was there before.
func TestClientConnectionIsStale(t *testing.T) {
	for name, spoil := range map[string]func(*talker){
		"closed":  (*talker).hangUp,
		"unasked": func(s *talker) { s.say("HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 0\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			sink := newTalker(t, fine)
			s := newSink(t, policy(t, sink.url))
			for i := range int64(3) {
				if got := deliver(t, s, order()); got.Class != drain.Success {
					t.Fatalf("outcome %d = %+v", i, got)
				}
				if n := sink.connections.Load(); n != i+1 {
					t.Fatalf("%d connections after %d were spoilt", n, i)
				}
				until(t, s, 1, 1)
				spoil(sink)
				until(t, s, 1, 0)
			}
		})
	}
}

// The end of what one attempt is made under says nothing of the next.
func TestClientContexts(t *testing.T) {
	sink := newTalker(t, fine)
	s := newSink(t, policy(t, sink.url))
	for i := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			if got := s.Deliver(drain.WithBegin(ctx, func() error { return nil }), []drain.Delivery{order()})[0]; got.Class != drain.Success {
				t.Fatalf("outcome %d = %+v", i, got)
			}
		}
		cancel()
		if got := s.Deliver(ctx, []drain.Delivery{order()})[0]; got.Class != drain.Retry || !strings.HasPrefix(got.Error, "abandoned: ") {
			t.Fatalf("after its end: outcome = %+v", got)
		}
	}
}

func TestClientClosesIdle(t *testing.T) {
	sink := newTalker(t, fine)
	s := newSink(t, policy(t, sink.url))
	for n := range int64(2) {
		deliver(t, s, order())
		until(t, s, 1, 1)
		s.CloseIdleConnections()
		until(t, s, 0, 0)
		if sink.connections.Load() != n+1 {
			t.Errorf("%d connections, want one more each time", sink.connections.Load())
		}
	}
}

// What is idle for long is closed, and nothing else.
func TestClientIdleEnds(t *testing.T) {
	sink := newTalker(t, fine)
	s := newSink(t, policy(t, sink.url))
	deliver(t, s, order())
	s.Age(time.Minute)
	until(t, s, 1, 1)
	s.Age(time.Minute)
	until(t, s, 0, 0)
}

func TestClientTLS(t *testing.T) {
	var connections, asked atomic.Int64
	srv := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		asked.Add(1)
		if r.ProtoMajor != 1 || r.TLS == nil {
			t.Errorf("asked by %s, TLS %+v", r.Proto, r.TLS)
		}
		_, _ = io.Copy(w, r.Body)
	}))
	srv.Config.ConnState = func(_ net.Conn, state nethttp.ConnState) {
		if state == nethttp.StateNew {
			connections.Add(1)
		}
	}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that fails
	srv.StartTLS()
	defer srv.Close()
	s := newSink(t, policy(t, srv.URL))
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	s.Trust(pool)
	for range 5 {
		m := order()
		m.KeepAnswer = 100
		if got := deliver(t, s, m); got.Class != drain.Success || string(got.Answer.Body) != string(m.Body) {
			t.Fatalf("outcome = %+v", got)
		}
	}
	if connections.Load() != 1 || asked.Load() != 5 {
		t.Errorf("%d connections for %d requests", connections.Load(), asked.Load())
	}
	srv.CloseClientConnections()
	until(t, s, 1, 0)
	if got := deliver(t, s, order()); got.Class != drain.Success {
		t.Errorf("after the sink closed its connection: %+v", got)
	}
	other := newSink(t, policy(t, strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)))
	other.Trust(pool)
	if got := deliver(t, other, order()); !strings.HasPrefix(got.Error, "tls: ") {
		t.Errorf("under a name that its certificate does not have: %+v", got)
	}
}
