package main_test

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program builds the binary once for all tests of this package. It has a fixed
// place under bin/, which git ignores: the next run links it anew only when it
// changed.
var program = sync.OnceValues(func() (string, error) {
	path, err := filepath.Abs("../../bin/test/forebay")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// cleanEnv is our environment without settings of the program: those are for a
// server at work, and the tests' own are none that it knows.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "FOREBAY_") })
}

func forebay(t *testing.T) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A site is the files of one installation: process config, one policy, data.
type site struct {
	t      *testing.T
	dir    string
	volume string // where the data are; empty: beside the rest
}

// newSite writes a site with that policy. Segments are as small as they may be,
// so that rolling, sealing and reclaim happen in every test.
func newSite(t *testing.T, policy string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(s.dir, "policies"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write("forebay.yaml", plainConfig)
	s.setPolicy(policy)
	return s
}

func (s *site) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *site) data() string       { return filepath.Join(cmp.Or(s.volume, s.dir), "data") }
func (s *site) policyFile() string { return s.path("policies", "policy.yaml") }

// write replaces a file in one step, as an editor or a config map does.
func (s *site) write(name, text string) {
	s.t.Helper()
	tmp := s.path("new")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(tmp, s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) setPolicy(text string) {
	s.t.Helper()
	s.write(filepath.Join("policies", "policy.yaml"), text)
}

// A server is one running `forebay serve`.
type server struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *output
	done   chan struct{} // closed once the process has ended
	public string        // http://host:port, once ready
	admin  string
}

// launch starts the program on the site and does not wait for it.
func (s *site) launch() *server {
	s.t.Helper()
	srv := &server{
		t: s.t,
		cmd: exec.Command(forebay(s.t), "serve",
			"--config", s.path("forebay.yaml"),
			"--policies", s.path("policies", "*.yaml"),
			"--data", s.data(),
			"--listen", "127.0.0.1:0",
			"--admin", "127.0.0.1:0"),
		stderr: newOutput(),
		done:   make(chan struct{}),
	}
	srv.cmd.Env = cleanEnv()
	srv.run()
	return srv
}

// run starts the command and sees to it that it ends with the test.
func (srv *server) run() {
	srv.t.Helper()
	stderr, err := srv.cmd.StderrPipe()
	if err != nil {
		srv.t.Fatal(err)
	}
	if err := srv.cmd.Start(); err != nil {
		srv.t.Fatalf("start %v: %v", srv.cmd.Args, err)
	}
	go func() {
		defer close(srv.done)
		srv.stderr.readFrom(stderr)
		_ = srv.cmd.Wait() // its verdict is in ProcessState
	}()
	srv.t.Cleanup(func() {
		_ = srv.cmd.Process.Kill() // it may have ended
		<-srv.done
		if srv.t.Failed() {
			srv.t.Logf("the end of the program's log:\n%s", srv.stderr.tail(40))
		}
	})
}

// start launches the program and waits until it says that it is ready.
func (s *site) start() *server {
	s.t.Helper()
	srv := s.launch()
	srv.waitReady()
	return srv
}

func (srv *server) waitReady() {
	srv.t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	select {
	case <-srv.stderr.ready:
		srv.public, srv.admin = "http://"+srv.stderr.public, "http://"+srv.stderr.admin
	case <-srv.done:
		srv.t.Fatalf("the program ended (%v) before it was ready:\n%s", srv.cmd.ProcessState, srv.stderr.tail(40))
	case <-limit.C:
		srv.t.Fatalf("no line msg=ready with public and admin within 20 s:\n%s", srv.stderr.tail(40))
	}
}

// kill ends the program as a crash does, and returns when the signal went out.
func (srv *server) kill() time.Time {
	srv.t.Helper()
	at := time.Now()
	if err := srv.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		srv.t.Fatalf("kill: %v", err)
	}
	<-srv.done
	return at
}

// stop asks the program to end and fails the test unless it does so with 0.
func (srv *server) stop() {
	srv.t.Helper()
	if err := srv.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		srv.t.Fatalf("SIGTERM: %v", err)
	}
	if code := srv.exit(15 * time.Second); code != 0 {
		srv.t.Fatalf("exit after SIGTERM = %d, want 0\n%s", code, srv.stderr.tail(40))
	}
}

// exit waits for the program to end by itself and returns its code.
func (srv *server) exit(within time.Duration) int {
	srv.t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	select {
	case <-srv.done:
		return srv.cmd.ProcessState.ExitCode()
	case <-limit.C:
		srv.t.Fatalf("still running after %v:\n%s", within, srv.stderr.tail(40))
		return -1
	}
}

func (srv *server) running() bool {
	select {
	case <-srv.done:
		return false
	default:
		return true
	}
}

// output keeps the last lines of a program's stderr and looks out for the line
// that says it is ready. Text and JSON logs are both understood.
type output struct {
	ready         chan struct{} // closed at the first ready line
	public, admin string        // host:port; set before ready is closed

	mu    sync.Mutex
	lines []string // guarded by mu; the last of them
}

const keptLines = 500

var (
	readyLine  = regexp.MustCompile(`msg=ready\b|"msg":\s*"ready"`)
	publicAddr = regexp.MustCompile(`\bpublic"?[=:][\["\s]*(?:http://)?([0-9.]+:\d+)`)
	adminAddr  = regexp.MustCompile(`\badmin"?[=:][\["\s]*(?:http://)?([0-9.]+:\d+)`)
)

func newOutput() *output { return &output{ready: make(chan struct{})} }

func (o *output) readFrom(r io.Reader) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	isReady := false
	for sc.Scan() {
		line := sc.Text()
		o.add(line)
		if isReady || !readyLine.MatchString(line) {
			continue
		}
		public, admin := publicAddr.FindStringSubmatch(line), adminAddr.FindStringSubmatch(line)
		if public == nil || admin == nil {
			continue
		}
		isReady = true
		o.public, o.admin = public[1], admin[1]
		close(o.ready)
	}
	_, _ = io.Copy(io.Discard, r) // a line over 1 MiB ends the scan, not the program
}

func (o *output) add(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.lines) == keptLines {
		o.lines = append(o.lines[:0], o.lines[1:]...)
	}
	o.lines = append(o.lines, line)
}

func (o *output) tail(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines[max(0, len(o.lines)-n):], "\n")
}

func TestReadyLine(t *testing.T) {
	for _, line := range []string{
		`time=2026-01-02T03:04:05Z level=INFO msg=ready public=127.0.0.1:8080 admin=127.0.0.1:9080 recovery.blocks=3`,
		`{"level":"INFO","msg":"ready","public":"127.0.0.1:8080","admin":"127.0.0.1:9080"}`,
		`{"msg":"ready","admin":"127.0.0.1:9080","public":["127.0.0.1:8080"]}`,
		`level=INFO msg=ready public=[127.0.0.1:8080] admin=http://127.0.0.1:9080`,
	} {
		o := newOutput()
		o.readFrom(strings.NewReader("level=INFO msg=\"not ready yet\"\n" + line + "\n"))
		if o.public != "127.0.0.1:8080" || o.admin != "127.0.0.1:9080" {
			t.Errorf("public, admin = %q, %q of line %s", o.public, o.admin, line)
		}
	}
}

// command runs a client command to its end.
func command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), forebay(t), args...)
	cmd.Env = cleanEnv()
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("run %v: %v", args, err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// until polls ok until it holds and fails the test if it does not in time.
func until(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
