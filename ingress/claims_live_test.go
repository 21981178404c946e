package ingress

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forebay/policies"
)

// TestSentTwiceAtOnce: while a request with an idempotency key is with its sink,
// another one with the key waits for it.
func TestSentTwiceAtOnce(t *testing.T) {
	tests := []struct {
		name   string
		takes  time.Duration // the first at the sink
		body   string        // of the second
		status int
		after  time.Duration
		sent   int
	}{
		{"the sink decides once the first is over", 700 * time.Millisecond, order, 201, 1400 * time.Millisecond, 2},
		{"it is told to come again", 3 * time.Second, order, 409, time.Second, 1},
		{"it asks something else", 3 * time.Second, "{}", 422, 0, 1},
	}
	for _, mode := range []policies.Mode{policies.ModeOverflow, policies.ModePass} {
		for _, tt := range tests {
			t.Run(string(mode)+", "+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sink := &liveSink{answer: func(*http.Request) (*http.Response, error) {
						time.Sleep(tt.takes)
						return answered(201, ""), nil
					}}
					f := newOverflow(t, sink, routes(func(order, _ *policies.Route) { order.Mode = mode }))
					first := make(chan int)
					go func() { first <- f.do("POST", "/v1/orders", order, "Idempotency-Key: k").StatusCode }()
					synctest.Wait()
					begin := time.Now()
					resp := f.do("POST", "/v1/orders", tt.body, "Idempotency-Key: k")
					if took := time.Since(begin); resp.StatusCode != tt.status || took != tt.after {
						t.Errorf("status %d after %v, want %d after %v", resp.StatusCode, took, tt.status, tt.after)
					}
					if got := resp.Header.Get("Retry-After"); (got == "1") != (tt.status == 409) {
						t.Errorf("Retry-After %q", got)
					}
					if got := <-first; got != 201 {
						t.Errorf("the first: status %d, want 201", got)
					}
					if got := len(sink.sent()); got != tt.sent {
						t.Errorf("%d requests were sent, want %d", got, tt.sent)
					}
				})
			})
		}
	}
}

// TestLiveKey: a key is passed on with the whole request, and may be required.
func TestLiveKey(t *testing.T) {
	for _, mode := range []policies.Mode{policies.ModeOverflow, policies.ModePass} {
		sink := &liveSink{}
		f := newOverflow(t, sink, routes(func(order, _ *policies.Route) { order.Mode, order.Idempotency.Required = mode, true }))
		resp := f.do("POST", "/v1/orders", order)
		if p := decode[problemDocument](t, resp); resp.StatusCode != 400 || p.Type != problemPrefix+"idempotency-key-missing" {
			t.Errorf("%s without a key: status %d, %s", mode, resp.StatusCode, p.Type)
		}
		if resp := f.do("POST", "/v1/orders", order, "Idempotency-Key: a", "Idempotency-Key: b"); resp.StatusCode != 400 {
			t.Errorf("%s with two keys: status %d, want 400", mode, resp.StatusCode)
		}
		large := strings.Repeat("x", 2<<20)
		if resp := f.do("POST", "/v1/orders", large, "Idempotency-Key: k"); resp.StatusCode != 413 {
			t.Errorf("%s with a body over max_body: status %d, want 413", mode, resp.StatusCode)
		}
		if len(sink.sent()) != 0 {
			t.Errorf("%s: %d requests were sent that are refused", mode, len(sink.sent()))
		}
		if resp := f.do("POST", "/v1/orders", order, `Idempotency-Key: "k"`); resp.StatusCode != 201 || sink.sent()[0] != order {
			t.Errorf("%s with a key: status %d, sent %q", mode, resp.StatusCode, sink.sent())
		}
		if keys := keysSent(sink.last.Header); !slices.Equal(keys, []string{`"k"`}) {
			t.Errorf("%s: the sink has the keys %q", mode, keys)
		}
		if used := f.bodies.used.Load(); used != 0 {
			t.Errorf("%s: %d bytes of bodies are in use after the last request", mode, used)
		}
	}
}

// keysSent are the idempotency keys of a header, in whatever case it is spelled.
func keysSent(h http.Header) (keys []string) {
	for name, values := range h {
		if strings.EqualFold(name, idempotencyKeyField) {
			keys = append(keys, values...)
		}
	}
	return keys
}
