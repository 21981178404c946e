package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func onlinePolicy(t *testing.T, broker, topic, url string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, `version: 1
sinks:
  - { name: events, kafka: { brokers: ["%s"], topic: %s }, budget: { rate: 5/s } }
  - { name: shop, http: { urls: ["%s"] }, budget: { rate: 5/s } }
streams: [{ name: orders }]
drains:
  - { name: to-events, stream: orders, sink: events }
  - { name: to-shop, stream: orders, sink: shop }
routes: [{ name: all, match: {}, mode: buffer, stream: orders }]
`, broker, topic, url), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A check connects to nothing unless it is asked to.
func TestCheckConnectsToNothing(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	defer ln.Close()
	var calls atomic.Int64
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			conn.Close()
		}
	}()
	policy := onlinePolicy(t, ln.Addr().String(), "orders.v1", "http://"+ln.Addr().String())
	if _, said, code := command(t, "check", policy); code != 0 || calls.Load() != 0 {
		t.Errorf("check = %d after %d connections:\n%s", code, calls.Load(), said)
	}
	if _, _, code := command(t, "check", "--online", policy); code != 1 || calls.Load() == 0 {
		t.Errorf("check --online = %d after %d connections to who hangs up", code, calls.Load())
	}
}

func TestCheckOnline(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	shop := httptest.NewServer(http.NotFoundHandler())
	defer shop.Close()
	nobody := listen(t)
	nobody.Close()

	if out, said, code := command(t, "check", "--online", "--strict", onlinePolicy(t, c.broker(), "orders.v1", shop.URL)); code != 0 || !strings.Contains(out, "policy ") {
		t.Errorf("check --online of what is there = %d:\n%s%s", code, out, said)
	}
	bad := onlinePolicy(t, c.broker(), "orders.v2", "http://"+nobody.Addr().String())
	_, said, code := command(t, "check", "--online", bad)
	for _, want := range []string{
		bad + ":3:13: error: sink events: topic orders.v2 is not there\n", "hint: make it, or mend its name",
		bad + ":4:13: error: sink shop: http://" + nobody.Addr().String() + " cannot be reached: connection refused: ", "hint: is the service there",
	} {
		if code != 1 || !strings.Contains(said, want) {
			t.Errorf("check --online = %d without %q:\n%s", code, want, said)
		}
	}
	out, _, code := command(t, "check", "--online", "-o", "json", bad)
	if code != 1 || !strings.Contains(out, `"message": "sink events: topic orders.v2 is not there"`) || !strings.Contains(out, `"ok": false`) {
		t.Errorf("check --online -o json = %d:\n%s", code, out)
	}
}
