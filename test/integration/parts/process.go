package parts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Process is a server that runs while its test does.
type Process struct {
	t       testing.TB
	name    string
	command func() *exec.Cmd // anew for each start
	ready   func() bool      // it serves; asked again and again
	within  time.Duration    // for a start
	log     string           // the file of its output, over all starts

	cmd   *exec.Cmd
	ended chan struct{} // closed once it has ended
	from  int64         // where in log the output of the last start begins
}

// start starts the server and waits until it is ready.
func (p *Process) start() {
	p.t.Helper()
	p.log = filepath.Join(p.t.TempDir(), p.name+".log")
	p.t.Cleanup(func() {
		p.Kill()
		if p.t.Failed() {
			p.t.Logf("the end of the log of %s:\n%s", p.name, tail(p.Said(), 40))
		}
	})
	p.Restart()
}

// Restart starts the server again, on the same data and ports, and returns once
// it is ready. The server must have ended.
func (p *Process) Restart() {
	p.t.Helper()
	p.Launch()
	p.WaitReady()
}

// Launch is Restart without the wait.
func (p *Process) Launch() {
	p.t.Helper()
	if p.running() {
		p.t.Fatalf("start %s: it is still running", p.name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	if p.from, err = log.Seek(0, io.SeekEnd); err != nil {
		p.t.Fatal(err)
	}
	cmd, ended := p.command(), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	endWithParent(cmd)
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	p.cmd, p.ended = cmd, ended
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its verdict is in ProcessState
	}()
}

// WaitReady returns once the server serves.
func (p *Process) WaitReady() {
	p.t.Helper()
	what := p.name + " is ready"
	Until(p.t, p.within, what, func() bool {
		if !p.running() {
			p.t.Fatalf("%s ended (%v) before it was ready", p.name, p.cmd.ProcessState)
		}
		return p.ready()
	})
}

// Kill ends the server as a crash does, and returns once it has ended. One that
// has ended already stays so.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// Stop asks the server to end, and returns its exit code once it has.
func (p *Process) Stop() int {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	Until(p.t, time.Minute, p.name+" ends after SIGTERM", func() bool { return !p.running() })
	return p.cmd.ProcessState.ExitCode()
}

// Pause holds the server in the middle of whatever it does: connections stay
// open and nothing answers.
func (p *Process) Pause() { p.t.Helper(); p.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (p *Process) Resume() { p.t.Helper(); p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%v to %s: %v", s, p.name, err)
	}
}

// Pid is the id of the process, for a look at its memory or processor time.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

func (p *Process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Said is the output of the server since its last start.
func (p *Process) Said() []byte {
	text, err := os.ReadFile(p.log)
	if err != nil || int64(len(text)) < p.from {
		return nil
	}
	return text[p.from:]
}

// says tells whether the server has printed that since its last start.
func (p *Process) says(text string) func() bool {
	return func() bool { return bytes.Contains(p.Said(), []byte(text)) }
}

func tail(text []byte, lines int) string {
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Until asks ok until it holds, and fails the test if it does not in time.
func Until(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// run runs a tool to its end and returns what it printed.
func run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	endWithParent(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, tail(out, 40))
	}
	return string(out)
}

func write(t testing.TB, path, format string, args ...any) {
	t.Helper()
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
}
