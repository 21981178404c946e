package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestNothingIsSmuggledBehindAHandOn: of a connection that net/http serves, this
// server has read one request, and no more is taken there.
func TestNothingIsSmuggledBehindAHandOn(t *testing.T) {
	const hidden = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	const both = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + hidden
	for name, tt := range map[string]struct {
		raw  string
		want string // the paths that the handler sees
	}{
		"1.0 in chunks":      {"POST /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + hidden, ""},
		"1.0 with both":      {"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + hidden, ""},
		"1.0 with a fold":    {"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\nX: a\r\n b\r\n\r\nab", ""},
		"1.0, then both":     {"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + both, "/a"},
		"upgrade, then both": {"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + both, "/a"},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var seen []string
			c := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, r.URL.Path)
			}).dial()
			c.send(tt.raw)
			_, _ = io.Copy(io.Discard, c.r) // it ends, or is reset
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(seen, " "); got != tt.want {
				t.Errorf("the handler saw %q, want %q", got, tt.want)
			}
		})
	}
}

// TestContextStaysEnded: whoever holds a request's context after the request
// finds it ended, however late it looks.
func TestContextStaysEnded(t *testing.T) {
	kept := make(chan context.Context, 1)
	c := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_ = r.Context().Done()
		kept <- r.Context()
	}).dial()
	for range 3 {
		c.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 200, "")
		ctx := <-kept
		<-ctx.Done()
		if err := ctx.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("after its request the context's error is %v", err)
		}
	}
}

// TestAcceptedWhileStopping: a connection that was accepted just before the
// listener closed is not served after Shutdown has returned.
func TestAcceptedWhileStopping(t *testing.T) {
	s := newServer(t, echo)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	s.start(theirs)
	if _, err := io.ReadAll(ours); err != nil {
		t.Errorf("%v, want the end of the connection", err)
	}
	if len(s.conns) > 0 {
		t.Error("a connection is served after Shutdown")
	}
}

// TestLengthOfAnswers: whatever a handler sets, the length is told once, and is true.
func TestLengthOfAnswers(t *testing.T) {
	set := func(status int, body string, lengths ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Length"] = lengths
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, tt := range map[string]struct {
		method string
		h      http.HandlerFunc
		want   string // of Content-Length
	}{
		"two":        {"GET", set(200, "abc", "1", "2"), "3"},
		"signed":     {"GET", set(200, "abc", "+3"), "3"},
		"of no body": {"GET", set(204, "", "5"), ""},
		"of a HEAD":  {"HEAD", set(200, "", "5"), "5"},
		"of a long HEAD": {"HEAD", func(w http.ResponseWriter, _ *http.Request) {
			for range 20 {
				_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
			}
		}, ""},
		"set too late": {"GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "abc")
		}, "3"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newServer(t, tt.h).dial()
			c.send(tt.method + " / HTTP/1.1\r\nHost: h\r\n\r\n")
			resp, _ := c.answer(tt.method)
			if got := strings.Join(resp.Header["Content-Length"], " "); got != tt.want {
				t.Errorf("Content-Length %q, want %q", got, tt.want)
			}
		})
	}
}

// TestNoContinueInAStream: 100 Continue is not said in the middle of an answer.
func TestNoContinueInAStream(t *testing.T) {
	c := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "abc")
		_ = http.NewResponseController(w).Flush()
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}).dial()
	c.send(post + "Expect: 100-continue\r\n" + length2)
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 3)
	if _, err := io.ReadFull(resp.Body, part); err != nil {
		t.Fatal(err)
	}
	c.send("ab")
	if rest, err := io.ReadAll(resp.Body); string(rest) != "ab" || err != nil {
		t.Errorf("%q, %v; want what was sent", rest, err)
	}
}

// TestRefusalAfterHead: a refusal has its body, whatever the request before it was.
func TestRefusalAfterHead(t *testing.T) {
	c := newServer(t, echo).dial()
	c.ask("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n", 202, "")
	c.send("GET / HTTP/1.1\n\n")
	if resp, body := c.answer("GET"); resp.StatusCode != 400 || body == "" {
		t.Errorf("status %d, body %q", resp.StatusCode, body)
	}
}

// TestLimitsOfTheHandler: a write limit that has passed can be lifted, and a
// connection that never said anything is not held for as long as one that did.
func TestLimitsOfTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			control := http.NewResponseController(w)
			_ = control.SetWriteDeadline(time.Now().Add(time.Second))
			time.Sleep(3 * time.Second)
			_ = control.SetWriteDeadline(time.Time{})
			_, _ = io.WriteString(w, "abc")
		}).pipe()
		c.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 200, "abc")
		c.Close()

		silent := newServer(t, echo).pipe()
		began := time.Now()
		_, _ = io.ReadAll(silent)
		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("a connection without a request lasted %v", took)
		}
	})
}
