package ingress

import (
	"slices"
	"strings"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/policies"
)

// cancelling is the test policy with a cancel key for orders.
func cancelling(t *testing.T, key string, split policies.Split) func(*Config) {
	t.Helper()
	set := parsePolicy(t, strings.Replace(testPolicy, "{ name: orders,", "{ name: orders, cancel_key: "+key+",", 1))
	set.Routes[0].Split, set.Routes[0].MaxBody = split, 4<<20
	return func(c *Config) { c.Policy = func() *policies.Set { return set } }
}

// TestCancelKeys holds that messages carry the keys that their stream's policy
// finds in them, split or not.
func TestCancelKeys(t *testing.T) {
	tests := []struct {
		name, key, body, shop string
		want                  []string
	}{
		{"in the body", `["json:/order_id"]`, `{"order_id":536365}`, "", []string{"536365"}},
		{"of every element", `["json:/lines/*/sku"]`, `{"lines":[{"sku":"a"},{"sku":"b"},{"sku":"a"}]}`, "", []string{"a", "b"}},
		{"in a field", `["header:X-Shop"]`, `{}`, "s-1", []string{"s-1"}},
		{"tuple", `["header:X-Shop", "json:/lines/*/sku"]`, `{"lines":[{"sku":"a"},{"sku":"b"}]}`, "s-1", []string{"s-1/a", "s-1/b"}},
		{"none there", `["json:/order_id"]`, `{"order_id":null}`, "", []string{}},
	}
	for _, tt := range tests {
		for _, split := range []policies.Split{policies.SplitNone, policies.SplitLines} {
			f := newFixture(t, cancelling(t, tt.key, split))
			var header []string
			if tt.shop != "" {
				header = []string{"X-Shop: " + tt.shop}
			}
			if resp := f.do("POST", "/v1/orders", tt.body, header...); resp.StatusCode != 202 {
				t.Fatalf("%s: status %d, want 202", tt.name, resp.StatusCode)
			}
			if got := f.buf.messages[0].CancelKeys; got == nil || !slices.Equal(got, tt.want) {
				t.Errorf("%s, split %q: cancel keys %#v, want %#v", tt.name, split, got, tt.want)
			}
		}
	}
	f := newFixture(t)
	f.order()
	if got := f.buf.messages[0].CancelKeys; got != nil {
		t.Errorf("without a cancel_key: %#v, want nil, which stands for the ordering key", got)
	}
}

// TestCancelByKey holds that what was cut from a batch is cancelled by the keys
// of its own body, and nothing else is.
func TestCancelByKey(t *testing.T) {
	f := newFixture(t, cancelling(t, `["json:/lines/*/sku"]`, policies.SplitNDJSON))
	f.do("POST", "/v1/orders", `{"lines":[{"sku":"a"},{"sku":"b"}]}`+"\n"+`{"lines":[{"sku":"b"}]}`+"\n"+`{"lines":[]}`)
	sent, now := f.buf.messages, time.Now()
	if n, err := f.buf.CancelKey(t.Context(), "orders", "a", now); n != 1 || err != nil || len(sent) != 3 {
		t.Fatalf("CancelKey of a: %d of %d messages, %v; want 1 of 3", n, len(sent), err)
	}
	for offset, want := range []buffer.State{buffer.Cancelled, buffer.Queued, buffer.Queued} {
		if st, err := f.buf.Find(buffer.Ref{Stream: "orders", Offset: uint64(offset)}, now); err != nil || st.State() != want {
			t.Errorf("message %d is %s, %v; want %s", offset, st.State(), err, want)
		}
	}
}

// TestCancelKeysAreBounded holds that what combinations make of a small body is
// counted as the memory that it is.
func TestCancelKeysAreBounded(t *testing.T) {
	values := `["aaaaaaaa`
	for i := range 15 {
		values += `","aaaaaaa` + string(rune('b'+i))
	}
	line := `{"a":` + values + `"],"b":` + values + `"]}` + "\n"
	f := newFixture(t, cancelling(t, `["json:/a/*", "json:/b/*"]`, policies.SplitNDJSON))
	resp := f.do("POST", "/v1/orders", strings.Repeat(line, 100))
	if resp.StatusCode != 202 || len(f.buf.messages[0].CancelKeys) != 256 {
		t.Fatalf("status %d, want 202 with 256 keys a message", resp.StatusCode)
	}
	f.buf.messages = nil
	resp = f.do("POST", "/v1/orders", strings.Repeat(line, 8000))
	if got := decode[problemDocument](t, resp); got.Status != 413 || len(f.buf.messages) != 0 || f.bodies.used.Load() != 0 {
		t.Errorf("problem %+v, %d messages stored, %d bytes held; want 413 and neither", got, len(f.buf.messages), f.bodies.used.Load())
	}
}
