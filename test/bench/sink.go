package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// logSink is a service that takes every request, and notes when each came, by the
// kernel's clock where it has one. It does little else, so that whoever sends is what is
// measured.
type logSink struct {
	ln   net.Listener
	wg   sync.WaitGroup
	took atomic.Int64

	mu    sync.Mutex
	conns []*sinkConn // guarded by mu
	fault error       // guarded by mu; the first request that made no sense
}

// sinkConn is a connection and when its requests came.
type sinkConn struct {
	nc net.Conn

	mu  sync.Mutex
	log []int64 // guarded by mu; Unix time in nanoseconds
}

var (
	sinkAnswer  = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	requestLine = []byte("POST ")
)

func listenSink() (*logSink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &logSink{ln: ln}
	s.wg.Go(s.accept)
	return s, nil
}

func (s *logSink) addr() string { return s.ln.Addr().String() }

func (s *logSink) accept() {
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return // close says why
		}
		c := &sinkConn{nc: nc}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		s.wg.Go(func() { s.serve(c) })
	}
}

// serve answers until the other side closes. A request that makes no sense ends it.
func (s *logSink) serve(c *sinkConn) {
	defer func() { _ = c.nc.Close() }() // there is nothing to lose
	from, came := stamp(c.nc)
	for r := bufio.NewReaderSize(from, 16<<10); ; {
		if _, err := r.Peek(1); err != nil {
			return
		}
		c.note(came())
		s.took.Add(1)
		if err := readPosted(r); err != nil {
			s.fail(err)
			return
		}
		if _, err := c.nc.Write(sinkAnswer); err != nil {
			return
		}
	}
}

func (s *logSink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == nil && !errors.Is(err, net.ErrClosed) {
		s.fault = err
	}
}

func (c *sinkConn) note(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, at.UnixNano())
}

// readPosted reads one request to its end. Bodies have a length.
func readPosted(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read a request: %w", err)
	}
	if !bytes.HasPrefix(line, requestLine) {
		return fmt.Errorf("the sink was sent %q, want POST", bytes.TrimSpace(line))
	}
	length := -1
	for len(line) > 2 {
		if line, err = r.ReadSlice('\n'); err != nil {
			return fmt.Errorf("read a request's head: %w", err)
		}
		if n := len(contentLength); len(line) > n && bytes.EqualFold(line[:n], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[n:]))); err != nil {
				return fmt.Errorf("read the length %q: %w", line[n:], err)
			}
		}
	}
	if length < 0 {
		return errors.New("a request without a Content-Length")
	}
	_, err = r.Discard(length)
	return err
}

// arrivals returns when requests came, in order, and forgets them.
func (s *logSink) arrivals() (all []int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.mu.Lock()
		all = append(all, c.log...)
		c.log = nil
		c.mu.Unlock()
	}
	slices.Sort(all)
	return all, s.fault
}

func (s *logSink) close() {
	_ = s.ln.Close() // its error is of closing twice
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.nc.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}
