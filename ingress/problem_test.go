package ingress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
)

// TestProblems has every error document that this package can make.
func TestProblems(t *testing.T) {
	const urn = "urn:forebay:problem:"
	const capacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
	failWith := func(err error) func(*fixture) {
		return func(f *fixture) { f.buf.appendErr = fmt.Errorf("append to orders: %w", err) }
	}
	receipt := func(f *fixture) string { return receiptsPrefix + f.order() }
	fixed := func(target string) func(*fixture) string { return func(*fixture) string { return target } }
	orders := fixed("/v1/orders")

	tests := []struct {
		name   string
		method string
		target func(*fixture) string // called first
		set    func(*fixture)
		body   string
		want   problemDocument // without instance, request id and jitter
		allow  string
	}{
		{"path", "POST", fixed("/v1/..%2forders"), nil, "", problemDocument{Type: urn + "bad-request", Title: "Bad request", Status: 400, Detail: "the path has an encoded separator"}, ""},
		{"route", "POST", fixed("/v2/orders"), nil, "", problemDocument{Type: urn + "no-route", Title: "No route", Status: 404, Detail: "no route of the policy matches this host and path"}, ""},
		{"reserved", "GET", fixed("/.forebay/admin"), nil, "", problemDocument{Type: urn + "no-route", Title: "No route", Status: 404, Detail: "no route of the policy matches this host and path"}, ""},
		{"reserved root", "GET", fixed("/.forebay"), nil, "", problemDocument{Type: urn + "no-route", Title: "No route", Status: 404, Detail: "no route of the policy matches this host and path"}, ""},
		{"below a receipt", "GET", fixed("/.forebay/receipts/a/b"), nil, "", problemDocument{Type: urn + "no-route", Title: "No route", Status: 404, Detail: "no route of the policy matches this host and path"}, ""},
		{"method", "GET", orders, nil, "", problemDocument{Type: urn + "method-not-allowed", Title: "Method not allowed", Status: 405, Detail: "allowed here: POST"}, "POST"},
		{"target", "GET", fixed("/" + strings.Repeat("x", maxTarget)), nil, "", problemDocument{Type: urn + "uri-too-long", Title: "URI too long", Status: 414, Detail: "path and query are over 8192 bytes"}, ""},
		{"body", "POST", orders, nil, strings.Repeat("x", 64<<10+1), problemDocument{Type: urn + "too-large", Title: "Too large", Status: 413, Detail: "the body is over 65536 bytes"}, ""},
		{"message", "POST", orders, failWith(buffer.ErrTooLarge), "", problemDocument{Type: urn + "too-large", Title: "Too large", Status: 413, Detail: "the body is over the stream's max_message_bytes"}, ""},
		{"buffer full", "POST", orders, failWith(buffer.ErrBufferFull), "", problemDocument{Type: capacity, Title: "Temporarily reduced capacity", Status: 503, Detail: "the stream has reached its size limit", Reason: "buffer-full", RetryAfter: 1}, ""},
		{"disk full", "POST", orders, failWith(buffer.ErrDiskFull), "", problemDocument{Type: capacity, Title: "Temporarily reduced capacity", Status: 503, Detail: "no disk space is left for new messages", Reason: "disk-full", RetryAfter: 1}, ""},
		{"disk full and no rate", "POST", fixed("/v1/registrations"), failWith(buffer.ErrDiskFull), "", problemDocument{Type: capacity, Title: "Temporarily reduced capacity", Status: 503, Detail: "no disk space is left for new messages", Reason: "disk-full", RetryAfter: 60}, ""},
		{"overloaded", "POST", orders, failWith(buffer.ErrOverloaded), "", problemDocument{Type: capacity, Title: "Temporarily reduced capacity", Status: 503, Detail: "the memory for requests in flight is in use", Reason: "overloaded", RetryAfter: 1}, ""},
		{"slow disk", "POST", orders, failWith(buffer.ErrStalled), "", problemDocument{Type: capacity, Title: "Temporarily reduced capacity", Status: 503, Detail: "the disk is slow; nothing of the request was stored", Reason: "overloaded", RetryAfter: 5}, ""},
		{"slow disk, open outcome", "POST", orders, failWith(buffer.ErrUndecided), "", problemDocument{Type: capacity, Title: "Temporarily reduced capacity", Status: 503, Detail: "the disk is slow; whether the request will be stored is not known, and an idempotency key makes it safe to repeat", Reason: "overloaded", RetryAfter: 5}, ""},
		{"dead letters full", "POST", orders, failWith(buffer.ErrDeadFull), "", problemDocument{Type: capacity, Title: "Temporarily reduced capacity", Status: 503, Detail: "the stream's dead letters have reached their size limit", Reason: "dead-letters-full", RetryAfter: 60}, ""},
		{"stream closed", "POST", orders, func(f *fixture) {
			f.cfg.Closed = func(stream string) (string, bool) { return "INC-7", stream == "orders" }
		}, "", problemDocument{Type: capacity, Title: "Temporarily reduced capacity", Status: 503, Detail: "the stream is closed to new messages", Reason: "stream-closed", RetryAfter: 60}, ""},
		{"closed", "POST", orders, failWith(buffer.ErrClosed), "", problemDocument{Type: capacity, Title: "Temporarily reduced capacity", Status: 503, Detail: "this server is shutting down", Reason: "shutting-down", RetryAfter: 5}, ""},
		{"broken", "POST", orders, failWith(buffer.ErrBroken), "", problemDocument{Type: urn + "internal", Title: "Internal error", Status: 500, Detail: "whether the request was carried out is not known; the log has the cause under request_id"}, ""},
		{"unknown", "POST", orders, failWith(errors.New("pwrite /var/lib/forebay: bad descriptor")), "", problemDocument{Type: urn + "internal", Title: "Internal error", Status: 500, Detail: "whether the request was carried out is not known; the log has the cause under request_id"}, ""},
		{"forged receipt", "GET", fixed("/.forebay/receipts/AAAAAAAAAAAAAAAAAAAAAAAAAA"), nil, "", problemDocument{Type: urn + "no-receipt", Title: "No such receipt", Status: 404, Detail: "no message with this id was accepted here"}, ""},
		{"forged receipt cancelled", "DELETE", fixed("/.forebay/receipts/x"), nil, "", problemDocument{Type: urn + "no-receipt", Title: "No such receipt", Status: 404, Detail: "no message with this id was accepted here"}, ""},
		{"gone", "GET", receipt, func(f *fixture) { f.buf.findErr = buffer.ErrGone }, "", problemDocument{Type: urn + "receipt-gone", Title: "Receipt gone", Status: 410, Detail: "the message was finished longer ago than receipts are kept"}, ""},
		{"gone and cancelled", "DELETE", receipt, func(f *fixture) { f.buf.cancelErr = buffer.ErrGone }, "", problemDocument{Type: urn + "receipt-gone", Title: "Receipt gone", Status: 410, Detail: "the message was finished longer ago than receipts are kept"}, ""},
		{"receipt unreadable", "GET", receipt, func(f *fixture) { f.buf.findErr = errors.New("read /var/lib/forebay: EIO") }, "", problemDocument{Type: urn + "internal", Title: "Internal error", Status: 500, Detail: "whether the request was carried out is not known; the log has the cause under request_id"}, ""},
		{"delivering", "DELETE", receipt, (*fixture).take, "", problemDocument{Type: urn + "not-cancellable", Title: "Not cancellable", Status: 409, Detail: "the message is being delivered"}, ""},
		{"final", "DELETE", receipt, func(f *fixture) { f.deliver(0) }, "", problemDocument{Type: urn + "not-cancellable", Title: "Not cancellable", Status: 409, Detail: "the message is in a final state"}, ""},
		{"receipt's methods", "POST", receipt, nil, "", problemDocument{Type: urn + "method-not-allowed", Title: "Method not allowed", Status: 405, Detail: "allowed here: DELETE, GET, HEAD"}, "DELETE, GET, HEAD"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			target := tt.target(f)
			if tt.set != nil {
				tt.set(f)
			}
			resp := f.do(tt.method, target, tt.body, "X-Request-Id: id-7")
			got := decode[problemDocument](t, resp)
			wantJitter(t, tt.want.RetryAfter, got.RetryAfter)
			if h := resp.Header.Get("Retry-After"); got.RetryAfter > 0 && h != strconv.Itoa(got.RetryAfter) {
				t.Errorf("Retry-After %q, want retry_after_seconds, %d", h, got.RetryAfter)
			}
			tt.want.RequestID, tt.want.Instance, tt.want.RetryAfter = "id-7", target, got.RetryAfter
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s %.40s (-want +got):\n%s", tt.method, target, diff)
			}
			h := resp.Header
			if resp.StatusCode != tt.want.Status || h.Get("Content-Type") != "application/problem+json" ||
				h.Get("Cache-Control") != "no-store" || h.Get("X-Request-Id") != "id-7" || h.Get("Allow") != tt.allow {
				t.Errorf("status %d, header %v", resp.StatusCode, h)
			}
			if logged := f.log.Len() > 0; logged != (tt.want.Status == 500) {
				t.Errorf("log %q after a %d", f.log, tt.want.Status)
			}
		})
	}
}

