package ingress

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/buffer"
	"forebay/policies"
)

func TestIdempotencyKey(t *testing.T) {
	tests := []struct {
		values     []string
		key, fault string
	}{
		{nil, "", ""},
		{[]string{"order-7"}, "order-7", ""},
		{[]string{`"order-7"`}, "order-7", ""},
		{[]string{`or"der`}, `or"der`, ""},
		{[]string{`"a\"b\\c"`}, `a"b\c`, ""},
		{[]string{"über"}, "über", ""},
		{[]string{strings.Repeat("k", 255)}, strings.Repeat("k", 255), ""},
		{[]string{`"` + strings.Repeat("k", 255) + `"`}, strings.Repeat("k", 255), ""},
		{[]string{strings.Repeat("k", 256)}, "", "is over 255 bytes"},
		{[]string{"a", "a"}, "", "is given more than once"},
		{[]string{""}, "", "is empty"},
		{[]string{`""`}, "", "is empty"},
		{[]string{`"a`}, "", "is not a well-formed string"},
		{[]string{`"`}, "", "is not a well-formed string"},
		{[]string{`"a" b`}, "", "is not a well-formed string"},
		{[]string{`"a\b"`}, "", "is not a well-formed string"},
		{[]string{`"a\`}, "", "is not a well-formed string"},
		{[]string{`"a\"`}, "", "is not a well-formed string"},
		{[]string{`"a\\"x`}, "", "is not a well-formed string"},
	}
	for _, tt := range tests {
		if key, fault := parseIdempotencyKey(tt.values); key != tt.key || fault != tt.fault {
			t.Errorf("parseIdempotencyKey(%q) = %q, %q; want %q, %q", tt.values, key, fault, tt.key, tt.fault)
		}
	}
}

// FuzzIdempotencyKey holds that a bare key is taken as it is, and that both
// spellings of a key are one.
func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"", "a", `"a"`, `a"b`, `a\b`, `"\"`, `"a\\"`, "ü", strings.Repeat("x", 256)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		bare, fault := parseIdempotencyKey([]string{s})
		if (fault == "") != (bare != "") || len(bare) > maxIdempotencyKey {
			t.Fatalf("parseIdempotencyKey(%q) = %q, %q", s, bare, fault)
		}
		if fault == "" && !strings.HasPrefix(s, `"`) && bare != s {
			t.Errorf("bare %q was read as %q", s, bare)
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
		if got, fault := parseIdempotencyKey([]string{quoted}); fault == "" && got != s {
			t.Errorf("%s was read as %q, want %q", quoted, got, s)
		} else if (fault == "") != (0 < len(s) && len(s) <= maxIdempotencyKey) {
			t.Errorf("%s is refused: %q", quoted, fault)
		}
	})
}

func TestSentAgain(t *testing.T) {
	f := newFixture(t)
	f.order()
	send := func(body string, header ...string) *http.Response {
		return f.do("POST", "/v1/orders", body, header...)
	}
	first := send("{}", `Idempotency-Key: "k-7"`)
	f.order()
	again := send("{}", "Idempotency-Key: k-7", "User-Agent: another")
	a, b := decode[Receipt](t, first), decode[Receipt](t, again)
	if again.StatusCode != 202 || again.Header.Get("Location") != first.Header.Get("Location") || a.ID != b.ID || *a.Position != *b.Position || a.AcceptedAt != b.AcceptedAt {
		t.Errorf("status %d, header %v, receipt %+v; want those of the first: %v, %+v", again.StatusCode, again.Header, b, first.Header, a)
	}
	if r := []string{first.Header.Get("Idempotent-Replayed"), again.Header.Get("Idempotent-Replayed")}; !slices.Equal(r, []string{"", "true"}) {
		t.Errorf("Idempotent-Replayed %q, want it on the second alone", r)
	}
	if len(f.buf.messages) != 3 || f.buf.messages[1].Header[0] != (buffer.Field{Name: "Idempotency-Key", Value: `"k-7"`}) {
		t.Errorf("stored %+v, want three, the second with its key as sent", f.buf.messages)
	}
	if f.buf.lastKey.TTL != 24*time.Hour {
		t.Errorf("ttl %v, want 24h", f.buf.lastKey.TTL)
	}
	wantCount(t, f, "create-order", decisionBuffered, "202", 3)
	wantCount(t, f, "create-order", decisionReplayed, "202", 1)
	wantLookups(t, f, 1, 1, 0, 0)
}

