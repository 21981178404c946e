package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// stamped is a connection that says when what it read last came: by the kernel's clock,
// so that it does not matter when the reader had the processor.
type stamped struct {
	net.Conn
	raw syscall.RawConn
	oob [64]byte
	at  time.Time
}

// stamp returns the connection as it is where the kernel cannot say.
func stamp(nc net.Conn) (io.Reader, func() time.Time) {
	s, ok := nc.(syscall.Conn)
	if !ok {
		return nc, time.Now
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nc, time.Now
	}
	var refused error
	if err := raw.Control(func(fd uintptr) {
		refused = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
	}); err != nil || refused != nil {
		return nc, time.Now
	}
	c := &stamped{Conn: nc, raw: raw}
	return c, func() time.Time { return c.at }
}

// Read implements io.Reader.
func (c *stamped) Read(p []byte) (n int, err error) {
	oobn := 0
	if failed := c.raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, err = syscall.Recvmsg(int(fd), p, c.oob[:], 0)
		return !errors.Is(err, syscall.EAGAIN)
	}); failed != nil {
		return 0, failed
	}
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	c.at = time.Now()
	if at, ok := kernelTime(c.oob[:oobn]); ok {
		c.at = at
	}
	return n, nil
}

// kernelTime reads the one control message that was asked for.
func kernelTime(oob []byte) (time.Time, bool) {
	const header = syscall.SizeofCmsghdr
	if len(oob) < header+16 || binary.NativeEndian.Uint32(oob[header-4:]) != syscall.SO_TIMESTAMPNS {
		return time.Time{}, false
	}
	return time.Unix(int64(binary.NativeEndian.Uint64(oob[header:])), int64(binary.NativeEndian.Uint64(oob[header+8:]))), true
}