// TestAppendProblem holds that problems are written as encoding/json writes them.
func TestAppendProblem(t *testing.T) {
	full := problemDocument{
		Type: "urn:x", Title: "T", Status: 429, Detail: `a "quoted" <detail> & é`, Instance: "/v1/orders", RequestID: "id-7",
		RetryAfter: 7, Reason: "r", Line: 3, Violated: []string{"a", "b"},
	}
	for field, v := range reflect.ValueOf(full).Fields() {
		if v.IsZero() {
			t.Errorf("member %s is not tried", field.Name)
		}
	}
	for _, p := range []problemDocument{full, {}} {
		want, err := json.Marshal(p)
		if got := string(appendProblem(nil, &p)); err != nil || got != string(want) {
			t.Errorf("problem\n%s\nwant\n%s", got, want)
		}
	}
}

func wantJitter(t *testing.T, base, got int) {
	t.Helper()
	if base == 0 && got != 0 || got < base || got > base+max(1, base/5) {
		t.Errorf("retry_after_seconds %d, want %d and at most a fifth more", got, base)
	}
}

func TestJitterSpreads(t *testing.T) {
	seen := map[int]int{}
	for range 1000 {
		got := jittered(60)
		wantJitter(t, 60, got)
		seen[got]++
	}
	if len(seen) != 13 {
		t.Errorf("jittered(60) took %d values in 1000, want 60 … 72: %v", len(seen), seen)
	}
}

