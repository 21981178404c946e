package main_test

import (
	"context"
	"crypto/sha256"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// An arrival is one attempt as the sink saw it.
type arrival struct {
	At     time.Time // when its first bytes reached the machine; wall clock
	ID     string    // Forebay-Id
	Method string
	Target string
	Header http.Header
	Sum    sum  // of the body
	Whole  bool // false: the connection broke within the body
	Status int  // what the sink answered
}

type sum [sha256.Size]byte

// An answer is what the sink says to one attempt.
type answer struct {
	status int
	after  time.Duration
	header http.Header
	body   []byte
}

// A sink is a real HTTP server that writes down every attempt.
type sink struct {
	url string

	mu     sync.Mutex
	log    []arrival                             // guarded by mu; in order of handling
	answer func(log []arrival, a arrival) answer // called under mu; nil: 200 at once
}

func newSink(t *testing.T, say func(log []arrival, a arrival) answer) *sink {
	t.Helper()
	config := net.ListenConfig{Control: stampSocket}
	ln, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newSinkOn(t, ln, say)
}

func newSinkOn(t *testing.T, ln net.Listener, say func(log []arrival, a arrival) answer) *sink {
	s := &sink{url: "http://" + ln.Addr().String(), answer: say}
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, stampKey{}, c)
		},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(stampListener{ln}) // ends with Close
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := arrival{
		At:     r.Context().Value(stampKey{}).(*stampConn).requestAt(),
		ID:     r.Header.Get("Forebay-Id"),
		Method: r.Method,
		Target: r.RequestURI,
		Header: r.Header,
		Status: http.StatusOK,
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 17<<20))
	a.Sum, a.Whole = sha256.Sum256(body), err == nil

	ans := s.record(a)
	if ans.after > 0 {
		select {
		case <-time.After(ans.after):
		case <-r.Context().Done():
		}
	}
	maps.Copy(w.Header(), ans.header)
	w.WriteHeader(ans.status)
	_, _ = w.Write(ans.body) // who does not wait for it is seen by his next request
}

func (s *sink) record(a arrival) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	ans := answer{status: http.StatusOK}
	if s.answer != nil {
		ans = s.answer(s.log, a)
	}
	a.Status = ans.status
	s.log = append(s.log, a)
	return ans
}

// arrivals returns the log so far, by time.
func (s *sink) arrivals() []arrival {
	s.mu.Lock()
	log := slices.Clone(s.log)
	s.mu.Unlock()
	slices.SortStableFunc(log, func(a, b arrival) int { return a.At.Compare(b.At) })
	return log
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.log)
}

// collapsesAbove is a service that answers 503, late, to everything above n
// requests in any second.
func collapsesAbove(n int) func(log []arrival, a arrival) answer {
	return func(log []arrival, a arrival) answer {
		recent := 1
		for _, b := range slices.Backward(log) {
			if a.At.Sub(b.At) > time.Second {
				break
			}
			recent++
		}
		if recent > n {
			return answer{status: http.StatusServiceUnavailable, after: 200 * time.Millisecond}
		}
		return answer{status: http.StatusOK}
	}
}

type stampKey struct{}

type stampListener struct{ net.Listener }

func (l stampListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newStampConn(c.(*net.TCPConn)), nil
}

// A stampConn knows when the first bytes of the request at hand arrived. The
// time is the kernel's where it gives one, so that the sink's log does not
// depend on when this process got a turn.
type stampConn struct {
	*net.TCPConn
	read func(p []byte) (int, time.Time, error)

	mu    sync.Mutex
	fresh bool      // guarded by mu; what is read next begins a request
	at    time.Time // guarded by mu
}

func newStampConn(c *net.TCPConn) *stampConn {
	return &stampConn{TCPConn: c, read: stampedRead(c), fresh: true}
}

func (c *stampConn) Read(p []byte) (int, error) {
	n, at, err := c.read(p)
	if n > 0 {
		c.mu.Lock()
		if c.fresh {
			c.at, c.fresh = at, false
		}
		c.mu.Unlock()
	}
	return n, err
}

func (c *stampConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.fresh = true
	c.mu.Unlock()
	return c.TCPConn.Write(p)
}

// ReadFrom keeps the server from writing past Write.
func (c *stampConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

func (c *stampConn) requestAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}
