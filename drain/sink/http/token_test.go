package http_test

import (
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"forebay/drain"
	"forebay/drain/sink/http"
	"forebay/policies"
)

// issuer is an authorization server. It answers each request with the next of its answers,
// and the last one again; in an answer # stands for how many it has given.
type issuer struct {
	url     string
	answers []string      // a status, a space and a body
	hold    chan struct{} // each answer from the second on waits for one; nil: none does

	mu    sync.Mutex
	asked []nethttp.Header // guarded by mu
	forms []string         // guarded by mu
}

func newIssuer(t *testing.T, answers ...string) *issuer {
	t.Helper()
	i := &issuer{answers: answers}
	srv := httptest.NewServer(i)
	t.Cleanup(srv.Close)
	i.url = srv.URL
	return i
}

func (i *issuer) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	form, _ := io.ReadAll(r.Body) // what was read is compared
	i.mu.Lock()
	i.asked, i.forms = append(i.asked, r.Header), append(i.forms, string(form))
	n := len(i.asked)
	i.mu.Unlock()
	if i.hold != nil && n > 1 {
		<-i.hold
	}
	var status int
	text := strings.ReplaceAll(i.answers[min(n, len(i.answers))-1], "#", fmt.Sprint(n))
	if _, err := fmt.Sscan(text, &status); err != nil {
		panic(err)
	}
	if status == 0 {
		<-r.Context().Done()
		return
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text[4:]) // who has left is seen by the test
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.asked)
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for ends := time.Now().Add(30 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(ends) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

const granted = `200 {"access_token":"token-#","token_type":"bearer","expires_in":3600}`

// authorized is a policy whose sink wants tokens of an issuer.
func authorized(t *testing.T, sink string, i *issuer) policies.Sink {
	t.Helper()
	p := policy(t, sink)
	p.HTTP.Permanent = append(p.HTTP.Permanent, 401)
	u, err := url.Parse(i.url + "/token")
	if err != nil {
		t.Fatal(err)
	}
	p.HTTP.OAuth2 = &policies.OAuth2{TokenURL: u, ClientID: "fore bay", ClientSecret: secretsOf(t, newSecret)[0]}
	return p
}

// guarded is a sink that takes some tokens and refuses others.
type guarded struct {
	recorder
	good atomic.Value // the token, or "" for any
}

func (g *guarded) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	g.recorder.ServeHTTP(w, r)
	if good, _ := g.good.Load().(string); good != "" && r.Header.Get("Authorization") != "Bearer "+good {
		w.WriteHeader(nethttp.StatusUnauthorized)
	}
}

// One token serves all attempts that begin at once, with short bodies and long ones,
// and nothing else says who sends.
func TestTokenIsFetchedOnce(t *testing.T) {
	var g guarded
	srv := httptest.NewServer(&g)
	defer srv.Close()
	i := newIssuer(t, granted)
	s := newSink(t, authorized(t, srv.URL, i))
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			m := order()
			m.Header = fields("authorization", "Bearer theirs")
			if n%2 > 0 {
				m.Body = make([]byte, 80<<10)
			}
			if out := s.Deliver(t.Context(), []drain.Delivery{m})[0]; out.Class != drain.Success {
				t.Errorf("outcome = %+v", out)
			}
		})
	}
	wg.Wait()
	if n := i.count(); n != 1 {
		t.Errorf("%d tokens were fetched, want one", n)
	}
	for _, r := range g.all() {
		if a := r.Header["Authorization"]; len(a) != 1 || a[0] != "Bearer token-1" {
			t.Errorf("Authorization = %q, want the token alone", a)
		}
	}
	if user, secret, ok := (&nethttp.Request{Header: i.asked[0]}).BasicAuth(); !ok || user != "fore+bay" || secret != url.QueryEscape(newSecret) {
		t.Errorf("the client is %q with %q, want its id and secret", user, secret)
	}
	if i.forms[0] != "grant_type=client_credentials" || i.asked[0].Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("asked with %q as %q", i.forms[0], i.asked[0].Get("Content-Type"))
	}
}

// While a token still holds, another one is fetched beside deliveries, which do not wait.
func TestTokenIsRenewedInTime(t *testing.T) {
	var g guarded
	srv := httptest.NewServer(&g)
	defer srv.Close()
	i := newIssuer(t, granted)
	i.hold = make(chan struct{})
	s := newSink(t, authorized(t, srv.URL, i))
	deliver(t, s, order())
	s.AgeToken(3600*time.Second - 2*time.Minute + time.Second)
	for range 3 {
		deliver(t, s, order())
		if got := g.last(t).Header.Get("Authorization"); got != "Bearer token-1" {
			t.Errorf("Authorization = %q, want the old token while the new one is fetched", got)
		}
	}
	close(i.hold)
	waitFor(t, "a delivery with the new token", func() bool {
		deliver(t, s, order())
		return g.last(t).Header.Get("Authorization") == "Bearer token-2"
	})
	if n := i.count(); n != 2 {
		t.Errorf("%d tokens were fetched, want two", n)
	}
	s.AgeToken(3600*time.Second - 10*time.Second + time.Second) // too old to be used
	deliver(t, s, order())
	if got := g.last(t).Header.Get("Authorization"); got != "Bearer token-3" {
		t.Errorf("Authorization = %q, want a new token in the place of one that ends", got)
	}
}