func wantLookups(t *testing.T, f *fixture, fresh, replay, inProgress, mismatch float64) {
	t.Helper()
	l := &f.metrics.lookups
	got := []float64{testutil.ToFloat64(l.fresh), testutil.ToFloat64(l.replay), testutil.ToFloat64(l.inProgress), testutil.ToFloat64(l.mismatch)}
	if want := []float64{fresh, replay, inProgress, mismatch}; !slices.Equal(got, want) {
		t.Errorf("lookups new, replay, in_progress, mismatch: %v, want %v", got, want)
	}
}

// TestWhatIsAsked holds what tells two requests with one key apart.
func TestWhatIsAsked(t *testing.T) {
	tests := []struct {
		name, method, target, body string
		want                       int
	}{
		{"the same", "POST", "/v1/registrations/7", "a", 202},
		{"other body", "POST", "/v1/registrations/7", "b", 422},
		{"other method", "PUT", "/v1/registrations/7", "a", 422},
		{"other path", "POST", "/v1/registrations/8", "a", 422},
		{"other query", "POST", "/v1/registrations/7?x", "a", 422},
		{"other route", "POST", "/v1/orders", "a", 202},
	}
	f := newFixture(t)
	f.do("POST", "/v1/registrations/7", "a", "Idempotency-Key: k")
	for _, tt := range tests {
		resp := f.do(tt.method, tt.target, tt.body, "Idempotency-Key: k")
		if resp.StatusCode != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, resp.StatusCode, tt.want)
		}
		if tt.want == 422 {
			if got := decode[problemDocument](t, resp); got.Type != problemPrefix+"idempotency-mismatch" {
				t.Errorf("%s: problem %+v", tt.name, got)
			}
		}
	}
	wantLookups(t, f, 2, 1, 0, 4)
}

func TestIdempotencyOfARoute(t *testing.T) {
	f := newFixture(t, routes(func(create, _ *policies.Route) {
		create.Idempotency = policies.Idempotency{Header: "X-Order", Required: true, TTL: time.Hour}
	}))
	got := decode[problemDocument](t, f.do("POST", "/v1/orders", "{}", "Idempotency-Key: k"))
	if got.Status != 400 || got.Type != problemPrefix+"idempotency-key-missing" || got.Detail != "this route requires the header field X-Order" {
		t.Errorf("problem %+v, want the key missing", got)
	}
	if got := decode[problemDocument](t, f.do("POST", "/v1/orders", "{}", "X-Order: ")); got.Detail != "X-Order is empty" {
		t.Errorf("problem %+v, want the key empty", got)
	}
	for i, want := range []string{"", "true"} {
		resp := f.do("POST", "/v1/orders", "{}", "X-Order: 7", fmt.Sprintf("Idempotency-Key: %d", i))
		if resp.StatusCode != 202 || resp.Header.Get("Idempotent-Replayed") != want {
			t.Errorf("request %d: status %d, replayed %q", i, resp.StatusCode, resp.Header.Get("Idempotent-Replayed"))
		}
	}
	if f.buf.lastKey.TTL != time.Hour {
		t.Errorf("ttl %v, want that of the route", f.buf.lastKey.TTL)
	}
}

func TestIdempotencyKeyRefused(t *testing.T) {
	f := newFixture(t)
	for value, want := range map[string]string{
		strings.Repeat("k", 256): "Idempotency-Key is over 255 bytes",
		`"k`:                     "Idempotency-Key is not a well-formed string",
	} {
		got := decode[problemDocument](t, f.do("POST", "/v1/orders", "{}", "Idempotency-Key: "+value))
		if got.Status != 400 || got.Type != problemPrefix+"bad-request" || got.Detail != want {
			t.Errorf("Idempotency-Key of %d bytes: problem %+v, want 400 with %q", len(value), got, want)
		}
	}
	if resp := f.do("POST", "/v1/orders", "{}", "Idempotency-Key: "+strings.Repeat("k", 255)); resp.StatusCode != 202 || len(f.buf.messages) != 1 {
		t.Errorf("255 bytes: status %d, %d stored; want 202 and that one alone", resp.StatusCode, len(f.buf.messages))
	}
}

