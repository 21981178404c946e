package ingress

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// wantCount checks one child of forebay_ingress_requests_total.
func wantCount(t *testing.T, f *fixture, route, decision, code string, want float64) {
	t.Helper()
	if got := testutil.ToFloat64(f.metrics.requests.WithLabelValues(route, decision, code)); got != want {
		t.Errorf("requests of route %q, %s, %s: %v, want %v", route, decision, code, got, want)
	}
}

// seriesOf lists the label sets of a metric as "route decision code".
func seriesOf(t *testing.T, f *fixture, name string) []string {
	t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			all = append(all, strings.Join([]string{labels["route"], labels["decision"], labels["code"]}, " "))
		}
	}
	return all
}

func TestMetricsFromTheStart(t *testing.T) {
	f := newFixture(t)
	want := []string{
		" invalid 404",
		"create-order buffered 202", "create-order denied 401", "create-order error 500", "create-order full 503", "create-order held 200", "create-order invalid 400", "create-order limited 429", "create-order pass 200", "create-order replayed 202",
		"register buffered 202", "register denied 401", "register error 500", "register full 503", "register held 200", "register invalid 400", "register limited 429", "register pass 200", "register replayed 202",
	}
	byName := cmp.Transformer("sorted", func(in []string) map[string]bool {
		out := map[string]bool{}
		for _, s := range in {
			out[s] = true
		}
		return out
	})
	for _, name := range []string{"forebay_ingress_requests_total", "forebay_ingress_request_duration_seconds"} {
		if diff := cmp.Diff(want, seriesOf(t, f, name), byName); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff([]string{"  ", "create-order  ", "register  "}, seriesOf(t, f, "forebay_ingress_waiting_requests"), byName); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	problems, err := testutil.GatherAndLint(f.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestMetricsCount(t *testing.T) {
	f := newFixture(t)
	id := f.order()
	f.do("POST", "/v1/registrations", strings.Repeat("x", 33))
	f.do("GET", "/v1/orders", "")
	f.do("GET", "/none", "")
	f.do("GET", "/a//b", "")
	f.do("GET", receiptsPrefix+id, "")
	f.do("GET", "/.forebay/x", "")
	for _, tt := range []struct {
		route, decision string
		code            int
		want            float64
	}{
		{"create-order", "buffered", 202, 1},
		{"register", "invalid", 413, 1},
		{"", "invalid", 405, 1},
		{"", "invalid", 404, 1},
		{"", "invalid", 400, 1},
	} {
		wantCount(t, f, tt.route, tt.decision, strconv.Itoa(tt.code), tt.want)
	}
	if got := len(seriesOf(t, f, "forebay_ingress_requests_total")); got != 22 {
		t.Errorf("%d series, want 22: receipts are no decisions", got)
	}
}

func TestMetricsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		id := f.order()
		for route, send := range map[string]func(){
			"create-order": func() { f.do("POST", "/v1/orders", "", "Prefer: wait=5") },
			"":             func() { f.do("GET", receiptsPrefix+id, "", "Prefer: wait=5") },
		} {
			done := make(chan struct{})
			go func() { send(); close(done) }()
			synctest.Wait()
			if got := testutil.ToFloat64(f.metrics.waiting.WithLabelValues(route)); got != 1 {
				t.Errorf("route %q: %v waiting, want 1", route, got)
			}
			<-done
			if got := testutil.ToFloat64(f.metrics.waiting.WithLabelValues(route)); got != 0 {
				t.Errorf("route %q: %v waiting after the wait, want 0", route, got)
			}
		}
	})
}

func TestMetricsFollowThePolicy(t *testing.T) {
	f := newFixture(t)
	f.order()
	old := f.metrics.route("register")
	f.Apply(parsePolicy(t, strings.ReplaceAll(testPolicy, "name: register,", "name: sign-up,")))

	// A request that was on its way does not bring the series back.
	old.observe(outcomeAccepted(), 0)
	old.observe(outcome{decisionInvalid, 400}, 0)
	f.metrics.route("register").observe(outcome{decisionInvalid, 413}, 0)
	f.metrics.route("register").observe(outcomeAccepted(), 0)

	for _, name := range []string{"forebay_ingress_requests_total", "forebay_ingress_request_duration_seconds", "forebay_ingress_waiting_requests"} {
		routes := map[string]bool{}
		for _, s := range seriesOf(t, f, name) {
			route, _, _ := strings.Cut(s, " ")
			routes[route] = true
		}
		if diff := cmp.Diff(map[string]bool{"": true, "create-order": true, "sign-up": true}, routes); diff != "" {
			t.Errorf("routes of %s (-want +got):\n%s", name, diff)
		}
	}
	wantCount(t, f, "create-order", "buffered", "202", 1)
}