// A token that the sink refuses is the sink's failure, whatever 401 is else, and is
// fetched anew.
func TestTokenIsRefused(t *testing.T) {
	for _, batch := range []bool{false, true} {
		var g guarded
		srv := httptest.NewServer(&g)
		defer srv.Close()
		i := newIssuer(t, granted)
		p := authorized(t, srv.URL+"/in", i)
		if batch {
			p.HTTP.Batch = &policies.Batch{MaxMessages: 20, MaxBytes: 1000, MaxWait: time.Second, Format: policies.BatchNDJSON}
		}
		s := newSink(t, p)
		d := s.Drained()
		g.good.Store("token-2")
		for _, out := range d.Deliver(t.Context(), documents("1", "2")) {
			want := drain.Outcome{Class: drain.Retry, Error: "token: status 401 from " + strings.TrimPrefix(srv.URL, "http://")}
			if batch && (out.Class != want.Class || out.Status != 0 || out.Error != want.Error) {
				t.Errorf("outcome in a batch = %+v, want %+v", out, want)
			}
			if !batch && out.Class == drain.Permanent {
				t.Errorf("outcome = %+v, want %+v", out, want)
			}
		}
		s.AgeToken(time.Second)
		for _, out := range d.Deliver(t.Context(), documents("1", "2")) {
			if out.Class != drain.Success {
				t.Errorf("outcome with the next token = %+v", out)
			}
		}
		if n := i.count(); n != 2 {
			t.Errorf("%d tokens were fetched, want two", n)
		}
	}
}

// Where there is no token, nothing is sent, and the outcome says why in words of ours alone. The sink is
// left alone until the next fetch, of which there is at most one a second.
func TestNoToken(t *testing.T) {
	tests := []struct{ name, answer, want string }{
		{"client refused", `401 {"error":"invalid_client","error_description":"whisper"}`, "status 401, invalid_client"},
		{"bad request", `400 {"error":"unauthorized_client"}`, "status 400, unauthorized_client"},
		{"an error of its own", `400 {"error":"whisper"}`, "status 400"},
		{"busy", "503 whisper", "status 503"},
		{"redirect", "302 whisper", "status 302"},
		{"error with 200", `200 {"error":"whisper"}`, "the answer is an error"},
		{"known error with 200", `200 {"error":"invalid_scope"}`, "status 200, invalid_scope"},
		{"no JSON", "200 <html>whisper</html>", "the answer is not the JSON of a token"},
		{"another JSON", `200 ["whisper"]`, "the answer is not the JSON of a token"},
		{"cut off", `200 {"access_token":"whisper`, "the answer is not the JSON of a token"},
		{"empty", "200 ", "the answer is not the JSON of a token"},
		{"endless", "200 " + strings.Repeat(" ", 70<<10), "the answer is over 64 KiB"},
		{"no token", `200 {"token_type":"bearer"}`, "the answer has no access_token"},
		{"long token", `200 {"access_token":"` + strings.Repeat("x", 17<<10) + `"}`, "the access_token is over 16 KiB"},
		{"injection", `200 {"access_token":"whisper\r\nX: y"}`, "the access_token cannot stand in a header field"},
		{"other type", `200 {"access_token":"whisper","token_type":"mac"}`, "the token_type is not Bearer"},
		{"over already", `200 {"access_token":"whisper","expires_in":-5}`, "expires_in is not a number of seconds to come"},
		{"soon", `200 {"access_token":"whisper","expires_in":"soon"}`, "expires_in is not a number of seconds to come"},
		{"no number", `200 {"access_token":"whisper","expires_in":"NaN"}`, "expires_in is not a number of seconds to come"},
		{"a blink", `200 {"access_token":"whisper","expires_in":0.001}`, "expires_in is not a number of seconds to come"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r recorder
			srv := httptest.NewServer(&r)
			defer srv.Close()
			i := newIssuer(t, tt.answer)
			s := newSink(t, authorized(t, srv.URL, i))
			host := strings.TrimPrefix(i.url, "http://")
			for range 3 {
				out := deliver(t, s, order())
				if want := "token: " + tt.want + ": " + host; out.Class != drain.Retry || out.Status != 0 || out.Error != want {
					t.Errorf("outcome = %+v, want a failure of the sink: %s", out, want)
				}
				if out.RetryAfter <= 0 || out.RetryAfter > time.Second {
					t.Errorf("RetryAfter = %v, want the time to the next fetch", out.RetryAfter)
				}
			}
			s.AgeToken(time.Second)
			if out := deliver(t, s, order()); out.RetryAfter <= time.Second || out.RetryAfter > 2*time.Second {
				t.Errorf("RetryAfter after the second fetch = %v, want up to 2 s", out.RetryAfter)
			}
			if n := i.count(); n != 2 {
				t.Errorf("%d fetches, want one before its time was over and one after", n)
			}
			if n := len(r.all()); n > 0 {
				t.Errorf("%d requests without a token", n)
			}
		})
	}
}

