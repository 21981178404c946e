package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// limitsPolicy has limits that nobody fills up again during a test.
func limitsPolicy(sinkURL string, burst int) string {
	limits := fmt.Sprintf("limits:\n  - { name: everyone, rate: 1/h, burst: 1000 }\n  - { name: per-customer, rate: 1/h, burst: %d, key: [\"json:/customer_id\", client_ip] }\n", burst)
	return strings.Replace(orderPolicy(sinkURL, "unlimited"), "streams:", limits+"streams:", 1) + "    limits: [everyone, per-customer]\n" +
		"  - { name: watched, match: { path: /v1/watched }, mode: buffer, stream: orders, limits: [everyone], enforcement: shadow }\n"
}

// Customers behind a trusted proxy have a bucket each; a reload that lowers the
// burst leaves them no more than that, and one that raises it adds nothing.
func TestLimits(t *testing.T) {
	shop := newSink(t, nil)
	site := newSite(t, limitsPolicy(shop.url, 4))
	site.write("forebay.yaml", "version: 1\nbuffer: { segment_bytes: 1MiB }\nhttp: { trusted_proxies: [127.0.0.0/8] }\n")
	srv := site.start()
	c := newCaller(t, 1)
	post := func(customer int, address string) reply {
		t.Helper()
		r, err := c.send(http.MethodPost, srv.public+"/v1/orders", fmt.Appendf(nil, `{"customer_id":%d}`, customer), map[string]string{"X-Forwarded-For": "203.0.113.9, " + address})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	accepted := func(customer int, address string) (n int) {
		for range 6 {
			switch r := post(customer, address); r.status {
			case http.StatusAccepted:
				n++
			case http.StatusTooManyRequests:
				var p struct {
					Violated []string `json:"violated-policies"`
				}
				if err := json.Unmarshal(r.body, &p); err != nil || !cmp.Equal(p.Violated, []string{"per-customer"}) || r.header.Get("Retry-After") == "" {
					t.Errorf("429 with %v and %s", r.header, r.body)
				}
			default:
				t.Fatalf("status %d: %s", r.status, r.body)
			}
		}
		return n
	}
	apply := func(burst int) {
		t.Helper()
		site.setPolicy(limitsPolicy(shop.url, burst))
		if r := reload(t, srv); r.status != http.StatusOK {
			t.Fatalf("reload = %d %s", r.status, r.body)
		}
	}
	got := []int{accepted(1, "192.0.2.1"), accepted(2, "192.0.2.1"), accepted(1, "192.0.2.2")}
	post(3, "192.0.2.1")
	apply(2)
	got = append(got, accepted(3, "192.0.2.1"), accepted(1, "192.0.2.1"))
	apply(5)
	got = append(got, accepted(3, "192.0.2.1"), accepted(4, "192.0.2.1"))
	if want := []int{4, 4, 4, 2, 0, 0, 5}; !cmp.Equal(got, want) {
		t.Errorf("accepted of six each: %v, want %v", got, want)
	}

	stdout, stderr, code := command(t, "limits", "-o", "json", "--admin-url", srv.admin)
	var limits []map[string]any
	if err := json.NewDecoder(bytes.NewBufferString(stdout)).Decode(&limits); err != nil || code != 0 {
		t.Fatalf("forebay limits = %d %s: %v", code, stderr, err)
	}
	want := []map[string]any{
		{
			"name": "everyone", "rate": 1.0 / 3600, "burst": 1000.0, "key": []any{}, "scope": "local", "tracked_keys": 1.0, "max_keys": 1.0,
			"allowed_total": 20.0, "denied_total": 0.0, "shadow_denied_total": 0.0, "evictions_total": 0.0,
		},
		{
			"name": "per-customer", "rate": 1.0 / 3600, "burst": 5.0, "key": []any{"json:/customer_id", "client_ip"}, "scope": "local",
			"tracked_keys": 5.0, "max_keys": 100000.0, "allowed_total": 20.0, "denied_total": 23.0, "shadow_denied_total": 0.0, "evictions_total": 0.0,
		},
	}
	if diff := cmp.Diff(want, limits); diff != "" {
		t.Errorf("forebay limits (-want +got):\n%s", diff)
	}

	if table := cli(t, srv, "routes"); strings.Count(table, "everyone (shadow)") != 1 || !strings.Contains(table, "everyone,per-customer ") {
		t.Errorf("forebay routes does not say which limits are shadows:\n%s", table)
	}
}
