package main_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// needs skips a test that needs root and tools, unless it is run by make
// integration: then what is missing is a failure.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getenv("FOREBAY_INTEGRATION") == "" {
		t.Skipf("needs root and %v: make integration runs it", tools)
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("needs %s: %v", tool, err)
		}
	}
}

// A tracer is strace on a running program.
type tracer struct {
	t    *testing.T
	cmd  *exec.Cmd
	file string
	done chan struct{} // closed once it has ended
}

// trace attaches strace with some arguments. It sees or harms whatever the program
// does from now on.
func (srv *server) trace(args ...string) *tracer {
	srv.t.Helper()
	tr := &tracer{t: srv.t, file: srv.t.TempDir() + "/trace", done: make(chan struct{})}
	tr.cmd = exec.Command("strace", append(args, "-f", "-ttt", "-yy", "-s", "48", "-o", tr.file, "-p", fmt.Sprint(srv.cmd.Process.Pid))...)
	stderr, err := tr.cmd.StderrPipe()
	if err != nil {
		srv.t.Fatal(err)
	}
	if err := tr.cmd.Start(); err != nil {
		srv.t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	said, err := lines.ReadString('\n')
	go func() {
		defer close(tr.done)
		_, _ = io.Copy(io.Discard, lines) // until it ends
		_ = tr.cmd.Wait()                 // what it found is in the file
	}()
	srv.t.Cleanup(tr.detach)
	if !strings.Contains(said, "attached") {
		srv.t.Fatalf("strace says %q, %v; want that it is attached", said, err)
	}
	return tr
}

// detach lets the program go on alone, and returns once the trace is whole.
func (tr *tracer) detach() {
	_ = tr.cmd.Process.Signal(syscall.SIGINT) // it may have ended with the program
	<-tr.done
}

// proof counts the answers of a trace, and says which of them are not covered.
func (tr *tracer) proof() (answers int, faults []string) {
	tr.t.Helper()
	f, err := os.Open(tr.file)
	if err != nil {
		tr.t.Fatal(err)
	}
	defer f.Close()
	p := newProof()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		p.line(lines.Text())
	}
	return p.answers, p.faults
}

// A proof reads a trace line by line, and finds each 202 that was written although
// no sync of a log began after its request had been read and has returned. A log
// is written through a mapping, so that the trace does not have what is stored.
// strace writes a line when a call is entered or left, so their order is that of
// what caused what.
type proof struct {
	at      int
	pending map[string]call // calls that have not returned, by thread
	read    map[string]int  // the line at which a connection was last read from
	synced  int             // where the newest sync that has returned began
	answers int
	faults  []string
}

type call struct {
	begun int
	text  string // as far as it was told when it began
}

func newProof() *proof {
	return &proof{pending: map[string]call{}, read: map[string]int{}}
}

var (
	traceLine    = regexp.MustCompile(`^(\d+) +[\d.]+ (.*)$`)
	traceResumed = regexp.MustCompile(`^<\.\.\. \w+ resumed>`)
	traceLog     = regexp.MustCompile(`^fdatasync\(\d+<[^>]*\.vlog>`)
	traceSocket  = regexp.MustCompile(`^(read|write)\(\d+<(TCP:\[[^\]]*\])>, ?`)
	traceResult  = regexp.MustCompile(`\) += (-?\d+)`)
)

func (p *proof) line(line string) {
	p.at++
	m := traceLine.FindStringSubmatch(line)
	if m == nil {
		return
	}
	thread, text := m[1], m[2]
	c := call{p.at, text}
	if resumed := traceResumed.FindString(text); resumed != "" {
		c = p.pending[thread]
		c.text += text[len(resumed):]
		delete(p.pending, thread)
	} else {
		p.enter(c)
	}
	if head, unfinished := strings.CutSuffix(text, "<unfinished ...>"); unfinished {
		p.pending[thread] = call{p.at, head}
		return
	}
	p.leave(c)
}