// What a server says of a token's life is believed within bounds.
func TestTokenLife(t *testing.T) {
	for expires, want := range map[string]struct{ holds, over time.Duration }{
		``:                                   {4*time.Minute + 49*time.Second, 5 * time.Minute},
		`,"expires_in":null`:                 {4*time.Minute + 49*time.Second, 5 * time.Minute},
		`,"expires_in":0`:                    {4*time.Minute + 49*time.Second, 5 * time.Minute},
		`,"expires_in":"600"`:                {9*time.Minute + 49*time.Second, 10 * time.Minute},
		`,"expires_in":99999999999999999999`: {23 * time.Hour, 24 * time.Hour},
		`,"expires_in":1e999`:                {23 * time.Hour, 24 * time.Hour},
	} {
		var r recorder
		srv := httptest.NewServer(&r)
		defer srv.Close()
		i := newIssuer(t, `200 {"access_token":"token-#"`+expires+`}`)
		i.hold = make(chan struct{})
		s := newSink(t, authorized(t, srv.URL, i))
		deliver(t, s, order())
		s.AgeToken(want.holds)
		deliver(t, s, order())
		if got := r.last(t).Header.Get("Authorization"); got != "Bearer token-1" {
			t.Errorf("%s: after %v %q, want the token still", expires, want.holds, got)
		}
		close(i.hold)
		s.AgeToken(want.over - want.holds)
		deliver(t, s, order())
		if got := r.last(t).Header.Get("Authorization"); got == "Bearer token-1" {
			t.Errorf("%s: after %v the token is used still", expires, want.over)
		}
	}
}

// There are servers that take the client's secret in the body alone.
func TestTokenSecretInBody(t *testing.T) {
	var r recorder
	srv := httptest.NewServer(&r)
	defer srv.Close()
	i := newIssuer(t, `401 {"error":"invalid_client"}`, granted)
	s := newSink(t, authorized(t, srv.URL, i))
	deliver(t, s, order())
	s.AgeToken(time.Second)
	if out := deliver(t, s, order()); out.Class != drain.Success {
		t.Errorf("outcome = %+v", out)
	}
	want := url.Values{"grant_type": {"client_credentials"}, "client_id": {"fore bay"}, "client_secret": {newSecret}}.Encode()
	if i.forms[1] != want || i.asked[1].Get("Authorization") != "" {
		t.Errorf("the second time asked with %q and Authorization %q, want %q alone", i.forms[1], i.asked[1].Get("Authorization"), want)
	}
}

// A token server that does not answer, or must not be dialled.
func TestTokenServerOutOfReach(t *testing.T) {
	silent := newIssuer(t, "0")
	tests := map[string]struct{ at, want string }{
		"silent":    {silent.url, "timeout"},
		"metadata":  {"http://169.254.169.254", "refused address"},
		"not there": {"http://127.0.0.1:1", "connection refused"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := authorized(t, "http://127.0.0.1:1", &issuer{url: tt.at})
			p.HTTP.Timeout = 200 * time.Millisecond
			if name != "silent" {
				p.HTTP.Timeout = time.Minute
			}
			out := deliver(t, newSink(t, p), order())
			if want := "token: " + tt.want + ": " + strings.TrimPrefix(tt.at, "http://"); out.Class == drain.Permanent || out.Status != 0 || out.Error != want {
				t.Errorf("outcome = %+v, want %s", out, want)
			}
		})
	}
}

// A live request goes with the token in the place of its caller's, or not at all.
func TestLiveToken(t *testing.T) {
	var g guarded
	srv := httptest.NewServer(&g)
	defer srv.Close()
	ask := func(s *http.Sink) (int, error) {
		req, err := nethttp.NewRequestWithContext(t.Context(), nethttp.MethodGet, "http://caller.invalid/v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header("Authorization", "Bearer theirs")
		resp, err := s.Upstream().RoundTrip(req)
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	i := newIssuer(t, granted, granted, "500 ")
	s := newSink(t, authorized(t, srv.URL, i))
	g.good.Store("token-2")
	if status, err := ask(s); status != 401 {
		t.Errorf("status with a token that is refused = %d, %v", status, err)
	}
	s.AgeToken(time.Second)
	if status, err := ask(s); status != 200 {
		t.Errorf("status with the next token = %d, %v", status, err)
	}
	if a := g.last(t).Header["Authorization"]; len(a) != 1 || a[0] != "Bearer token-2" {
		t.Errorf("Authorization = %q, want the token alone", a)
	}
	s.AgeToken(time.Hour)
	_, err := ask(s)
	f, ok := errors.AsType[*http.Failure](err)
	if !ok || !f.NoToken || !f.Unsent || f.Timeout || f.ProxyError() != "destination_unavailable" {
		t.Fatalf("error = %#v, want a failure for want of a token", err)
	}
	if want := "token: status 500: " + strings.TrimPrefix(i.url, "http://"); f.Outcome().Error != want || f.Outcome().Status != 0 {
		t.Errorf("the breaker hears %+v, want %s", f.Outcome(), want)
	}
}