func TestIdempotencyInProgress(t *testing.T) {
	f := newFixture(t)
	f.buf.appendErr = fmt.Errorf("append to orders: %w", buffer.ErrInProgress)
	resp := f.do("POST", "/v1/orders", "{}", "Idempotency-Key: k")
	got := decode[problemDocument](t, resp)
	if got.Status != 409 || got.Type != problemPrefix+"idempotency-in-progress" || got.RetryAfter != 1 || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("problem %+v, header %v; want 409 with Retry-After 1", got, resp.Header)
	}
	wantLookups(t, f, 0, 0, 1, 0)
}

// TestSentAgainAfterTheEnd holds that an answer is repeated for as long as its
// key is known, receipt or not.
func TestSentAgainAfterTheEnd(t *testing.T) {
	f := newFixture(t)
	first := f.do("POST", "/v1/orders", "{}", "Idempotency-Key: k")
	f.deliver(0)
	if resp := f.do("POST", "/v1/orders", "{}", "Idempotency-Key: k"); resp.StatusCode != 202 || decode[Receipt](t, resp).State != buffer.Delivered {
		t.Errorf("delivered: status %d, want 202 with the receipt as it stands", resp.StatusCode)
	}
	f.buf.findErr = buffer.ErrGone
	resp := f.do("POST", "/v1/orders", "{}", "Idempotency-Key: k")
	got := decode[Receipt](t, resp)
	if resp.StatusCode != 202 || resp.Header.Get("Location") != first.Header.Get("Location") || got.ETANote == nil || !strings.Contains(*got.ETANote, "longer ago") {
		t.Errorf("gone: status %d, receipt %+v; want 202 with a note", resp.StatusCode, got)
	}
	if f.log.Len() > 0 {
		t.Errorf("log %q of what is no failure", f.log)
	}
}

func TestRefusedWithAKeyIsNotRemembered(t *testing.T) {
	f := newFixture(t)
	f.buf.appendErr = buffer.ErrBufferFull
	if resp := f.do("POST", "/v1/orders", "{}", "Idempotency-Key: k"); resp.StatusCode != 503 {
		t.Errorf("status %d, want 503", resp.StatusCode)
	}
	f.buf.appendErr = nil
	if resp := f.do("POST", "/v1/orders", "{}", "Idempotency-Key: k"); resp.StatusCode != 202 || resp.Header.Get("Idempotent-Replayed") != "" {
		t.Errorf("status %d, header %v; want a fresh 202", resp.StatusCode, resp.Header)
	}
}

// TestOnceKeys holds that the keys which a look-up asks for are those that
// requests are recorded under.
func TestOnceKeys(t *testing.T) {
	tests := []struct {
		name  string
		route func(*policies.Route)
		field string // and value
		ask   string
	}{
		{"as sent", nil, "Idempotency-Key: k-7", "k-7"},
		{"quoted, asked for bare", nil, `Idempotency-Key: "k-7"`, "k-7"},
		{"bare, asked for quoted", nil, "Idempotency-Key: k-7", `"k-7"`},
		{"a field of the route's own", func(r *policies.Route) { r.Idempotency.Header = "X-Order" }, "X-Order: 7", "7"},
		{"the key of a batch", func(r *policies.Route) { r.Split = policies.SplitLines }, "Idempotency-Key: k-7", "k-7"},
		{"the id of a batch", func(r *policies.Route) { r.Split = policies.SplitLines }, "Batch-Id: b-7", "b-7"},
	}
	for _, tt := range tests {
		f := newFixture(t, routes(func(create, _ *policies.Route) {
			if tt.route != nil {
				tt.route(create)
			}
		}))
		f.do("POST", "/v1/orders", "{}", tt.field)
		set := f.cfg.Policy()
		keys, err := OnceKeys(&set.Routes[0], tt.ask)
		if err != nil || !slices.Contains(keys, f.buf.lastKey.Key) {
			t.Errorf("%s: OnceKeys(%s) = %x, %v, want %x among them", tt.name, tt.ask, keys, err, f.buf.lastKey.Key)
		}
		if other, _ := OnceKeys(&set.Routes[1], tt.ask); slices.Contains(other, f.buf.lastKey.Key) {
			t.Errorf("%s: another route has the same key", tt.name)
		}
	}
	f := newFixture(t)
	if _, err := OnceKeys(&f.cfg.Policy().Routes[0], strings.Repeat("k", 256)); err == nil || err.Error() != "the idempotency key is over 255 bytes" {
		t.Errorf("OnceKeys of 256 bytes: %v, want that it is over 255", err)
	}
}
