package bench

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A fineTimer is the kernel's. The runtime's own timers are up to a millisecond
// late in an idle process: it waits for them in whole milliseconds.
type fineTimer struct {
	fd     int
	file   *os.File
	unhook func() bool
}

// newFineTimer makes a timer whose waits end with ctx; nil where it cannot.
func newFineTimer(ctx context.Context) *fineTimer {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), "timer")
	unhook := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) }) // a closed one waits for nothing
	return &fineTimer{fd: fd, file: f, unhook: unhook}
}

// wait waits for d. It fails at the end of the context alone.
func (t *fineTimer) wait(d time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if unix.TimerfdSettime(t.fd, 0, &spec, nil) != nil {
		return
	}
	var expirations [8]byte
	_, _ = t.file.Read(expirations[:]) // the caller looks at the context
}

func (t *fineTimer) close() {
	t.unhook()
	_ = t.file.Close() // nothing is written to it
}
