package ingress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"forebay/policies"
)

// dial connects to a server for as long as a test runs.
func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	return c, bufio.NewReader(c)
}

func policyOf(set *policies.Set) func() *policies.Set { return func() *policies.Set { return set } }

// count is how many requests of a route were counted so.
func count(f *fixture, route, decision, code string) float64 {
	return testutil.ToFloat64(f.metrics.requests.WithLabelValues(route, decision, code))
}

func write(t *testing.T, w io.Writer, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		t.Fatal(err)
	}
}

// What Forebay says of itself and of the caller, and what it keeps for itself.
func TestProxySaysWhoItIs(t *testing.T) {
	sink := newSink(t, answerWith("Via: 1.1 inner", "Forebay-Cancel-Key: 7", "Forebay-Rate: 3/s", "X-Request-Id: theirs", "Proxy-Status: inner; received-status=201"))
	for name, tt := range map[string]struct {
		trusted []netip.Prefix
		want    map[string]string // at the sink
	}{
		"a stranger's word counts for nothing": {nil, map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "shop", "X-Forwarded-Proto": "http"}},
		"a trusted proxy's does": {
			[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			map[string]string{"X-Forwarded-For": "198.51.100.7, 127.0.0.1", "X-Forwarded-Host": "www.shop", "X-Forwarded-Proto": "https"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr, _, _ := newProxy(t, sink.URL, func(c *Config) { c.TrustedProxies = tt.trusted })
			c, r := dial(t, addr)
			write(t, c, "GET / HTTP/1.1\r\nHost: shop\r\nVia: 1.0 outer\r\nX-Request-Id: mine\r\nForebay-Id: 1\r\nForebay_Id: 1\r\nX-Real-Ip: 1.1.1.1\r\nX_Real_Ip: 1.1.1.1\r\n"+
				"X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Host: www.shop\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX_Forwarded_For: 1.1.1.1\r\n\r\n")
			e := readExchange(t, r, "GET")
			seen := (<-sink.seen).SeenHeader
			want := map[string]string{"Via": "1.0 outer, 1.1 forebay", "X-Request-Id": "mine"}
			maps.Copy(want, tt.want)
			got := map[string]string{}
			for k, v := range seen {
				got[k] = strings.Join(v, "|")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the sink saw (-want +got):\n%s", diff)
			}
			for field, want := range map[string][]string{
				"Via": {"1.1 inner, 1.1 forebay"}, "X-Request-Id": {"mine"}, "Forebay-Cancel-Key": nil, "Forebay-Rate": nil,
				"Proxy-Status": {"inner; received-status=201", "forebay; received-status=200"},
			} {
				if diff := cmp.Diff(want, e.Header[field]); diff != "" {
					t.Errorf("the caller saw %s (-want +got):\n%s", field, diff)
				}
			}
		})
	}
}

