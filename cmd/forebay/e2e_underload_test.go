package main_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	underLoadRate        = "2500/s" // on each of two routes
	underLoadConnections = 32
)

// underLoadPolicy has a route that buffers and one that passes.
const underLoadPolicy = `version: 1
sinks:
  - { name: shop, http: { urls: ["%s"] } }
streams:
  - name: orders
drains:
  - { name: held, stream: orders, sink: shop, schedule: { base: 0 } }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders }
  - { name: check-out, match: { methods: [POST], path: /v1/checkout }, mode: pass, sink: shop }
`

// underLoad starts the program and a load on each of its routes.
func underLoad(t *testing.T, config string) (*server, []*generated) {
	t.Helper()
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // what the caller is told counts
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(shop.Close)
	site := newSite(t, fmt.Sprintf(underLoadPolicy, shop.URL))
	site.write("forebay.yaml", config)
	srv := site.start()
	loads := []*generated{generate(t, srv.public+"/v1/orders"), generate(t, srv.public+"/v1/checkout")}
	for _, route := range underLoadRoutes {
		awaitAnswered(t, srv, route, 500)
	}
	return srv, loads
}

var underLoadRoutes = []string{"create-order", "check-out"}

// generate loads a route until ends.
func generate(t *testing.T, url string) *generated {
	t.Helper()
	g := &generated{t: t, cmd: exec.Command(forebay(t), "bench", "--target", url, "--lines", filepath.Join("demo", "orders.ndjson"),
		"--rate", underLoadRate, "--for", "10m", "--connections", strconv.Itoa(underLoadConnections), "--timeout", "30s", "-o", "json")}
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
	g.t.Logf("%s: %d requests, %.0f a second of the %s asked for; %d connections; %v %v", m.Target, m.Requests, m.AnsweredRate, underLoadRate, m.ConnectionsOpened, m.Statuses, m.Errors)
	return m
}

// answered is how many requests of a route were answered so far.
func answered(t *testing.T, srv *server, route string) (n float64) {
	t.Helper()
	for line := range strings.Lines(metrics(t, srv)) {
		if !strings.HasPrefix(line, "forebay_ingress_requests_total{") || !strings.Contains(line, `route="`+route+`"`) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			t.Fatalf("sample %q: %v", line, err)
		}
		n += v
	}
	return n
}

// awaitAnswered waits until so many more requests of a route were answered.
func awaitAnswered(t *testing.T, srv *server, route string, n float64) {
	t.Helper()
	target := answered(t, srv, route) + n
	until(t, 60*time.Second, "the load on "+route+" gets on", func() bool { return answered(t, srv, route) >= target })
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
	srv, loads := underLoad(t, "version: 1\nbuffer: { segment_bytes: 1MiB }\nshutdown: { delay: "+delay.String()+", timeout: 30s }\n")
	signalled := time.Now()
	if err := srv.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := srv.exit(delay + 60*time.Second); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	for _, load := range loads {
		m := load.ends()
		if m.FirstFailure == nil {
			t.Fatalf("%s: nothing failed though the program has ended: %+v", m.Target, m)
		}
		began := m.FirstFailure.BeganAt.Add(time.Millisecond) // it is cut to milliseconds
		if early := signalled.Add(delay).Sub(began); early > 0 {
			t.Errorf("%s: a request failed (%s) that began %v before the delay was over", m.Target, m.FirstFailure.What, early)
		}
	}
}

// Ten reloads under load: no request fails, and no connection ends.
func TestUnderLoadReload(t *testing.T) {
	srv, loads := underLoad(t, "version: 1\nbuffer: { segment_bytes: 1MiB }\n")
	for i := range 10 * thorough() {
		if r := reload(t, srv); r.status != http.StatusOK {
			t.Fatalf("reload = %d %s", r.status, r.body)
		}
		awaitAnswered(t, srv, underLoadRoutes[i%2], 100)
	}
	for i, load := range loads {
		m, want := load.ends(), []string{"202", "201"}[i]
		if m.FirstFailure != nil || m.Succeeded < 500 || m.Statuses[want] != m.Succeeded {
			t.Errorf("%s: measured %+v, want nothing but %s", m.Target, m, want)
		}
		if m.ConnectionsOpened != underLoadConnections {
			t.Errorf("%s: %d connections were opened, want %d that were kept", m.Target, m.ConnectionsOpened, underLoadConnections)
		}
	}
}
