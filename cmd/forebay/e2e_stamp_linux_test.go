package main_test

import (
	"encoding/binary"
	"io"
	"net"
	"syscall"
	"time"
)

// From linux/net_tstamp.h; the syscall package does not have them.
const (
	stampRxSoftware = 1 << 3 // SOF_TIMESTAMPING_RX_SOFTWARE
	stampSoftware   = 1 << 4 // SOF_TIMESTAMPING_SOFTWARE
)

// stampSocket asks for the time at which the kernel gets each segment. Set on
// the listening socket it holds for every connection from its first byte on.
func stampSocket(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// Some sandboxes refuse it; kernelTime then finds nothing and says now.
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TIMESTAMPING, stampRxSoftware|stampSoftware)
	})
}

// stampedRead reads from c together with the time at which the kernel got the bytes.
func stampedRead(c *net.TCPConn) func(p []byte) (int, time.Time, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return func([]byte) (int, time.Time, error) { return 0, time.Time{}, err }
	}
	return func(p []byte) (int, time.Time, error) {
		var (
			n, oobn int
			recvErr error
			oob     [256]byte
		)
		err := raw.Read(func(fd uintptr) bool {
			n, oobn, _, _, recvErr = syscall.Recvmsg(int(fd), p, oob[:], 0)
			return recvErr != syscall.EAGAIN && recvErr != syscall.EINTR
		})
		switch {
		case err != nil:
			return 0, time.Time{}, err
		case recvErr != nil:
			return 0, time.Time{}, recvErr
		case n == 0 && len(p) > 0:
			return 0, time.Time{}, io.EOF
		}
		return n, kernelTime(oob[:oobn]), nil
	}
}

// kernelTime finds the receive time in a control message; this process's clock
// stands in where there is none.
func kernelTime(oob []byte) time.Time {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Now().Round(0)
	}
	for _, m := range messages {
		if m.Header.Level != syscall.SOL_SOCKET || m.Header.Type != syscall.SO_TIMESTAMPING || len(m.Data) < 16 {
			continue
		}
		sec := int64(binary.NativeEndian.Uint64(m.Data))
		nsec := int64(binary.NativeEndian.Uint64(m.Data[8:]))
		if sec > 0 {
			return time.Unix(sec, nsec)
		}
	}
	return time.Now().Round(0)
}
