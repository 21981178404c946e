package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const proxyArg = "serve-proxy"

const edgePolicy = `version: 1
sinks:
  - { name: order-service, http: { urls: ["http://%s"] } }
limits:
  - { name: everyone, rate: 1000000/s, burst: 1000000 }
routes:
  - { name: create-order, match: { methods: [POST], path: /v1/orders }, mode: pass, sink: order-service, limits: [everyone] }
`

// The service behind the edge: it reads the order, and answers at once. It takes
// little of the machine, so that the proxies are what is measured.
const nginxConfig = `daemon off;
pid %[1]s/nginx.pid;
error_log stderr error;
master_process off; # one process, whose times are all there are
events { worker_connections 8192; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	keepalive_requests 1000000000;
	keepalive_timeout 1h;
	server {
		listen %[2]s;
		default_type application/json;
		location / { return 202 '{"order_id":"536365","state":"accepted","lines":7}'; }
	}
}
`

// edge measures live traffic through one proxy after the other, all before the same
// nginx, and nginx alone.
func edge(ctx context.Context, o options) error {
	orders, err := readOrders(o.orders)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(filepath.Join(o.dir, fmt.Sprintf("edge-%d", os.Getpid())))
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // git ignores what may be left
	backend, err := startNginx(ctx, o.nginx, dir)
	if err != nil {
		return err
	}
	defer func() { _ = backend.stop() }() // it has nothing to lose
	fmt.Printf("%d connections, %d rounds of %v each, %d real orders of %d bytes in the mean through a proxy to nginx\n\n",
		o.connections, o.rounds, o.measure, len(orders), meanLength(orders))
	all := inTurn(orders, o.connections)
	json := func(addr string) target { return httpTarget(addr, "application/json") }
	sides := []side{
		{name: "nginx alone", start: func(string) (*process, error) { return backend.lent(), nil }, target: json, bodies: all},
		{name: "ReverseProxy", start: func(string) (*process, error) { return startReverseProxy(backend.public) }, target: json, bodies: all},
		{name: "caddy", start: func(string) (*process, error) { return startCaddy(o.caddy, backend.public) }, target: json, bodies: all},
		{name: "forebay", start: func(dir string) (*process, error) {
			return startForebay(o.forebay, dir, fmt.Sprintf(edgePolicy, backend.public))
		}, target: json, bodies: all},
	}
	rounds, err := measured(ctx, o, sides)
	if err != nil {
		return err
	}
	report(os.Stdout, sides, rounds, 1)
	ratios(os.Stdout, "forebay / ReverseProxy", rounds[3], rounds[1])
	ratios(os.Stdout, "forebay / caddy", rounds[3], rounds[2])
	costs(os.Stdout, "processor time, forebay / ReverseProxy", rounds[3], rounds[1])
	costs(os.Stdout, "processor time, forebay / caddy", rounds[3], rounds[2])
	return nil
}

// startNginx waits until it takes connections.
func startNginx(ctx context.Context, program, dir string) (*process, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + filepath.Base(program)) // where Debian has it, on the PATH of root alone
	}
	if err != nil {
		return nil, fmt.Errorf("nginx is the service behind the proxies, and %s is not there: apt-get install nginx-light, or name it with -nginx", program)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { // its workers are of another user
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, addr), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "-p", dir, "-c", config)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, public: addr, drained: make(chan struct{})}
	close(p.drained) // nobody reads what it says
	for ctx, cancel := context.WithTimeout(ctx, 10*time.Second); ; {
		if nc, err := net.Dial("tcp", addr); err == nil {
			cancel()
			return p, nc.Close()
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			cancel()
			return nil, errors.Join(fmt.Errorf("nginx does not listen at %s", addr), p.stop())
		}
	}
}

// freeAddress is one on loopback for a program that cannot choose by itself.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func startCaddy(program, upstream string) (*process, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return start(exec.Command(program, addr, upstream))
}

func startReverseProxy(upstream string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(exec.Command(self, proxyArg, upstream))
}

// serveProxy is the baseline: what the standard library has, with no more than a
// pool that is large enough.
func serveProxy(upstream string) error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 4096
	to := &url.URL{Scheme: "http", Host: upstream}
	return serveUntilTerm(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
	})
}
