package main_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// generated is a load on a route, by a process of its own so that it is none of
// the detector of races.
type generated struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

const (
	underLoadRate        = "5000/s"
	underLoadConnections = 64
)

// generate loads a route until ends.
func generate(t *testing.T, url string) *generated {
	t.Helper()
	g := &generated{t: t, cmd: exec.Command(forebay(t), "bench", "--target", url, "--lines", filepath.Join("demo", "orders.ndjson"),
		"--rate", underLoadRate, "--for", "10m", "--connections", "64", "--timeout", "30s", "-o", "json")}
	g.cmd.Env = cleanEnv()
	g.cmd.Stdout, g.cmd.Stderr = &g.stdout, &g.stderr
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.cmd.Process.Kill() }) // it may have ended
	return g
}

// ends breaks the load off and returns what it measured.
func (g *generated) ends() measured {
	g.t.Helper()
	if err := g.cmd.Process.Signal(syscall.SIGINT); err != nil {
		g.t.Fatal(err)
	}
	if err := g.cmd.Wait(); err != nil {
		g.t.Fatalf("bench: %v\n%s", err, &g.stderr)
	}
	m := readMeasured(g.t, g.stdout.String())
	g.t.Logf("%d requests, %.0f a second of the %s asked for; %d connections; %v %v", m.Requests, m.AnsweredRate, underLoadRate, m.ConnectionsOpened, m.Statuses, m.Errors)
	return m
}

// answered is how many requests of the tests' one route were answered so far.
func answered(t *testing.T, srv *server) (n float64) {
	t.Helper()
	for line := range strings.Lines(metrics(t, srv)) {
		if strings.HasPrefix(line, `forebay_ingress_requests_total{`) && strings.Contains(line, `route="create-order"`) {
			v, _ := metric(t, srv, line[:strings.LastIndexByte(line, ' ')])
			n += v
		}
	}
	return n
}

// awaitAnswered waits until so many more requests were answered.
func awaitAnswered(t *testing.T, srv *server, n float64) {
	t.Helper()
	target := answered(t, srv) + n
	until(t, 60*time.Second, "the load gets on", func() bool { return answered(t, srv) >= target })
}

// thorough is how much longer these tests are in make integration.
func thorough() int {
	if os.Getenv("FOREBAY_INTEGRATION") != "" {
		return 10
	}
	return 1
}

// No request fails that began while /readyz was 200, or within shutdown.delay of
// the signal. Those after it do: else the load was none.
func TestUnderLoadStop(t *testing.T) {
	delay := time.Duration(thorough()) * time.Second
	shop := newSink(t, nil)
	site := newSite(t, orderPolicy(shop.url, "0"))
	site.write("forebay.yaml", "version: 1\nbuffer: { segment_bytes: 1MiB }\nshutdown: { delay: "+delay.String()+", timeout: 30s }\n")
	srv := site.start()
	load := generate(t, srv.public+"/v1/orders")
	awaitAnswered(t, srv, 1000)
	signalled := time.Now()
	if err := srv.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "/readyz turns", func() bool {
		r, err := newCaller(t, 1).do(http.MethodGet, srv.admin+"/readyz", nil)
		return err == nil && r.status == http.StatusServiceUnavailable
	})
	if code := srv.exit(delay + 60*time.Second); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	m := load.ends()
	if m.FirstFailure == nil {
		t.Fatalf("nothing failed though the program has ended: %+v", m)
	}
	if early := signalled.Add(delay).Sub(m.FirstFailure.BeganAt.Add(time.Millisecond)); early > 0 { // it is cut to milliseconds
		t.Errorf("a request failed (%s) that began %v before the delay was over: %+v", m.FirstFailure.What, early, m)
	}
}

// Ten reloads under load: no request fails, and no connection ends.
func TestUnderLoadReload(t *testing.T) {
	shop := newSink(t, nil)
	site := newSite(t, orderPolicy(shop.url, "0"))
	srv := site.start()
	load := generate(t, srv.public+"/v1/orders")
	for range 10 * thorough() {
		awaitAnswered(t, srv, 200)
		if r := reload(t, srv); r.status != http.StatusOK {
			t.Fatalf("reload = %d %s", r.status, r.body)
		}
	}
	awaitAnswered(t, srv, 200)
	m := load.ends()
	if m.FirstFailure != nil || m.Statuses["202"] < 2000 || len(m.Statuses) != 1 {
		t.Errorf("measured %+v, want nothing but 202", m)
	}
	if m.ConnectionsOpened != underLoadConnections {
		t.Errorf("%d connections were opened, want %d that were kept", m.ConnectionsOpened, underLoadConnections)
	}
}
