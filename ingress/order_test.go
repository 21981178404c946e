package ingress

import (
	"strings"
	"testing"

	"forebay/policies"
)

// TestOrderingKey holds that messages carry the key that their stream's policy
// finds in them, split or not.
func TestOrderingKey(t *testing.T) {
	tests := []struct {
		name, key, body, shop, want string
	}{
		{"in the body", `["json:/customer_id"]`, `{"customer_id":"c-7"}`, "", "c-7"},
		{"a number", `["json:/customer_id"]`, `{"customer_id":7}`, "", "7"},
		{"null", `["json:/customer_id"]`, `{"customer_id":null}`, "", ""},
		{"missing", `["json:/customer_id"]`, `{}`, "", ""},
		{"empty", `["json:/customer_id"]`, `{"customer_id":""}`, "", ""},
		{"no JSON", `["json:/customer_id"]`, `customer 7`, "", ""},
		{"in a field", `["header:X-Shop"]`, `{}`, "s-1", "s-1"},
		{"field missing", `["header:X-Shop"]`, `{}`, "", ""},
		{"tuple", `["header:X-Shop", "json:/customer_id"]`, `{"customer_id":"c-7"}`, "s-1", "s-1/c-7"},
		{"tuple with a part missing", `["header:X-Shop", "json:/customer_id"]`, `{}`, "s-1", ""},
	}
	for _, tt := range tests {
		for _, split := range []policies.Split{policies.SplitNone, policies.SplitLines} {
			set := parsePolicy(t, strings.Replace(testPolicy, "{ name: orders,", "{ name: orders, ordering_key: "+tt.key+",", 1))
			set.Routes[0].Split = split
			f := newFixture(t, func(c *Config) { c.Policy = func() *policies.Set { return set } })
			var header []string
			if tt.shop != "" {
				header = []string{"X-Shop: " + tt.shop}
			}
			if resp := f.do("POST", "/v1/orders", tt.body, header...); resp.StatusCode != 202 {
				t.Fatalf("%s: status %d, want 202", tt.name, resp.StatusCode)
			}
			if got := f.buf.messages[0].Key; got != tt.want {
				t.Errorf("%s, split %q: key %q, want %q", tt.name, split, got, tt.want)
			}
		}
	}
}
