package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTopOnce(t *testing.T) {
	t.Parallel()
	srv := newSite(t, clauses{}.policy("http://127.0.0.1:9", "0/s")).start()
	c := newCaller(t, 1)
	for range 3 {
		if _, err := c.post(srv.public, []byte(`{"order":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr, code := command(t, "top", "--once", "--admin-url", srv.admin)
	lines := strings.Split(stdout, "\n")
	if code != 0 || len(lines) < 8 || !strings.HasPrefix(lines[4], "orders-to-shop") || !strings.Contains(lines[4], " 3 ") || !strings.HasPrefix(lines[7], "orders ") {
		t.Errorf("top --once = exit %d, %s%s", code, stdout, stderr)
	}
	if _, stderr, code = command(t, "top", "--admin-url", srv.admin); code != 1 || !strings.Contains(stderr, "hint: --once") {
		t.Errorf("top without a terminal = exit %d, %s", code, stderr)
	}
	if _, stderr, code = command(t, "top", "--once", "--admin-url", "http://"+freeAddr(t)); code != 1 || !strings.Contains(stderr, "cannot reach") {
		t.Errorf("top of nothing = exit %d, %s", code, stderr)
	}
}

// On a terminal it draws, turns pages, fits a terminal that becomes smaller, says that
// the server is gone, and sees it when it is back.
func TestTopInTmux(t *testing.T) {
	if os.Getenv("FOREBAY_INTEGRATION") == "" {
		t.Skip("make top-terminal runs it: it needs tmux")
	}
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Fatalf("%v: apt-get install tmux", err)
	}
	site := newSite(t, manyNames(60))
	admin := freeAddr(t)
	start := func() *server {
		srv := &server{t: t, stderr: newOutput(), done: make(chan struct{}), cmd: exec.Command(forebay(t), "serve", "--config", site.path("forebay.yaml"),
			"--policies", site.policyFile(), "--data", site.data(), "--listen", "127.0.0.1:0", "--admin", admin)}
		srv.cmd.Env = cleanEnv()
		srv.run()
		srv.waitReady()
		return srv
	}
	srv := start()
	if r, err := newCaller(t, 1).do(http.MethodPost, srv.public+"/v1/orders", []byte(`{"order":1}`)); err != nil || r.status != http.StatusAccepted {
		t.Fatalf("post = %v, %v", r, err)
	}
	socket := filepath.Join(t.TempDir(), "tmux")
	tmux := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("tmux", append([]string{"-S", socket, "-f", "/dev/null"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("tmux %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	tmux("new-session", "-d", "-x", "80", "-y", "24", "sh")
	t.Cleanup(func() { tmux("kill-server") })
	shows := func(what string, ok func(lines []string) bool) {
		t.Helper()
		var lines []string
		until(t, 20*time.Second, what, func() bool {
			lines = strings.Split(strings.TrimRight(tmux("capture-pane", "-p"), "\n"), "\n")
			return ok(lines)
		})
		t.Logf("%s:\n%s", what, strings.Join(lines, "\n"))
	}
	tmux("send-keys", fmt.Sprintf("%s top -n 200ms --admin-url http://%s", forebay(t), admin), "Enter")
	shows("the backlog is first", func(l []string) bool {
		return len(l) == 24 && strings.HasPrefix(l[4], "drain-7 ") && strings.HasPrefix(l[23], "page 1 of ")
	})
	tmux("send-keys", "n")
	shows("the next page", func(l []string) bool { return len(l) == 24 && strings.HasPrefix(l[23], "page 2 of ") })
	tmux("send-keys", "p")
	tmux("resize-window", "-x", "60", "-y", "15")
	shows("a smaller screen", func(l []string) bool {
		return len(l) == 15 && strings.HasPrefix(l[0], "forebay top ") && strings.HasPrefix(l[14], "page 1 of ")
	})
	tmux("resize-window", "-x", "120", "-y", "40")
	shows("a larger screen", func(l []string) bool { return len(l) == 40 && strings.Contains(l[3], "THEN") })
	srv.kill()
	shows("the server is gone", func(l []string) bool {
		return strings.Contains(l[1], "AGO: cannot reach") && strings.HasPrefix(l[4], "drain-7 ")
	})
	start()
	shows("it is back", func(l []string) bool { return strings.HasPrefix(l[1], "60 streams, 60 drains") })
	tmux("send-keys", "q")
	shows("the terminal is as before", func(l []string) bool { return strings.Contains(strings.Join(l, ""), " top -n 200ms") })
}

// manyNames has n streams, each with a drain that is closed; the route stores into number 7.
func manyNames(n int) string {
	var b strings.Builder
	b.WriteString(`version: 1
sinks: [{ name: shop, http: { urls: ["http://127.0.0.1:9"] } }]
routes: [{ name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: stream-7 }]
streams:
`)
	for i := range n {
		fmt.Fprintf(&b, "  - { name: stream-%d, max_bytes: 1GiB }\n", i)
	}
	b.WriteString("drains:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - { name: drain-%[1]d, stream: stream-%[1]d, sink: shop, schedule: { base: 0 } }\n", i)
	}
	return b.String()
}
