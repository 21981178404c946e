package ingress

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

func TestPreferWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		go func() {
			time.Sleep(3 * time.Second)
			f.deliver(0)
		}()
		resp := f.do("POST", "/v1/orders", "{}", "Prefer: respond-async, wait=5")
		got := decode[Receipt](t, resp)
		if resp.StatusCode != 200 || got.State != buffer.Delivered || got.Drains[0].Result.Status != 201 {
			t.Errorf("status %d, receipt %+v; want 200 with the sink's 201", resp.StatusCode, got)
		}
		if p, v := resp.Header.Get("Preference-Applied"), resp.Header.Get("Vary"); p != "wait=5" || v != "Prefer" {
			t.Errorf("Preference-Applied %q, Vary %q", p, v)
		}
		if resp.Header.Get("Retry-After") != "" {
			t.Errorf("Retry-After %q on a final state", resp.Header.Get("Retry-After"))
		}
	})
}

func TestPreferWaitEnds(t *testing.T) {
	tests := []struct {
		name   string
		prefer string
		path   string
		end    func(f *fixture, leave func())
		after  time.Duration
		want   string // Preference-Applied
	}{
		{"at its length", "wait=2", "/v1/orders", nil, 2 * time.Second, "wait=2"},
		{"at the route's wait_max", "wait=3600", "/v1/orders", nil, 10 * time.Second, "wait=10"},
		{"at the process's", "wait=3600", "/v1/registrations", nil, 20 * time.Second, "wait=20"},
		{"when the process stops", "wait=9", "/v1/orders", func(f *fixture, _ func()) { f.Stop() }, time.Second, "wait=9"},
		{"when the caller leaves", "wait=9", "/v1/orders", func(_ *fixture, leave func()) { leave() }, time.Second, "wait=9"},
		{"at once without one", "wait=0", "/v1/orders", nil, 0, ""},
		{"at a wait_max that is no whole number of seconds", "wait=9", "/v1/registrations/short", nil, 1500 * time.Millisecond, "wait=2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, func(c *Config) {
					c.WaitMax = 20 * time.Second
					if strings.HasSuffix(tt.path, "/short") {
						c.WaitMax = 1500 * time.Millisecond
					}
				})
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				if tt.end != nil {
					time.AfterFunc(time.Second, func() { tt.end(f, leave) })
				}
				begin := time.Now()
				resp := f.send(request(ctx, "POST", tt.path, "{}", "Prefer: "+tt.prefer))
				if got := time.Since(begin); got != tt.after || resp.StatusCode != 202 {
					t.Errorf("answered %d after %v, want 202 after %v", resp.StatusCode, got, tt.after)
				}
				if tt.name == "when the caller leaves" {
					wantCount(t, f, "create-order", decisionError, "499", 1)
				}
				if got := resp.Header.Get("Preference-Applied"); got != tt.want {
					t.Errorf("Preference-Applied %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestWaitersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.MaxWaiting = 1 })
		first := make(chan *http.Response)
		go func() { first <- f.do("POST", "/v1/orders", "{}", "Prefer: wait=5") }()
		synctest.Wait()
		begin := time.Now()
		resp := f.do("POST", "/v1/orders", "{}", "Prefer: wait=5")
		if time.Since(begin) != 0 || resp.StatusCode != 202 || resp.Header.Get("Preference-Applied") != "" {
			t.Errorf("second waiter: status %d after %v, header %v; want 202 at once", resp.StatusCode, time.Since(begin), resp.Header)
		}
		<-first
		if resp := f.do("POST", "/v1/orders", "{}", "Prefer: wait=5"); resp.Header.Get("Preference-Applied") != "wait=5" {
			t.Error("no room for a waiter after the first one left")
		}
	})
}

func TestStopClosesConnections(t *testing.T) {
	f := newFixture(t)
	if c := f.do("POST", "/v1/orders", "{}").Header.Get("Connection"); c != "" {
		t.Errorf("Connection %q before Stop", c)
	}
	f.Stop()
	f.Stop()
	for _, target := range []string{"/v1/orders", "/none", "/a//b", "/.forebay/receipts/x"} {
		if c := f.do("POST", target, "{}").Header.Get("Connection"); c != "close" {
			t.Errorf("Connection %q on the answer to %s after Stop, want close", c, target)
		}
	}
}

// TestStopReachesThoseUnderWay holds that a request which came before the stop
// is told to leave the connection, too: its caller's next one would find it closed.
func TestStopReachesThoseUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, path := range []string{"/v1/orders", "/v1/registrations", "/v1/orders?refused"} {
			var f *fixture
			f = newFixture(t, routes(func(_, register *policies.Route) { register.Split = policies.SplitLines }), func(c *Config) {
				c.Closed = func(string) (string, bool) { f.Stop(); return "", strings.HasSuffix(path, "refused") }
			})
			if resp := f.do("POST", path, "{}"); resp.Header.Get("Connection") != "close" {
				t.Errorf("POST %s while the stop came: status %d, header %v; want Connection: close", path, resp.StatusCode, resp.Header)
			}
		}
		f := newFixture(t)
		id := f.order()
		time.AfterFunc(time.Second, f.Stop)
		if resp := f.do("GET", receiptsPrefix+id, "", "Prefer: wait=9"); resp.Header.Get("Connection") != "close" {
			t.Errorf("a wait that the stop ended: header %v, want Connection: close", resp.Header)
		}
	})
}
