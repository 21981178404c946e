//go:build !linux

package main_test

import (
	"net"
	"syscall"
	"time"
)

// stampSocket asks for nothing: only Linux tells when it got the bytes.
func stampSocket(_, _ string, _ syscall.RawConn) error { return nil }

// stampedRead reads from c together with the time at which this process did.
func stampedRead(c *net.TCPConn) func(p []byte) (int, time.Time, error) {
	return func(p []byte) (int, time.Time, error) {
		n, err := c.Read(p)
		return n, time.Now().Round(0), err
	}
}
