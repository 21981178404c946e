package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// A round is what one server did in one measured stretch.
type round struct {
	requests uint64 // answered 202 within the measured stretch
	took     time.Duration
	latency  histogram
	body     uint64 // bytes of all bodies answered 202, warming up included
	written  uint64 // bytes the process wrote; 0: not known
	stored   uint64 // bytes the stream takes on disk; 0: not known
}

func (r round) rate() float64 { return float64(r.requests) / r.took.Seconds() }

// load drives addr over that many keep-alive connections, each sending the next
// order as soon as the last is answered, and counts once warm has passed. Any
// answer but 202 ends it with an error. It shares the machine with what it
// measures, so requests are built before and answers are barely parsed.
func load(ctx context.Context, addr string, bodies [][]byte, connections int, warm, measure time.Duration) (round, error) {
	requests := build(addr, bodies)
	from := time.Now().Add(warm)
	to := from.Add(measure)
	conns := make([]conn, connections)
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i := range conns {
		c := &conns[i]
		c.next = i * len(requests) / connections
		wg.Go(func() { errs[i] = c.drive(ctx, addr, requests, bodies, from, to) })
	}
	wg.Wait()
	r := round{took: measure}
	for i := range conns {
		r.requests += conns[i].requests
		r.body += conns[i].body
		r.latency.add(&conns[i].latency)
	}
	// One is enough to read: they fail for the same reason.
	for _, err := range errs {
		if err != nil {
			return r, err
		}
	}
	return r, ctx.Err()
}

func build(addr string, bodies [][]byte) [][]byte {
	requests := make([][]byte, len(bodies))
	for i, b := range bodies {
		head := fmt.Appendf(nil, "POST /v1/orders HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", addr, len(b))
		requests[i] = append(head, b...)
	}
	return requests
}

type conn struct {
	next     int
	requests uint64
	body     uint64
	latency  histogram
}

func (c *conn) drive(ctx context.Context, addr string, requests, bodies [][]byte, from, to time.Time) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := nc.SetDeadline(to.Add(30 * time.Second)); err != nil {
		return err
	}
	r := bufio.NewReaderSize(nc, 4096)
	for began := time.Now(); began.Before(to) && ctx.Err() == nil; {
		if _, err := nc.Write(requests[c.next]); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if err := readAccepted(r); err != nil {
			return err
		}
		ended := time.Now()
		c.body += uint64(len(bodies[c.next]))
		c.next = (c.next + 1) % len(requests)
		if !ended.Before(from) && ended.Before(to) {
			c.requests++
			c.latency.record(ended.Sub(began))
		}
		began = ended
	}
	return nil
}

var (
	accepted      = []byte("HTTP/1.1 202 ")
	contentLength = []byte("content-length:")
	errNoLength   = errors.New("the answer has no Content-Length")
)

// readAccepted reads one answer to its end.
func readAccepted(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if !bytes.HasPrefix(line, accepted) {
		return fmt.Errorf("answered %q, want 202", bytes.TrimSpace(line))
	}
	length := -1
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return fmt.Errorf("read the answer's head: %w", err)
		}
		if len(line) <= 2 {
			break
		}
		if n := len(contentLength); len(line) > n && bytes.EqualFold(line[:n], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[n:]))); err != nil {
				return fmt.Errorf("read the length %q: %w", line[n:], err)
			}
		}
	}
	if length < 0 {
		return errNoLength
	}
	_, err = r.Discard(length)
	return err
}
