package http_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"forebay/buffer"
	"forebay/drain"
	"forebay/drain/sink/http"
)

// live sends a live request, and reads all of the answer.
func live(ctx context.Context, s *http.Sink, body io.Reader) (*nethttp.Response, string, error) {
	req, err := nethttp.NewRequestWithContext(ctx, "POST", "http://shop.example.com/v1/orders", body)
	if err != nil {
		return nil, "", err
	}
	resp, err := s.Upstream().RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp, string(raw), err
}

// The caller's Host is kept where the policy says so, of live requests and of messages.
func TestPreserveHost(t *testing.T) {
	var r recorder
	srv := httptest.NewServer(&r)
	defer srv.Close()
	for preserve, want := range map[bool]string{true: "shop.example.com", false: strings.TrimPrefix(srv.URL, "http://")} {
		p := policy(t, srv.URL)
		p.HTTP.PreserveHost = preserve
		s := newSink(t, p)
		if _, _, err := live(t.Context(), s, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		if got := r.last(t).Host; got != want {
			t.Errorf("preserve_host %v: a live request came for host %s, want %s", preserve, got, want)
		}
		m := order()
		m.Header = []buffer.Field{{Name: "X-Forwarded-Host", Value: "shop.example.com"}}
		deliver(t, s, m)
		if got := r.last(t).Host; got != want {
			t.Errorf("preserve_host %v: a message came for host %s, want %s", preserve, got, want)
		}
	}
}

// Nothing is written that Begin does not allow.
func TestUpstreamAsksBeforeItWrites(t *testing.T) {
	var seen atomic.Int64
	srv := httptest.NewServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) { seen.Add(1) }))
	defer srv.Close()
	s := newSink(t, policy(t, srv.URL))
	for i, allowed := range []bool{true, false, true, false} {
		before := seen.Load()
		ctx := drain.WithBegin(t.Context(), func() error {
			if !allowed {
				return errors.New("not now")
			}
			return nil
		})
		_, _, err := live(ctx, s, strings.NewReader("x"))
		f, failed := errors.AsType[*http.Failure](err)
		if failed == allowed || failed && (!f.Held || !f.Unsent || !f.Outcome().Unsent) || (seen.Load() != before) != allowed {
			t.Errorf("attempt %d, allowed %v: %v, and the sink saw %d", i, allowed, err, seen.Load()-before)
		}
	}
}

// What a failure says: whose it is, whether anything was sent, and what it is called.
func TestLiveFailures(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	silent := httptest.NewServer(nethttp.HandlerFunc(func(_ nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	reset := httptest.NewServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) { panic(nethttp.ErrAbortHandler) }))
	t.Cleanup(reset.Close)
	for name, tt := range map[string]struct {
		url  string
		body io.Reader
		want http.Failure
		word string
	}{
		"unreachable":    {gone.URL, strings.NewReader("x"), http.Failure{Unsent: true}, "connection_refused"},
		"silent":         {silent.URL, strings.NewReader("x"), http.Failure{Timeout: true}, "http_response_timeout"},
		"reset":          {reset.URL, strings.NewReader("x"), http.Failure{}, "connection_terminated"},
		"refused":        {"http://169.254.169.254", nil, http.Failure{Unsent: true}, "destination_ip_prohibited"},
		"slow caller":    {silent.URL, slowBody{}, http.Failure{Timeout: true, Caller: true}, "http_response_timeout"},
		"broken request": {silent.URL, io.MultiReader(strings.NewReader("x"), broken{}), http.Failure{Caller: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := policy(t, tt.url)
			p.HTTP.Timeout = 300 * time.Millisecond
			_, _, err := live(t.Context(), newSink(t, p), tt.body)
			f, ok := errors.AsType[*http.Failure](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if f.Held != tt.want.Held || f.Unsent != tt.want.Unsent || f.Timeout != tt.want.Timeout || f.Caller != tt.want.Caller {
				t.Errorf("got %+v", f)
			}
			if word := f.ProxyError(); word != tt.word && tt.word != "" {
				t.Errorf("it is called %s, want %s", word, tt.word)
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the caller has left") }

// slowBody comes when the attempt has long been given up.
type slowBody struct{}

func (slowBody) Read([]byte) (int, error) {
	<-time.After(2 * time.Second)
	return 0, io.EOF
}

// An answer goes on for longer than the time-out, as long as it does go on; then
// it is cut off.
func TestLiveStreamsOn(t *testing.T) {
	hang := make(chan bool)
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		for range 10 {
			fmt.Fprint(w, "x")
			w.(nethttp.Flusher).Flush()
			<-time.After(100 * time.Millisecond)
		}
		if r.Header.Get("Hang") != "" {
			<-hang
		}
	}))
	defer srv.Close()
	defer close(hang)
	p := policy(t, srv.URL)
	p.HTTP.Timeout = 900 * time.Millisecond
	s := newSink(t, p)
	if _, body, err := live(t.Context(), s, nil); err != nil || body != "xxxxxxxxxx" {
		t.Errorf("%q, %v of an answer that takes a second", body, err)
	}
	req, _ := nethttp.NewRequestWithContext(t.Context(), "GET", "http://h/", nil)
	req.Header.Set("Hang", "1")
	resp, err := s.Upstream().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%q of an answer that hangs, want it cut off", body)
	}
}

// Another URL is tried where nothing was sent, once, and never after something was.
func TestUpstreamTriesAnother(t *testing.T) {
	var seen atomic.Int64
	count := nethttp.HandlerFunc(func(_ nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen.Add(1)
	})
	up := httptest.NewServer(count)
	defer up.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	s := newSink(t, policy(t, gone.URL, up.URL))
	for range 5 {
		if _, _, err := live(t.Context(), s, strings.NewReader("x")); err != nil {
			t.Errorf("with one URL of two gone: %v", err)
		}
	}
	if n := seen.Load(); n != 5 {
		t.Errorf("the URL that is there saw %d of 5", n)
	}

	// It takes the request and hangs up.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1000))
			seen.Add(1)
			c.Close()
		}
	}()
	seen.Store(0)
	s = newSink(t, policy(t, "http://"+ln.Addr().String(), "http://"+ln.Addr().String()+"/other"))
	if _, _, err := live(t.Context(), s, strings.NewReader("x")); err == nil || seen.Load() != 1 {
		t.Errorf("%v after %d attempts, want one", err, seen.Load())
	}
}

// A URL that fails again after each rest rests longer each time.
func TestRestGrows(t *testing.T) {
	var a, b atomic.Int64
	bad := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) { a.Add(1); w.WriteHeader(502) }))
	defer bad.Close()
	good := httptest.NewServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) { b.Add(1) }))
	defer good.Close()
	s := newSink(t, policy(t, bad.URL, good.URL))
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		if _, _, err := live(t.Context(), s, nil); err != nil {
			t.Fatal(err)
		}
	}
	// At 0 and 1 s, and not at 2 s.
	if n := a.Load(); n < 1 || n > 2 || b.Load() == 0 {
		t.Errorf("the URL that fails saw %d requests, the other %d", n, b.Load())
	}
}