// A request that goes round ends.
func TestProxyLoop(t *testing.T) {
	var addr string
	sink := newSink(t, func(w http.ResponseWriter, r *http.Request) {
		again, _ := http.NewRequestWithContext(r.Context(), "GET", "http://"+addr+"/", nil)
		again.Header = r.Header.Clone()
		resp, err := http.DefaultClient.Do(again)
		if err != nil {
			w.WriteHeader(599)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
	})
	addr, _, _ = newProxy(t, sink.URL)
	e := sink.exchange(t, addr, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if e.Status != http.StatusLoopDetected {
		t.Errorf("status %d of a loop, want 508", e.Status)
	}
	if n := len(sink.seen) + 1; n != maxHops {
		t.Errorf("the sink saw %d requests, want %d", n, maxHops)
	}
	f := newFixture(t) // a message that is stored goes round as well
	if resp := f.do("POST", "/v1/orders", "{}", "Via: "+strings.Repeat("1.1 forebay, ", maxHops)); resp.StatusCode != http.StatusLoopDetected ||
		resp.Header.Get("Proxy-Status") != "forebay; error=proxy_loop_detected" {
		t.Errorf("status %d, Proxy-Status %q", resp.StatusCode, resp.Header.Get("Proxy-Status"))
	}
}

// What came behind a request's body comes behind it at the sink, where it was announced.
func TestProxyRequestTrailer(t *testing.T) {
	sink := newSink(t, answerWith())
	addr, _, _ := newProxy(t, sink.URL)
	e := sink.exchange(t, addr, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Forebay-Id, X-Forwarded-For, Content-Length\r\n\r\n"+
		"2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-Sneaky: 1\r\nForebay-Id: 1\r\nX-Forwarded-For: 1\r\nContent-Length: 7\r\n\r\n")
	if diff := cmp.Diff(http.Header{"X-Sum": {"1"}}, e.SeenTrailer); diff != "" || e.SeenBody != "hi" {
		t.Errorf("the sink saw %q and trailer (-want +got):\n%s", e.SeenBody, diff)
	}
}

// Who waits to be told sends its body when the sink wants it, and not before there
// is room for the request.
func TestProxyExpect(t *testing.T) {
	sink := newSink(t, answerWith())
	addr, s, _ := newProxy(t, sink.URL)
	const head = "POST /small HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
	c, r := dial(t, addr)
	write(t, c, head)
	if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v; want to be told to go on", line, err)
	}
	write(t, c, "hi")
	r.ReadString('\n')
	if e := readExchange(t, r, "POST"); e.Status != 200 {
		t.Errorf("status %d", e.Status)
	}
	if at := <-sink.seen; at.SeenBody != "hi" || at.SeenHeader.Get("Expect") != "100-continue" {
		t.Errorf("the sink saw %+v", at)
	}
	s.enter = func(context.Context, time.Duration) error { return &Refusal{} }
	write(t, c, head)
	if e := readExchange(t, r, "POST"); e.Status != 503 || len(e.Informational) > 0 {
		t.Errorf("status %d after %v without room, want 503 at once", e.Status, e.Informational)
	}
}

// A sink may answer before it has all of the body; whoever still sends gets the
// answer. (net/http, which is the sink here, waits for bodies up to 256 KiB; we for no body.)
func TestProxyEarlyAnswer(t *testing.T) {
	sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	addr, s, _ := newProxy(t, sink.URL)
	c, r := dial(t, addr)
	write(t, c, "POST / HTTP/1.1\r\nHost: h\r\nX-Early: 1\r\nContent-Length: 1000000\r\n\r\nbegin")
	began := time.Now()
	if e := readExchange(t, r, "POST"); e.Status != http.StatusForbidden || time.Since(began) > 10*time.Second {
		t.Errorf("status %d after %v", e.Status, time.Since(began))
	}
	eventually(t, "the turn has ended", func() bool { return s.turns() == 0 })
}

// The body of the next request on a connection is its own, though the sink never
// read that of the one before.
func TestProxyBodiesDoNotMix(t *testing.T) {
	sink := newSink(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Early") == "" {
			w.Header().Set("X-Whole", "1")
		}
	})
	addr, _, _ := newProxy(t, sink.URL)
	for range 20 {
		c, r := dial(t, addr)
		write(t, c, "POST / HTTP/1.1\r\nHost: h\r\nX-Early: 1\r\nContent-Length: 60000\r\n\r\n%s", strings.Repeat("a", 100))
		<-sink.seen
		write(t, c, "%sPOST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n%s", strings.Repeat("a", 59900), strings.Repeat("b", 5000))
		if e := readExchange(t, r, "POST"); e.Status != 200 {
			t.Fatalf("status %d", e.Status)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			continue // the connection was not kept
		}
		resp.Body.Close()
		if got := (<-sink.seen).SeenBody; got != strings.Repeat("b", 5000) {
			t.Fatalf("the second request's body was %d bytes, %q…", len(got), got[:min(10, len(got))])
		}
	}
}

