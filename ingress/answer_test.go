package ingress

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
	"forebay/policies"
)

func TestResult(t *testing.T) {
	text := func(s string) *string { return &s }
	answer := func(body string, truncated bool) *buffer.Answer {
		return &buffer.Answer{Header: []buffer.Field{{Name: "Content-Type", Value: "text/plain"}}, Body: []byte(body), Truncated: truncated}
	}
	header := http.Header{"Content-Type": {"text/plain"}}
	tests := []struct {
		name string
		d    buffer.DrainStatus
		want *Result
	}{
		{"no answer", buffer.DrainStatus{}, nil},
		{"status alone", buffer.DrainStatus{Status: 204}, &Result{Status: 204}},
		{"whole", buffer.DrainStatus{Status: 201, Answer: answer("ü", false)}, &Result{Status: 201, Headers: header, Body: text("ü")}},
		{"empty", buffer.DrainStatus{Status: 201, Answer: answer("", false)}, &Result{Status: 201, Headers: header, Body: text("")}},
		{"cut in a rune", buffer.DrainStatus{Status: 201, Answer: answer("aü"[:2], true)}, &Result{Status: 201, Headers: header, Body: text("a"), Truncated: true}},
		{"cut behind one", buffer.DrainStatus{Status: 201, Answer: answer("aü", true)}, &Result{Status: 201, Headers: header, Body: text("aü"), Truncated: true}},
		{"no text", buffer.DrainStatus{Status: 200, Answer: answer("\xff\x00", false)}, &Result{Status: 200, Headers: header, BodyBase64: []byte("\xff\x00")}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, newResult(&tt.d)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestSinkAnswers holds what a caller who waited is answered with.
func TestSinkAnswers(t *testing.T) {
	created := buffer.Result{Attempts: 1, Status: 201, Answer: &buffer.Answer{
		Header: []buffer.Field{
			{Name: "Connection", Value: "X-Hop"},
			{Name: "Content-Type", Value: "text/plain"},
			{Name: "Forebay-Rate", Value: "5/s"},
			{Name: "Location", Value: "/orders/7"},
			{Name: "Via", Value: "1.1 edge"},
			{Name: "X-Hop", Value: "1"},
		},
		Body: []byte("order 7"),
	}}
	refused := created
	refused.Status = 422
	cut := created
	cut.Answer = &buffer.Answer{Body: []byte("ord"), Truncated: true}
	bare := buffer.Result{Attempts: 1, Status: 201}
	tests := []struct {
		name, path, waitFor string
		ends                map[string]buffer.Result // by drain
		want                int
		relayed             bool
	}{
		{"one drain", "/v1/orders", "", map[string]buffer.Result{"orders-to-service": created}, 201, true},
		{"refused", "/v1/orders", "", map[string]buffer.Result{"orders-to-service": refused}, 422, true},
		{"cut", "/v1/orders", "", map[string]buffer.Result{"orders-to-service": cut}, 200, false},
		{"not kept", "/v1/orders", "", map[string]buffer.Result{"orders-to-service": bare}, 200, false},
		{"several drains", "/v1/registrations", "", map[string]buffer.Result{"email": created, "sms": bare}, 200, false},
		{"one of several", "/v1/registrations", "email", map[string]buffer.Result{"email": created}, 201, true},
		{"one of several, not kept", "/v1/registrations", "email", map[string]buffer.Result{"email": bare}, 200, false},
		{"another of several", "/v1/registrations", "email", map[string]buffer.Result{"sms": created}, 202, false},
		{"all but one", "/v1/registrations", "", map[string]buffer.Result{"sms": created}, 202, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, routes(func(create, register *policies.Route) {
					create.StoreResult, register.StoreResult, register.WaitFor = 100, 100, tt.waitFor
				}))
				time.AfterFunc(time.Second, func() { f.end(tt.ends) })
				resp := f.do("POST", tt.path, "{}", "Prefer: wait=5", "X-Request-Id: abc")
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != tt.want || tt.relayed != (string(body) == "order 7") || resp.Header.Get("Preference-Applied") != "wait=5" {
					t.Fatalf("status %d, header %v, body %s; want %d, relayed %t", resp.StatusCode, resp.Header, body, tt.want, tt.relayed)
				}
				if f.buf.messages[0].KeepAnswer != 100 {
					t.Errorf("stored %+v, want KeepAnswer 100", f.buf.messages[0])
				}
				if !tt.relayed {
					if !strings.HasPrefix(resp.Header.Get("Location"), receiptsPrefix) || (resp.Header.Get("Retry-After") == "") != (tt.want == 200 && len(tt.ends) == len(f.drainsOf(tt.path))) {
						t.Errorf("header %v of a receipt", resp.Header)
					}
					return
				}
				want := http.Header{
					"Content-Type": {"text/plain"}, "Location": {"/orders/7"}, "Via": {"1.1 edge, 1.1 forebay"}, "Vary": {"Prefer"},
					"Preference-Applied": {"wait=5"}, "X-Request-Id": {"abc"}, "Forebay-Id": resp.Header["Forebay-Id"],
				}
				if diff := cmp.Diff(want, resp.Header); diff != "" || resp.Header.Get("Forebay-Id") == "" {
					t.Errorf("header (-want +got):\n%s", diff)
				}
				wantCount(t, f, map[string]string{"/v1/orders": "create-order", "/v1/registrations": "register"}[tt.path], decisionBuffered, fmt.Sprint(tt.want), 1)
			})
		})
	}
}

func (f *fixture) drainsOf(path string) []string {
	if path == "/v1/orders" {
		return []string{"orders-to-service"}
	}
	return []string{"email", "sms"}
}

// end has drains finish with their first message.
func (f *fixture) end(results map[string]buffer.Result) {
	for drain, r := range results {
		if ds, _, err := f.buf.Take(drain, time.Now(), 1); err != nil || len(ds) != 1 {
			f.t.Errorf("take from %s: %d, %v", drain, len(ds), err)
		}
		r.At = time.Now()
		f.buf.mu.Lock()
		f.buf.answers[drain] = r.Answer
		f.buf.mu.Unlock()
		if r.Status < 300 {
			f.buf.Ack(drain, 0, r)
		} else {
			f.buf.Bury(drain, 0, buffer.ReasonPermanent, r)
		}
	}
}

func TestStoredAnswerHasNoGuessedType(t *testing.T) {
	f := newFixture(t, routes(func(create, _ *policies.Route) { create.StoreResult = 100 }))
	srv := httptest.NewServer(f.Handler) // which guesses where nobody says
	t.Cleanup(srv.Close)
	f.do("POST", "/v1/orders", "{}", "Idempotency-Key: 7")
	f.end(map[string]buffer.Result{"orders-to-service": {Attempts: 1, Status: 200, Answer: &buffer.Answer{Body: []byte("<html>")}}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/v1/orders", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Prefer", "wait=9")
	r.Header.Set("Idempotency-Key", "7")
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind, ok := resp.Header["Content-Type"]; ok || resp.StatusCode != http.StatusOK {
		t.Errorf("status %d, Content-Type %q, which the sink did not send", resp.StatusCode, kind)
	}
}
