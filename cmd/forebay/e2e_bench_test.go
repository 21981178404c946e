package main_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// measured holds the fields of a bench report that these tests look at.
type measured struct {
	Target           string
	Rate             any
	Requests         int64
	Succeeded        int64
	Statuses, Errors map[string]int64
	Latency          *struct {
		P99 float64 `json:"p99_seconds"`
	}
	ConnectionsOpened int64   `json:"connections_opened"`
	AnsweredRate      float64 `json:"answered_rate"`
	FirstFailure      *struct {
		BeganAt time.Time `json:"began_at"`
		What    string
	} `json:"first_failure"`
	Waited      int64
	Interrupted bool
	Warnings    []string
}

func readMeasured(t *testing.T, stdout string) (m measured) {
	t.Helper()
	if err := json.Unmarshal([]byte(stdout), &m); err != nil {
		t.Fatalf("forebay bench printed %q: %v", stdout, err)
	}
	return m
}

// The load is real orders, one by one and in batches, and all of them arrive.
func TestBench(t *testing.T) {
	shop := newSink(t, nil)
	srv := newSite(t, clauses{route: "split: ndjson, max_body: 1MiB, max_inflated: 1MiB"}.policy(shop.url, "1000/s")).start()
	lines := filepath.Join("demo", "orders.ndjson")
	stdout, stderr, code := command(t, "bench", "--target", srv.public+"/v1/orders", "--lines", lines,
		"--rate", "200/s", "--for", "1s", "--connections", "8", "--idempotency", "-o", "json")
	m := readMeasured(t, stdout)
	if code != 0 || m.Requests != 200 || m.Statuses["202"] != 200 || m.Rate != 200.0 || m.Latency == nil || m.Latency.P99 <= 0 {
		t.Errorf("bench = exit %d, %s%s, want 200 times 202", code, stdout, stderr)
	}
	stdout, stderr, code = command(t, "bench", "--target", srv.public+"/v1/orders", "--lines", lines, "--batch", "100",
		"--rate", "50/s", "--arrivals", "poisson", "--for", "200ms", "--header", "Batch-Id: one")
	if code != 0 || !strings.Contains(stdout, "202") || !strings.Contains(stdout, "latency") {
		t.Errorf("bench of batches = exit %d, %s%s", code, stdout, stderr)
	}
	if got := audit(t, srv); got.Accepted != 200+100 {
		t.Errorf("%d messages were accepted, want 200 orders and one batch of 100", got.Accepted)
	}
}

func TestBenchWithoutSuccess(t *testing.T) {
	refusing := newSink(t, func([]arrival, arrival) answer { return answer{status: http.StatusServiceUnavailable} })
	stdout, stderr, code := command(t, "bench", "--target", refusing.url, "--for", "100ms", "-o", "json")
	if m := readMeasured(t, stdout); code != 1 || m.Statuses["503"] != 5 || m.Succeeded != 0 || m.FirstFailure == nil || m.FirstFailure.What != "503" || !strings.Contains(stderr, "error: no request succeeded") {
		t.Errorf("bench = exit %d, %s%s, want 1 and five times 503", code, stdout, stderr)
	}
	stdout, stderr, code = command(t, "bench", "--target", "http://"+freeAddr(t), "--for", "100ms")
	if code != 1 || !strings.Contains(stdout, "no answer: refused") || !strings.Contains(stderr, "hint: nothing listens at") {
		t.Errorf("bench of nothing = exit %d, %s%s", code, stdout, stderr)
	}
}

// What was measured is printed when somebody has seen enough.
func TestBenchInterrupted(t *testing.T) {
	shop := newSink(t, nil)
	cmd := exec.Command(forebay(t), "bench", "--target", shop.url, "--rate", "100/s", "--for", "1h", "-o", "json")
	cmd.Env = cleanEnv()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	until(t, 20*time.Second, "requests arrive", func() bool { return shop.count() >= 20 })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("bench after SIGINT: %v\n%s", err, &stderr)
	}
	if m := readMeasured(t, stdout.String()); !m.Interrupted || m.Succeeded < 15 {
		t.Errorf("bench printed %s, want what was measured until then", &stdout)
	}
}

func TestBenchFiles(t *testing.T) {
	dir := t.TempDir()
	empty, text := filepath.Join(dir, "empty"), filepath.Join(dir, "text")
	for name, content := range map[string]string{empty: "\n\r\n", text: "no certificate"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for flag, want := range map[string]string{
		"--lines=" + empty:        "has no lines",
		"--lines=" + dir + "/no":  "no such file",
		"--body=" + dir + "/none": "no such file",
		"--ca=" + text:            "holds no certificate in PEM",
	} {
		_, stderr, code := command(t, "bench", "--target", "http://127.0.0.1:1", flag)
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("bench %s = exit %d, %q, want 1 and %q", flag, code, stderr, want)
		}
	}
}