// enter sees a call begin: an answer counts from here on.
func (p *proof) enter(c call) {
	m := traceSocket.FindStringSubmatch(c.text)
	if m == nil || m[1] != "write" || !strings.Contains(c.text, `"HTTP/1.1 202 `) {
		return
	}
	p.answers++
	if p.synced <= p.read[m[2]] {
		p.faults = append(p.faults, fmt.Sprintf("line %d answers what was read at line %d; the newest sync that returned began at line %d", p.at, p.read[m[2]], p.synced))
	}
}

// leave sees a call return.
func (p *proof) leave(c call) {
	result := traceResult.FindStringSubmatch(c.text)
	if result == nil {
		return
	}
	if m := traceSocket.FindStringSubmatch(c.text); m != nil && m[1] == "read" && result[1] > "0" {
		p.read[m[2]] = p.at
	}
	if traceLog.MatchString(c.text) && result[1] == "0" {
		p.synced = max(p.synced, c.begun)
	}
}

// TestProof: a trace in which an answer is not covered is told from one where all
// are.
func TestProof(t *testing.T) {
	const (
		read   = `7 1.0 read(20<TCP:[127.0.0.1:80->127.0.0.1:5]>, "POST /v1/orders HTT"..., 4096) = 690`
		other  = `8 1.1 read(21<TCP:[127.0.0.1:80->127.0.0.1:6]>, "POST /v1/orders HTT"..., 4096) = 690`
		noRead = `7 1.1 read(20<TCP:[127.0.0.1:80->127.0.0.1:5]>, 0xc000, 4096) = -1 EAGAIN (Resource temporarily unavailable)`
		sync   = `9 1.2 fdatasync(8</data/seg-1/000001.vlog>) = 0`
		begin  = `9 1.2 fdatasync(8</data/seg-1/000001.vlog> <unfinished ...>`
		end    = `9 1.4 <... fdatasync resumed>) = 0`
		failed = `9 1.4 <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)`
		beside = `9 1.2 fdatasync(8</data/seg-1/INDEX.tmp>) = 0`
		answer = `7 1.3 write(20<TCP:[127.0.0.1:80->127.0.0.1:5]>, "HTTP/1.1 202 Accepted\r\n"..., 695) = 695`
		writes = `7 1.3 write(20<TCP:[127.0.0.1:80->127.0.0.1:5]>, "HTTP/1.1 202 Accepted\r\n"..., 695 <unfinished ...>`
		wrote  = `7 1.5 <... write resumed>) = 695`
		refuse = `7 1.3 write(20<TCP:[127.0.0.1:80->127.0.0.1:5]>, "HTTP/1.1 503 Service Un"..., 695) = 695`
	)
	for name, tc := range map[string]struct {
		trace   []string
		answers int
		sound   bool
	}{
		"in order":                      {[]string{read, sync, answer}, 1, true},
		"others between":                {[]string{read, begin, other, end, noRead, writes, wrote}, 1, true},
		"no sync":                       {[]string{read, answer}, 1, false},
		"a sync before the request":     {[]string{sync, read, answer}, 1, false},
		"a sync that began before it":   {[]string{begin, read, end, answer}, 1, false},
		"a sync that has not returned":  {[]string{read, begin, answer, end}, 1, false},
		"an answer begun before it did": {[]string{read, begin, writes, end, wrote}, 1, false},
		"a sync that failed":            {[]string{read, begin, failed, answer}, 1, false},
		"a sync of another file":        {[]string{read, beside, answer}, 1, false},
		"one sync for two requests":     {[]string{read, sync, answer, read, answer}, 2, false},
		"a refusal":                     {[]string{read, refuse}, 0, true},
	} {
		p := newProof()
		for _, line := range tc.trace {
			p.line(line)
		}
		if p.answers != tc.answers || (len(p.faults) == 0) != tc.sound {
			t.Errorf("%s: %d answers, faults %q; want %d, and sound %t", name, p.answers, p.faults, tc.answers, tc.sound)
		}
	}
}
