// Command caddy is Caddy with nothing but a reverse proxy on it, as a peer for
// bench-edge: caddy LISTEN UPSTREAM. It is a module of its own, because nothing else
// needs what Caddy needs.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// As many idle connections as there are callers: the default of 32 would have it
// connect again and again.
const config = `{
	"admin": { "disabled": true, "config": { "persist": false } },
	"logging": { "logs": { "default": { "level": "ERROR" } } },
	"apps": { "http": { "servers": { "edge": {
		"listen": [%q], "protocols": ["h1"], "automatic_https": { "disable": true },
		"routes": [{ "handle": [{
			"handler": "reverse_proxy", "upstreams": [{ "dial": %q }],
			"transport": { "protocol": "http", "keep_alive": { "max_idle_conns_per_host": 4096 } }
		}] }]
	} } } }
}`

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: caddy LISTEN UPSTREAM")
		os.Exit(2)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if err := caddy.Load(fmt.Appendf(nil, config, os.Args[1], os.Args[2]), true); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "msg=ready public=%s\n", os.Args[1])
	<-stop
	if err := caddy.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
