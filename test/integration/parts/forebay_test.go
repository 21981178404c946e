package parts_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// TestForebay: what was accepted before a kill is delivered after it, by the
// policy of a reload.
func TestForebay(t *testing.T) {
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer sink.Close()
	policy := func(base string) string {
		return fmt.Sprintf(`version: 1
sinks: [{ name: shop, http: { urls: [%q] } }]
streams: [{ name: orders }]
drains: [{ name: to-shop, stream: orders, sink: shop, schedule: { base: %s } }]
routes: [{ name: create, match: { methods: [POST], path: /v1/orders }, mode: buffer, stream: orders }]
`, sink.URL, base)
	}
	f := parts.StartForebay(t, policy("0"), parts.ForebayOptions{})
	if status, answer, err := f.Post("/v1/orders", "application/json", []byte(`{}`)); err != nil || status != http.StatusAccepted {
		t.Fatalf("POST = %d, %v: %s", status, err, answer)
	}
	f.Kill()
	f.Restart()
	if s, d, w := f.Stream("orders"), f.Drain("to-shop"), f.Why("to-shop"); s.Messages != 1 || d.Pending != 1 || w.Binding != "schedule" {
		t.Errorf("stream %+v, drain %+v, why %+v, want one message that the schedule holds", s, d, w)
	}
	f.Reload(policy("unlimited"))
	if a := f.Settle("to-shop", time.Minute); a.Accepted != 1 || a.Delivered != 1 {
		t.Errorf("account = %+v, want one message delivered", a)
	}
	const series = `forebay_drain_delivered_messages_total{drain="to-shop"}`
	if v, found := f.Metric(series); !found || v != 1 {
		t.Errorf("%s = %v, %v, want 1", series, v, found)
	}
	if out, code := f.Command("audit"); code != 0 {
		t.Errorf("forebay audit = %d: %s", code, out)
	}
	if code := f.Stop(); code != 0 {
		t.Errorf("exit after SIGTERM = %d, want 0", code)
	}
}
