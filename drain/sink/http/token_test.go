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
