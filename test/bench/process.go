package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const bareArg = "serve-bare"

// The drain never delivers: what is measured is accepting.
const policy = `version: 1
sinks:
  - name: nowhere
    http: { urls: ["http://127.0.0.1:9"] }
streams:
  - name: orders
drains:
  - { name: held, stream: orders, sink: nowhere, schedule: { base: 0 } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders, ROUTE }
`

// A process is a server under measurement.
type process struct {
	cmd           *exec.Cmd
	public, admin string // host:port
	drained       chan struct{}
	borrowed      bool // stop leaves it running
}

// lent is the process for one round of many.
func (p *process) lent() *process {
	l := *p
	l.borrowed = true
	return &l
}

var readyLine = regexp.MustCompile(`(?:msg=|"msg":")ready\b`)

func startBare() (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(exec.Command(self, bareArg))
}

// buffering is the policy with more fields of its route.
func buffering(route string) string { return strings.Replace(policy, "ROUTE", route, 1) }

func startForebay(program, dir, policy string) (*process, error) {
	policyFile, config := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "forebay.yaml")
	if err := os.WriteFile(policyFile, []byte(policy), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, []byte("version: 1\n"), 0o600); err != nil {
		return nil, err
	}
	return start(exec.Command(program, "serve", "--config", config, "--policies", policyFile,
		"--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"))
}

// start runs a program of ours until it says that it is ready, and where.
func start(cmd *exec.Cmd) (*process, error) { return startUntil(cmd, readyLine) }

// startUntil runs the command until it says so on stderr.
func startUntil(cmd *exec.Cmd, ready *regexp.Regexp) (*process, error) {
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, drained: make(chan struct{})}
	lines := bufio.NewReader(stderr)
	var said strings.Builder
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			_ = cmd.Wait() // what it said is the better error
			return nil, fmt.Errorf("%s ended before it was ready:\n%s", cmd.Path, said.String())
		}
		said.WriteString(line)
		if ready.MatchString(line) {
			p.public, p.admin = address("public", line), address("admin", line)
			break
		}
	}
	go func() {
		defer close(p.drained)
		_, _ = io.Copy(io.Discard, lines) // its log is not looked at any more
	}()
	return p, nil
}

// address finds NAME=host:port in a log line, text or JSON.
func address(name, line string) string {
	m := regexp.MustCompile(`\b` + name + `"?[=:][\["\s]*([0-9.]+:\d+)`).FindStringSubmatch(line)
	if m == nil {
		return ""
	}
	return m[1]
}

func (p *process) stop() error {
	if p.borrowed {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	kill := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() }) // it may have ended
	defer kill.Stop()
	<-p.drained
	return p.cmd.Wait()
}

// writtenBytes is what the process caused to be written to a disk so far. Only
// Linux tells.
func (p *process) writtenBytes() (uint64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// times is what the process has taken of the processors so far, by itself and in the
// kernel. Only Linux tells.
func (p *process) times() (user, system time.Duration) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	const ticks = 100 // a second, on every machine this runs on
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	return ticksOf(fields[11]) * time.Second / ticks, ticksOf(fields[12]) * time.Second / ticks
}

func ticksOf(s string) time.Duration {
	n, _ := strconv.ParseInt(s, 10, 64) // the kernel writes numbers
	return time.Duration(n)
}

// ownTimes is what this process has taken.
func ownTimes() (user, system time.Duration) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0
	}
	return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
}

// storedBytes is what the messages take, compressed and in their blocks: of no
// stream, none.
func (p *process) storedBytes() (uint64, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + p.admin + "/api/v1/streams")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var streams []struct {
		Name  string `json:"name"`
		Bytes uint64 `json:"bytes"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&streams); err != nil {
		return 0, fmt.Errorf("read /api/v1/streams: %w", err)
	}
	switch len(streams) {
	case 0:
		return 0, nil
	case 1:
		return streams[0].Bytes, nil
	}
	return 0, fmt.Errorf("/api/v1/streams has %d streams, want one", len(streams))
}

// serveBare is the baseline: it reads the body, keeps nothing, answers 202.
func serveBare() error { return serveUntilTerm(http.HandlerFunc(answerBare)) }

func serveUntilTerm(h http.Handler) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: h}
	fmt.Fprintf(os.Stderr, "msg=ready public=%s\n", ln.Addr())
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		_ = srv.Close() // Serve returns, and says the rest
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answerBare(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