// TestInstanceWithoutPath holds that an answer about no path has an instance.
func TestInstanceWithoutPath(t *testing.T) {
	f := newFixture(t)
	r := request(t.Context(), "CONNECT", "/", "")
	r.URL.Path, r.RequestURI = "", "orders.internal:443"
	if got := decode[problemDocument](t, f.send(r)); got.Status != 400 || got.Instance != "/" {
		t.Errorf("problem %+v, want 400 with an instance", got)
	}
}

// TestProblemShape holds the names of the members, which callers rely on.
func TestProblemShape(t *testing.T) {
	f := newFixture(t)
	f.buf.appendErr = buffer.ErrBufferFull
	got := decode[map[string]any](t, f.do("POST", "/v1/orders", ""))
	for _, name := range []string{"type", "title", "status", "detail", "instance", "request_id", "retry_after_seconds", "reason"} {
		if _, ok := got[name]; !ok {
			t.Errorf("no member %q in %v", name, got)
		}
	}
}

func TestLogSaysNothingOfCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.do("POST", "/v1/orders", "secret-body", "X-Secret: secret-field")
		if f.log.Len() != 0 {
			t.Errorf("an accepted message was logged: %s", f.log)
		}
		f.buf.appendErr = errors.New("segment 7: input/output error")
		for range 100 {
			f.do("POST", "/v1/orders?secret-query", "secret-body", "X-Secret: secret-field")
		}
		time.Sleep(time.Second)
		f.do("POST", "/v1/orders", "secret-body", "X-Request-Id: id-9")
		lines := strings.Split(strings.TrimSpace(f.log.String()), "\n")
		if len(lines) != 2 || strings.Contains(f.log.String(), "secret") {
			t.Fatalf("log, want two lines without secrets:\n%s", f.log)
		}
		for _, want := range []string{"request_id=id-9", "suppressed=99", `error="segment 7: input/output error"`} {
			if !strings.Contains(lines[1], want) {
				t.Errorf("log line %q lacks %s", lines[1], want)
			}
		}
	})
}

func TestRequestID(t *testing.T) {
	f := newFixture(t)
	for _, id := range []string{"a", "7f3c-{42}:~", strings.Repeat("x", maxRequestID)} {
		if got := f.do("POST", "/v1/orders", "", "X-Request-Id: "+id).Header.Get("X-Request-Id"); got != id {
			t.Errorf("id %q was answered as %q", id, got)
		}
	}
	var made []string
	for _, ids := range [][]string{nil, {""}, {strings.Repeat("x", maxRequestID+1)}, {"a b"}, {"a\x7f"}, {"é"}, {"a", "b"}} {
		r := request(t.Context(), "POST", "/v1/orders", "")
		r.Header["X-Request-Id"] = ids
		got := f.send(r).Header.Get("X-Request-Id")
		if len(got) != 32 || slices.Contains(made, got) {
			t.Errorf("ids %q were answered as %q, want a fresh one", ids, got)
		}
		made = append(made, got)
		stored := f.buf.messages[len(f.buf.messages)-1].Header
		if want := (buffer.Field{Name: "X-Request-Id", Value: got}); !slices.Contains(stored, want) {
			t.Errorf("stored %v, want %v among them", stored, want)
		}
	}
}

func TestContextErrorsAreNotInternal(t *testing.T) {
	for _, err := range []error{context.Canceled, context.DeadlineExceeded} {
		if p := problemOf(err); p.status != http.StatusServiceUnavailable {
			t.Errorf("problemOf(%v) is a %d, want 503", err, p.status)
		}
	}
}
