package app

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
	"forebay/cmd/forebay/admin"
)

// send posts to a path of the public address, with a header field "Name: value".
func (r *running) send(t *testing.T, path, body, field string) {
	t.Helper()
	req, err := http.NewRequest("POST", "http://"+r.Public()[0]+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	name, value, _ := strings.Cut(field, ": ")
	req.Header.Set(name, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("POST %s with %s = %d, want 202", path, field, resp.StatusCode)
	}
}

// TestFindByIdempotencyKey asks where a request is whose sender kept its key
// alone: by whichever route of the stream it came, and finished or not.
func TestFindByIdempotencyKey(t *testing.T) {
	s := newShop(t)
	r := start(t, strings.Replace(policyText(s.url, "1000/s"), "routes:\n", `routes:
  - { name: batches, match: { methods: [POST], path: /v1/batches }, mode: buffer, stream: orders, split: lines }
  - { name: shops, match: { methods: [POST], path: /v1/shops }, mode: buffer, stream: orders, idempotency: { header: X-Order } }
`, 1))
	r.send(t, "/v1/orders", "one", `Idempotency-Key: "k-1"`)
	r.send(t, "/v1/shops", "two", "X-Order: k-1")
	r.send(t, "/v1/shops", "three", "X-Order: k-3")
	r.send(t, "/v1/batches", "a\nb\nc", "Batch-Id: b-1")
	r.send(t, "/v1/batches", strings.Repeat("x\n", maxFound+1), "Idempotency-Key: b-2")
	until(t, "all are delivered", func() bool { return r.drain(t).DeliveredTotal == 6+maxFound+1 })
	tests := []struct {
		key  string
		want int
	}{{"k-1", 2}, {"%22k-1%22", 2}, {"k-3", 1}, {"b-1", 3}, {"b-2", maxFound}, {"k-9", 0}}
	for _, tt := range tests {
		var found []struct{ ID, State string }
		code := r.get(t, "/api/v1/streams/orders/messages?idempotency_key="+tt.key, &found)
		if code != http.StatusOK || found == nil || len(found) != tt.want {
			t.Errorf("messages with idempotency key %s = %d, %d receipts, want %d", tt.key, code, len(found), tt.want)
		}
		for _, f := range found {
			if f.State != "delivered" || f.ID == "" {
				t.Errorf("messages with idempotency key %s: %+v, want them delivered", tt.key, f)
			}
		}
	}
	for path, want := range map[string]int{
		"/streams/orders/messages?idempotency_key=" + strings.Repeat("k", 256): 400,
		"/streams/nope/messages?idempotency_key=k":                             404,
	} {
		if got := r.act(t, "GET", path, "", nil); got != want {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
}

// TestCancelByCancelKey cancels the orders of one article, which is not what
// orders them.
func TestCancelByCancelKey(t *testing.T) {
	policy := strings.Replace(keyedPolicy(newShop(t).url), "\n    ordering_key", "\n    cancel_key: [\"json:/lines/*/sku\"]\n    ordering_key", 1)
	r := start(t, policy)
	long := strings.Repeat("s", 1000) // stored by its hash
	ids := []string{
		r.post(t, `{"customer":"a","lines":[{"sku":"s-1"},{"sku":"s-2"}]}`),
		r.post(t, `{"customer":"a","lines":[{"sku":"s-2"}]}`),
		r.post(t, `{"customer":"b","lines":[{"sku":"s-1"}]}`),
		r.post(t, `{"customer":"b","lines":[{"sku":"`+long+`"}]}`),
	}
	for _, tt := range []struct {
		key  string
		want int
	}{{"a", 0}, {"s-1", 2}, {"s-1", 0}, {long, 1}} {
		var n admin.Cancelled
		if code := r.act(t, "POST", "/streams/orders/cancel", `{"key":"`+tt.key+`","reason":"sold out"}`, &n); code != 200 || n.Cancelled != tt.want {
			t.Errorf("cancel %s = %d %+v, want %d", tt.key, code, n, tt.want)
		}
	}
	var states []string
	for _, id := range ids {
		var receipt struct{ State string }
		r.get(t, "/api/v1/receipts/"+id, &receipt)
		states = append(states, receipt.State)
	}
	if diff := cmp.Diff([]string{"cancelled", "queued", "cancelled", "cancelled"}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// cemetery is a buffer of dead letters alone. It remembers how it was asked.
type cemetery struct {
	operated
	offsets []uint64 // of the dead, in order
	asked   int
}

func (c *cemetery) Stats() buffer.Stats {
	return buffer.Stats{Drains: []buffer.DrainStats{{Drain: "d", Stream: "s"}}}
}

func (c *cemetery) Ref(id string) (buffer.Ref, error) {
	return buffer.Ref{Stream: "s", Offset: uint64(len(id))}, nil
}

func (c *cemetery) Dead(_ string, after uint64, limit int) (list []buffer.DeadLetter, more bool, err error) {
	c.asked++
	for _, offset := range c.offsets {
		if after != noOffset && offset <= after {
			continue
		}
		if len(list) == limit {
			return list, true, nil
		}
		list = append(list, buffer.DeadLetter{Ref: buffer.Ref{Stream: "s", Offset: offset}, At: time.Unix(int64(offset), 0)})
	}
	return list, false, nil
}

// TestMatchingByID holds that a few ids among many dead letters are found
// without a look at all of them.
func TestMatchingByID(t *testing.T) {
	c := &cemetery{}
	for i := range uint64(5 * deadPage) {
		c.offsets = append(c.offsets, i)
	}
	o := &operator{buf: c}
	id := func(offset int) string { return strings.Repeat("i", offset) }
	tests := []struct {
		name  string
		sel   admin.Selection
		want  []uint64
		asked int
	}{
		{"the first", admin.Selection{Drain: "d", IDs: []string{id(0)}}, []uint64{0}, 1},
		{"a few beside one another", admin.Selection{Drain: "d", IDs: []string{id(3010), id(3008), id(3009)}}, []uint64{3008, 3009, 3010}, 1},
		{"far from one another", admin.Selection{Drain: "d", IDs: []string{id(500), id(2600)}}, []uint64{500, 2600}, 3},
		{"one that is not dead", admin.Selection{Drain: "d", IDs: []string{id(9000)}}, nil, 1},
		{"one that died before", admin.Selection{Drain: "d", IDs: []string{id(10), id(20)}, Since: admin.Time{Time: time.Unix(15, 0)}}, []uint64{20}, 1},
	}
	for _, tt := range tests {
		c.asked = 0
		got, err := o.matching(tt.sel)
		if err != nil || !slices.Equal(got, tt.want) || c.asked != tt.asked {
			t.Errorf("%s: %v, %v after %d looks; want %v after %d", tt.name, got, err, c.asked, tt.want, tt.asked)
		}
	}
	if got, err := o.matching(admin.Selection{Drain: "d"}); err != nil || len(got) != len(c.offsets) {
		t.Errorf("all: %d, %v, want %d", len(got), err, len(c.offsets))
	}
}
