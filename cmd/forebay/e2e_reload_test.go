package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A new rate takes hold within a second, on what is queued too, however the
// program is told.
func TestReload(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		// tell makes the program read the policy, which holds the new text already.
		tell func(t *testing.T, srv *server)
		// aside: the policy is a link to a file that no watcher of its folder sees,
		// so that what tell does is what counts.
		aside bool
	}{
		{name: "file", tell: func(*testing.T, *server) {}},
		{name: "SIGHUP", aside: true, tell: func(t *testing.T, srv *server) {
			if err := srv.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "POST", aside: true, tell: func(t *testing.T, srv *server) {
			if r := reload(t, srv); r.status != http.StatusOK || !strings.Contains(string(r.body), `"hash"`) {
				t.Fatalf("POST /reload = %d %s; want 200 with a hash", r.status, r.body)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			shop, noise := newSink(t, nil), watchLateness(t)
			site := newSite(t, orderPolicy(shop.url, "20/s"))
			if tt.aside {
				putAside(t, site)
			}
			srv := site.start()
			postAll(t, srv.public, realOrders(t)[:300], 16)
			until(t, 10*time.Second, "deliveries at the first rate", func() bool { return shop.count() >= 15 })
			before := shop.arrivals()

			changed := time.Now().Round(0)
			newPolicy := orderPolicy(shop.url, "200/s")
			if tt.aside {
				if err := os.WriteFile(site.path("aside.yaml"), []byte(newPolicy), 0o600); err != nil {
					t.Fatal(err)
				}
			} else {
				site.setPolicy(newPolicy)
			}
			tt.tell(t, srv)
			until(t, 10*time.Second, "deliveries at the new rate", func() bool { return shop.count() >= len(before)+150 })

			log := shop.arrivals()
			if late := firstRun(log, 20, 150*time.Millisecond).Sub(changed); late > time.Second {
				t.Errorf("the new rate took hold after %v, want less than 1 s", late)
			}
			if breach := (envelope{rate: 20, burst: 1, late: noise.max()}).breach(times(before)); breach != "" {
				t.Errorf("before the reload: %s", breach)
			}
			if breach := (envelope{rate: 200, burst: 2, late: noise.max()}).breach(times(log)); breach != "" {
				t.Errorf("through the reload: %s", breach)
			}
		})
	}
}

// reload asks for one.
func reload(t *testing.T, srv *server) reply {
	t.Helper()
	r, err := newCaller(t, 1).do(http.MethodPost, srv.admin+"/api/v1/reload", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A mistake is one in a policy, as a refused reload tells it.
type mistake struct {
	File, Message, Hint string
	Line, Column        int
}

// refusal reads the mistakes from a reload that has to be refused.
func refusal(t *testing.T, r reply) []mistake {
	t.Helper()
	var got struct {
		Errors []mistake `json:"errors"`
	}
	if err := json.Unmarshal(r.body, &got); err != nil || r.status != http.StatusUnprocessableEntity {
		t.Fatalf("reload = %d %s (%v), want 422 with errors", r.status, r.body, err)
	}
	return got.Errors
}

// putAside makes the policy a symbolic link to a file in another folder.
func putAside(t *testing.T, s *site) {
	t.Helper()
	if err := os.Rename(s.policyFile(), s.path("aside.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(s.path("aside.yaml"), s.policyFile()); err != nil {
		t.Fatal(err)
	}
}

// firstRun returns when the first n arrivals that lie within span began.
func firstRun(log []arrival, n int, span time.Duration) time.Time {
	for i := n - 1; i < len(log); i++ {
		if log[i].At.Sub(log[i-n+1].At) <= span {
			return log[i-n+1].At
		}
	}
	return time.Now().Add(time.Hour)
}

var policyHash = regexp.MustCompile(`forebay_policy_info\{[^}]*hash="([0-9a-f]+)"`)

// A policy with mistakes is refused with the place of each, and the old one
// runs on as if nothing had been.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	shop, late := newSink(t, nil), watchLateness(t)
	site := newSite(t, orderPolicy(shop.url, "20/s"))
	srv := site.start()
	postAll(t, srv.public, realOrders(t)[:200], 16)
	until(t, 10*time.Second, "deliveries", func() bool { return shop.count() >= 5 })
	hash := policyHash.FindString(metrics(t, srv))

	broken := strings.Replace(orderPolicy(shop.url, "fast"), "mode: buffer", "mood: buffer", 1)
	site.setPolicy(broken)
	r := reload(t, srv)
	mistakes := refusal(t, r)
	for _, text := range []string{"base: fast", "mood: buffer"} {
		line := strings.Count(broken[:strings.Index(broken, text)], "\n") + 1
		found := false
		for _, e := range mistakes {
			found = found || e.Line == line && e.Column > 0 && e.Message != "" && strings.HasSuffix(e.File, "policy.yaml")
		}
		if !found {
			t.Errorf("no error at line %d (%s) in %s", line, text, r.body)
		}
	}

	n := shop.count()
	until(t, 10*time.Second, "deliveries go on", func() bool { return shop.count() >= n+20 })
	if breach := (envelope{rate: 20, burst: 1, late: late.max()}).breach(times(shop.arrivals())); breach != "" {
		t.Errorf("the old rate does not hold any more: %s", breach)
	}
	if now := policyHash.FindString(metrics(t, srv)); hash == "" || now != hash {
		t.Errorf("forebay_policy_info = %q, want %q as before", now, hash)
	}
	if v, ok := metric(t, srv, "forebay_policy_last_reload_successful"); !ok || v != 0 {
		t.Errorf("forebay_policy_last_reload_successful = %v, %v, want 0", v, ok)
	}

	site.setPolicy(orderPolicy(shop.url, "400/s"))
	until(t, 10*time.Second, "the mended policy runs", func() bool {
		v, ok := metric(t, srv, "forebay_policy_last_reload_successful")
		return ok && v == 1
	})
	until(t, 10*time.Second, "every order delivered", func() bool { return shop.count() == 200 })
}