// A body passes as it comes, and much of it in little memory.
func TestProxyStreamsUp(t *testing.T) {
	got := make(chan string)
	sum := make(chan int64)
	sink := newSink(t, func(w http.ResponseWriter, r *http.Request) {
		first := make([]byte, 5)
		io.ReadFull(r.Body, first)
		got <- string(first)
		n, _ := io.Copy(io.Discard, r.Body)
		sum <- n
	})
	addr, _, _ := newProxy(t, sink.URL)
	c, r := dial(t, addr)
	write(t, c, "POST / HTTP/1.1\r\nHost: h\r\nX-Early: 1\r\nContent-Length: %d\r\n\r\nfirst", 5+15<<20)
	if first := <-got; first != "first" {
		t.Fatalf("the sink saw %q before the rest was sent", first)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	chunk := make([]byte, 64<<10)
	for range 15 << 20 / len(chunk) {
		if _, err := c.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if n := <-sum; n != 15<<20 {
		t.Errorf("the sink saw %d bytes", n)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated for a body of 15 MiB", n)
	}
	if e := readExchange(t, r, "POST"); e.Status != 200 {
		t.Errorf("status %d", e.Status)
	}
}

// What a sink writes is at the caller before it writes on.
func TestProxyStreamsDown(t *testing.T) {
	for _, header := range []string{"Content-Type: text/event-stream", "Content-Type: application/json"} {
		more := make(chan bool)
		sink := newSink(t, func(w http.ResponseWriter, r *http.Request) {
			name, value, _ := strings.Cut(header, ": ")
			w.Header().Set(name, value)
			for range more {
				fmt.Fprint(w, "data: x\n\n")
				w.(http.Flusher).Flush()
			}
		})
		addr, _, _ := newProxy(t, sink.URL)
		c, r := dial(t, addr)
		write(t, c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		var body io.Reader
		for i := range 3 {
			more <- true
			if i == 0 {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				body = resp.Body
			}
			event := make([]byte, 9)
			if _, err := io.ReadFull(body, event); err != nil || string(event) != "data: x\n\n" {
				t.Fatalf("event %d of %s is %q, %v", i, header, event, err)
			}
		}
		close(more)
		if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
			t.Errorf("the end is %q, %v", rest, err)
		}
	}
}

// A connection that changes its protocol goes both ways until one side ends it. To
// HTTP/2, which would pass by every route, it does not change.
func TestProxyUpgrade(t *testing.T) {
	sink := newSink(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprint(w, "not upgraded")
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.Copy(c, rw)
	})
	addr, s, _ := newProxy(t, sink.URL)
	c, r := dial(t, addr)
	write(t, c, "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" || !slices.Equal(resp.Header["Connection"], []string{"Upgrade"}) {
		t.Fatalf("%v, %v", resp, err)
	}
	for range 3 {
		write(t, c, "hello")
		echo := make([]byte, 5)
		if _, err := io.ReadFull(r, echo); err != nil || string(echo) != "hello" {
			t.Fatalf("echo %q, %v", echo, err)
		}
	}
	if n := s.turns(); n != 1 {
		t.Errorf("%d turns while the connection is open", n)
	}
	c.Close()
	eventually(t, "the turn has ended", func() bool { return s.turns() == 0 })
	e := sink.exchange(t, addr, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n")
	if e.Body != "not upgraded" {
		t.Errorf("status %d, %q of an upgrade to h2c", e.Status, e.Body)
	}
}

// A caller who leaves takes the sink's request along.
func TestProxyCallerLeaves(t *testing.T) {
	began, cancelled := make(chan bool, 1), make(chan bool)
	sink := newSink(t, func(_ http.ResponseWriter, r *http.Request) {
		began <- true
		<-r.Context().Done()
		cancelled <- true
	})
	addr, s, f := newProxy(t, sink.URL)
	c, _ := dial(t, addr)
	write(t, c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
	<-began
	c.Close()
	<-cancelled
	eventually(t, "the turn has ended", func() bool { return s.turns() == 0 })
	eventually(t, "counted", func() bool {
		return count(f, "read", "error", "499") == 1
	})
}

// Bodies are bounded, whether or not they say how long they are; and a body
// without an end is the caller's fault.
func TestProxyBoundsBodies(t *testing.T) {
	sink := newSink(t, answerWith())
	addr, s, _ := newProxy(t, sink.URL)
	for send, want := range map[string]int{
		"Content-Length: 8\r\n\r\n12345678":                             200,
		"Content-Length: 9\r\n\r\n123456789":                            413,
		"Transfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n": 413,
		"Transfer-Encoding: chunked\r\n\r\n2\r\n12\r\nzz\r\n":           400,
	} {
		if e := sink.exchange(t, addr, "POST /small HTTP/1.1\r\nHost: h\r\n"+send); e.Status != want {
			t.Errorf("status %d of %q, want %d", e.Status, send, want)
		}
	}
	eventually(t, "the turns have ended", func() bool { return s.turns() == 0 })
}

type noAnswer struct{ err error }

func (f noAnswer) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// Where the sink is not asked, or does not answer, the caller is told why, when to
// come again, and by whom.
func TestProxyProblems(t *testing.T) {
	in := func(d time.Duration) time.Time { return time.Now().Add(d) }
	for name, tt := range map[string]struct {
		refused, failed error
		status          int
		what, word      string // the reason or type, and RFC 9209's
		least, most     int    // Retry-After
		decision        string
	}{
		"budget":      {refused: &Refusal{Until: in(2500 * time.Millisecond)}, status: 503, what: "sink-budget", word: "connection_limit_reached", least: 2, most: 4, decision: "full"},
		"paused":      {refused: &Refusal{Of: SinkPaused}, status: 503, what: "sink-paused", word: "destination_unavailable", least: 60, most: 72, decision: "full"},
		"breaker":     {refused: &Refusal{Of: SinkUnhealthy, Until: in(15 * time.Second)}, status: 503, what: "breaker-open", word: "destination_unavailable", least: 14, most: 18, decision: "full"},
		"not in time": {failed: &Failure{Held: true, Unsent: true, Err: io.EOF}, status: 503, what: "sink-budget", word: "connection_limit_reached", least: 1, most: 2, decision: "full"},
		"unreachable": {failed: &Failure{Word: "connection_refused", Unsent: true, Err: io.EOF}, status: 502, what: "sink-unreachable", word: "connection_refused", decision: "error"},
		"silent":      {failed: &Failure{Word: "http_response_timeout", Timeout: true, Err: io.EOF}, status: 504, what: "sink-timeout", word: "http_response_timeout", decision: "error"},
		"ours":        {failed: errors.New("a secret"), status: 500, what: "internal", decision: "error"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) {
				set := parsePolicy(t, livePolicy)
				c.Policy = policyOf(set)
				c.Live = &sinks{service: &url.URL{}, via: noAnswer{tt.failed}, enter: func(context.Context, time.Duration) error { return tt.refused }}
			})
			resp := f.do("GET", "/x", "", "X-Request-Id: 7")
			doc := decode[problemDocument](t, resp)
			word := ""
			if tt.word != "" {
				word = "forebay; error=" + tt.word
			}
			if resp.StatusCode != tt.status || doc.Reason != tt.what && doc.Type != problemPrefix+tt.what || resp.Header.Get("Proxy-Status") != word {
				t.Errorf("%d, %+v, Proxy-Status %q", resp.StatusCode, doc, resp.Header.Get("Proxy-Status"))
			}
			if doc.RetryAfter < tt.least || doc.RetryAfter > tt.most || resp.Header.Get("X-Request-Id") != "7" {
				t.Errorf("Retry-After %d, want %d … %d", doc.RetryAfter, tt.least, tt.most)
			}
			if n := count(f, "read", tt.decision, fmt.Sprint(tt.status)); n != 1 {
				t.Errorf("%v counted as %s", n, tt.decision)
			}
		})
	}
}

// HTTP/1.0 has no informational answers and no tunnels (RFC 9110, sections 7.8 and
// 15.2), and nobody adds the type that a sink left out.
func TestProxyOldCaller(t *testing.T) {
	sink := newSink(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			w.WriteHeader(http.StatusTeapot)
		}
		w.WriteHeader(http.StatusEarlyHints)
		w.Header()["Content-Type"] = nil
		fmt.Fprint(w, "<html>")
	})
	addr, _, _ := newProxy(t, sink.URL)
	c, r := dial(t, addr)
	write(t, c, "GET / HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	e := readExchange(t, r, "GET")
	if len(e.Informational) > 0 || e.Status != http.StatusOK || e.Body != "<html>" {
		t.Errorf("%v, then %d %q; want 200 alone", e.Informational, e.Status, e.Body)
	}
	if kind, ok := e.Header["Content-Type"]; ok {
		t.Errorf("Content-Type %q, which the sink did not send", kind)
	}
}

// The beginning of a long answer is with the caller while its sink still makes the rest.
func TestProxyLongAnswerBegins(t *testing.T) {
	began := make(chan struct{})
	rest := sync.OnceFunc(func() { close(began) })
	sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "40000")
		fmt.Fprint(w, "begin")
		w.(http.Flusher).Flush()
		<-began
		fmt.Fprint(w, strings.Repeat("x", 39995))
	})
	t.Cleanup(rest) // before the sink is closed
	addr, _, _ := newProxy(t, sink.URL)
	c, r := dial(t, addr)
	write(t, c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "begin" {
		t.Fatalf("%q, %v", first, err)
	}
	rest()
	if more, err := io.ReadAll(resp.Body); err != nil || len(more) != 39995 {
		t.Errorf("%d bytes more, %v", len(more), err)
	}
}
