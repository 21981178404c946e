package ingress

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// room is a sink that has none until it is given, and then for one request.
type room struct{ free chan struct{} }

func (r room) enter(ctx context.Context, wait time.Duration) error {
	if wait == 0 {
		select {
		case <-r.free:
			return nil
		default:
			return &Refusal{Until: time.Now().Add(3 * time.Second)}
		}
	}
	select {
	case <-r.free:
		return nil
	case <-time.After(wait):
		return &Refusal{Waited: true}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Held requests are sent when there is room; no more wait than may, and who leaves
// gives his place up.
func TestHold(t *testing.T) {
	sink := newSink(t, answerWith())
	addr, s, f := newProxy(t, sink.URL)
	r := room{make(chan struct{})}
	s.enter = r.enter
	waiting := func() float64 { return testutil.ToFloat64(f.metrics.route("pay").waiting) }
	post := func() (net.Conn, func() exchanged) {
		c, br := dial(t, addr)
		write(t, c, "POST /pay HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
		return c, func() exchanged { return readExchange(t, br, "POST") }
	}
	_, first := post()
	second, _ := post()
	eventually(t, "two wait", func() bool { return waiting() == 2 })
	_, third := post()
	if e := third(); e.Status != 503 || e.Header.Get("Proxy-Status") != "forebay; error=connection_limit_reached" {
		t.Errorf("status %d of one too many", e.Status)
	}
	if n := testutil.ToFloat64(f.metrics.route("pay").refusals[reasonHoldFull]); n != 1 {
		t.Errorf("%v refused as hold-full", n)
	}
	second.Close()
	eventually(t, "one has left", func() bool { return waiting() == 1 })
	r.free <- struct{}{}
	if e := first(); e.Status != 200 {
		t.Errorf("status %d of one that was held", e.Status)
	}
	eventually(t, "all are counted", func() bool {
		return count(f, "pay", "held", "200") == 1 && count(f, "pay", "full", "503") == 1 && count(f, "pay", "error", "499") == 1
	})

	_, last := post()
	eventually(t, "one waits", func() bool { return waiting() == 1 })
	f.Stop()
	if e := last(); e.Status != 503 {
		t.Errorf("status %d of one that waits at a stop", e.Status)
	}
	_, late := post()
	if e := late(); e.Status != 503 {
		t.Errorf("status %d of one that would wait after a stop", e.Status)
	}
	if n := testutil.ToFloat64(f.metrics.route("pay").refusals[reasonShuttingDown]); n != 2 {
		t.Errorf("%v refused as shutting-down, want 2", n)
	}
}

// A turn that does not come in time is told as that, and one that comes at once is
// no wait.
func TestHoldInTime(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		set := parsePolicy(t, livePolicy)
		set.Routes[2].HoldUpTo = time.Millisecond
		c.Policy = policyOf(set)
		c.Live = &sinks{enter: room{make(chan struct{})}.enter}
	})
	resp := f.do("POST", "/pay", "x")
	if doc := decode[problemDocument](t, resp); resp.StatusCode != http.StatusServiceUnavailable || doc.Reason != reasonHoldTimeout || doc.RetryAfter < 1 {
		t.Errorf("%d, %+v, want hold-timeout", resp.StatusCode, doc)
	}
}

// A route has a series of every decision from the start, whatever its mode, and
// the reasons that its mode can give.
func TestLiveMetricsFromTheStart(t *testing.T) {
	set := parsePolicy(t, livePolicy)
	f := newFixture(t, func(c *Config) { c.Policy = policyOf(set) })
	of := func(route string) (decisions []string) {
		for _, s := range seriesOf(t, f, "forebay_ingress_requests_total") {
			if name, rest, _ := strings.Cut(s, " "); name == route {
				decisions = append(decisions, rest)
			}
		}
		slices.Sort(decisions)
		return decisions
	}
	all := []string{"buffered 202", "denied 401", "error 500", "full 503", "held 200", "invalid 400", "limited 429", "pass 200", "replayed 202"}
	if diff := cmp.Diff([][]string{all, all}, [][]string{of("read"), of("pay")}); diff != "" {
		t.Errorf("pass and hold (-want +got):\n%s", diff)
	}
	if m := f.metrics.route("read"); m.refusals[reasonSinkBudget] == nil || m.refusals[reasonHoldFull] != nil || m.refusals[reasonBufferFull] != nil {
		t.Errorf("reasons of a route that passes: %v", m.refusals)
	}
	other := parsePolicy(t, strings.Replace(livePolicy, "mode: pass, sink: shop, max_body: 16MiB", "mode: hold, sink: shop", 1))
	f.Apply(other)
	if m := f.metrics.route("read"); m.refusals[reasonHoldFull] == nil {
		t.Errorf("reasons after a change of mode: %v", m.refusals)
	}
}
