package promcheck

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// shop is the service behind the sinks. What it does with an order its body says.
type shop struct {
	*httptest.Server
	down atomic.Bool // it cuts every connection
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a short one is as good
		switch {
		case s.down.Load():
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				conn.Close()
			}
		case bytes.Contains(body, []byte("refuse")):
			w.WriteHeader(http.StatusUnprocessableEntity)
		case bytes.Contains(body, []byte("later")) && r.Header.Get("Forebay-Attempt") == "1":
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// process is a program that runs until the test ends.
type process struct {
	*exec.Cmd
	log string
}

func run(t *testing.T, dir, name string, args ...string) *process {
	t.Helper()
	p := &process{exec.Command(name, args...), filepath.Join(dir, filepath.Base(name)+".log")}
	file, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p.Dir, p.Stdout, p.Stderr = dir, file, file
	if err := p.Start(); err != nil {
		t.Fatalf("%v (on Debian: apt-get install prometheus)", err)
	}
	t.Cleanup(func() {
		_ = p.Process.Signal(syscall.SIGTERM) // it may have ended
		kill := time.AfterFunc(20*time.Second, func() { _ = p.Process.Kill() })
		defer kill.Stop()
		_ = p.Wait() // how it ended shows in its log
		if t.Failed() {
			text, _ := os.ReadFile(p.log) // for a look
			t.Logf("the end of %s:\n%s", p.log, text[max(0, len(text)-3000):])
		}
	})
	return p
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// until polls ok until it holds.
func until(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func answers(url string) bool {
	resp, err := http.Get(url)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// forebay is the real program.
type forebay struct {
	public, admin, bin, policy string
}

func startForebay(t *testing.T, dir, policy string) *forebay {
	t.Helper()
	f := &forebay{public: freeAddr(t), admin: freeAddr(t), bin: filepath.Join(dir, "forebay"), policy: filepath.Join(dir, "policy.yaml")}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", f.bin, "./cmd/forebay")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build forebay: %v\n%s", err, out)
	}
	write(t, f.policy, policy)
	run(t, dir, f.bin, "serve", "--policies", f.policy, "--data", filepath.Join(dir, "data"), "--listen", f.public, "--admin", f.admin)
	until(t, "forebay is ready", time.Minute, func() bool { return answers("http://" + f.admin + "/readyz") })
	return f
}

// do runs one of its commands.
func (f *forebay) do(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command(f.bin, append(args, "--admin-url", "http://"+f.admin)...).CombinedOutput()
	if err != nil {
		t.Fatalf("forebay %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// send sends a request and returns the status, 0 where there was no answer.
func (f *forebay) send(method, path, body string, fields ...string) (status int, location string) {
	req, err := http.NewRequest(method, "http://"+f.public+path, strings.NewReader(body))
	if err != nil {
		return 0, ""
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // the status says all
	return resp.StatusCode, resp.Header.Get("Location")
}

// reload has it read its policy file again, and reports whether it took it.
func (f *forebay) reload(t *testing.T, policy string) bool {
	t.Helper()
	write(t, f.policy, policy)
	resp, err := http.Post("http://"+f.admin+"/api/v1/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// startPrometheus scrapes a target each second. Its rules are those that are committed,
// with the longer ranges and waits shortened, so that a drill takes no half hour.
func startPrometheus(t *testing.T, dir, target string) *prometheus {
	t.Helper()
	for _, name := range []string{"alerts.yaml", "recording.yaml"} {
		text, err := os.ReadFile(filepath.Join(rulesDir, name))
		if err != nil {
			t.Fatal(err)
		}
		short := strings.NewReplacer("[5m]", "[15s]", "[30m]", "[30s]", "[15m]", "[1m]", "for: 5m", "for: 10s", "for: 10m", "for: 20s", "for: 15m", "for: 30s", "for: 2m", "for: 4s")
		write(t, filepath.Join(dir, name), short.Replace(string(text)))
	}
	config := filepath.Join(dir, "prometheus.yml")
	write(t, config, fmt.Sprintf(`global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [alerts.yaml, recording.yaml]
scrape_configs:
  - job_name: forebay
    static_configs: [{ targets: ["%s"] }]
`, target))
	tool(t, "", dir, "promtool", "check", "config", config)
	p := &prometheus{url: "http://" + freeAddr(t)}
	run(t, dir, "prometheus", "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "tsdb"), "--web.listen-address", strings.TrimPrefix(p.url, "http://"))
	until(t, "prometheus is ready", time.Minute, func() bool { return answers(p.url + "/-/ready") })
	return p
}
