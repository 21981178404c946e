package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// httpClient posts one body at a time over a keep-alive connection.
type httpClient struct {
	conn net.Conn
	r    *bufio.Reader
	head []byte // up to the number of Content-Length
	out  []byte
}

// httpTarget is a server that bodies of a type are posted to, with more header lines.
func httpTarget(addr, contentType string, more ...string) target {
	return target{addr, func(ctx context.Context, addr string, _ int) (client, error) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		head := fmt.Appendf(nil, "POST /v1/orders HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n", addr, contentType)
		for _, line := range more {
			head = append(append(head, line...), "\r\n"...)
		}
		head = append(head, "Content-Length: "...)
		return &httpClient{conn: nc, r: bufio.NewReaderSize(nc, 4096), head: head}, nil
	}}
}

func (c *httpClient) close() error { return c.conn.Close() }

func (c *httpClient) deadline(t time.Time) error { return c.conn.SetDeadline(t) }

func (c *httpClient) send(body []byte) error {
	c.out = strconv.AppendInt(append(c.out[:0], c.head...), int64(len(body)), 10)
	c.out = append(append(c.out, "\r\n\r\n"...), body...)
	if _, err := c.conn.Write(c.out); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return readAccepted(c.r)
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
