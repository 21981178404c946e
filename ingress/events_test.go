package ingress

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"forebay/buffer"
)

const eventsAccepted = "Accept: application/json;q=0.1, text/event-stream"

// event is what one block of a stream says.
type event struct {
	id, retry string
	receipt   Receipt
	comment   bool
}

// readEvent returns io.EOF at the end of a stream.
func readEvent(t *testing.T, r *bufio.Reader) (event, error) {
	t.Helper()
	var e event
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "":
			if value == "" && line == "\n" {
				return e, nil
			}
			e.comment = true
		case "id":
			e.id = value
		case "retry":
			e.retry = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e.receipt); err != nil {
				t.Fatalf("data %q: %v", value, err)
			}
		default:
			t.Fatalf("line %q in a stream of events", line)
		}
	}
}

// dial serves f with all the limits of a listener, on a pipe, and returns the
// caller's end of it.
func (f *fixture) dial(t *testing.T, cfg ServerConfig) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	l := &oneConn{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conn <- theirs
	srv := NewServer(f, cfg, slog.New(slog.DiscardHandler))
	served := make(chan struct{})
	go func() {
		_ = srv.Serve(l)
		close(served)
	}()
	t.Cleanup(func() {
		ours.Close()
		srv.Close()
		<-served
	})
	return ours
}

type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

func ask(t *testing.T, c net.Conn, id string) {
	t.Helper()
	if _, err := io.WriteString(c, "GET "+receiptsPrefix+id+" HTTP/1.1\r\nHost: example.com\r\n"+eventsAccepted+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

// TestEvents follows a message for longer than any deadline of its server.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.order()
		id := f.order()
		c := f.dial(t, ServerConfig{})
		ask(t, c, id)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept, Prefer",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s %q, want %q", name, got, want)
			}
		}
		events := bufio.NewReader(resp.Body)
		began, lastID := time.Now(), ""
		next := func(what string, state buffer.State, after time.Duration) {
			t.Helper()
			for {
				e, err := readEvent(t, events)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if e.comment {
					continue
				}
				if e.receipt.State != state || e.receipt.ID != id || time.Since(began) != after || e.id == "" || e.id == lastID || e.retry != "" {
					t.Errorf("%s: event %q, retry %q, %+v after %v; want %s after %v", what, e.id, e.retry, e.receipt, time.Since(began), state, after)
				}
				lastID = e.id
				return
			}
		}
		next("at once", buffer.Queued, 0)
		for i := range 12 { // three minutes
			if e, err := readEvent(t, events); err != nil || !e.comment || time.Since(began) != time.Duration(i+1)*heartbeat {
				t.Fatalf("heartbeat %d: %+v, %v after %v", i, e, err, time.Since(began))
			}
		}
		f.deliver(0)
		next("nearer, at the next heartbeat", buffer.Queued, 195*time.Second)
		time.Sleep(time.Second)
		f.take()
		next("taken", buffer.Delivering, 196*time.Second)
		f.buf.Release("orders-to-service", 1, buffer.Retry{Due: time.Now().Add(time.Minute), Tries: buffer.Tries{Attempts: 1, FirstAt: time.Now()}, Status: 503})
		next("failed", buffer.Scheduled, 196*time.Second)
		time.AfterFunc(time.Minute, f.take) // while this one reads: nothing on a pipe waits for its reader
		next("taken again", buffer.Delivering, 256*time.Second)
		f.buf.Ack("orders-to-service", 1, buffer.Result{At: time.Now(), Attempts: 2, Status: 201})
		next("delivered", buffer.Delivered, 256*time.Second)
		if _, err := readEvent(t, events); !errors.Is(err, io.EOF) {
			t.Errorf("after the final state: %v, want the end", err)
		}
		if resp := f.do("GET", receiptsPrefix+id, "", eventsAccepted, "Last-Event-Id: "+lastID); resp.StatusCode != http.StatusNoContent {
			t.Errorf("connecting again: status %d, want 204", resp.StatusCode)
		}
		if n := f.receipts.waits.n.Load(); n != 0 {
			t.Errorf("%d streams left", n)
		}
	})
}

// TestWaitOutlastsReadTimeout holds that a wait is not cut when the time for
// reading its request is over, with a body and without.
func TestWaitOutlastsReadTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := f.dial(t, ServerConfig{ReadTimeout: 2 * time.Second})
		answers := bufio.NewReader(c)
		for _, r := range []string{
			"POST /v1/orders HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\nPrefer: wait=5\r\n\r\n{}",
			"GET " + receiptsPrefix + f.order() + " HTTP/1.1\r\nHost: example.com\r\nPrefer: wait=5\r\n\r\n",
		} {
			began := time.Now()
			if _, err := io.WriteString(c, r); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			if took := time.Since(began); took != 5*time.Second {
				t.Errorf("%.20q was answered %d after %v, want 5 s", r, resp.StatusCode, took)
			}
		}
	})
}

// TestEventsToNobody holds that a caller who does not read costs eventTimeout.
func TestEventsToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		ask(t, f.dial(t, ServerConfig{}), f.order())
		synctest.Wait()
		if n := f.receipts.waits.n.Load(); n != 1 {
			t.Fatalf("%d streams, want 1", n)
		}
		time.Sleep(eventTimeout + time.Millisecond)
		synctest.Wait()
		if n := f.receipts.waits.n.Load(); n != 0 {
			t.Errorf("%d streams left after %v", n, eventTimeout)
		}
	})
}

func TestEventsEnd(t *testing.T) {
	tests := []struct {
		name string
		end  func(f *fixture, id string, leave func())
		want []buffer.State // of the events
	}{
		{"when the process stops", func(f *fixture, _ string, _ func()) { f.Stop() }, []buffer.State{buffer.Queued, buffer.Queued}},
		{"when the caller leaves", func(_ *fixture, _ string, leave func()) { leave() }, []buffer.State{buffer.Queued}},
		{"when it is cancelled", func(f *fixture, id string, _ func()) { f.do("DELETE", receiptsPrefix+id, "") }, []buffer.State{buffer.Queued, buffer.Cancelled}},
		{"when the buffer fails", func(f *fixture, _ string, _ func()) {
			f.buf.findErr = errors.New("read block 7: input/output error")
			f.take()
		}, []buffer.State{buffer.Queued}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				id := f.order()
				c := f.dial(t, ServerConfig{})
				ask(t, c, id)
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(time.Second, func() { tt.end(f, id, func() { c.Close() }) })
				events := bufio.NewReader(resp.Body)
				var got []buffer.State
				var last event
				for {
					e, err := readEvent(t, events)
					if err != nil {
						break
					}
					got, last = append(got, e.receipt.State), e
				}
				if len(got) != len(tt.want) || got[len(got)-1] != tt.want[len(got)-1] {
					t.Errorf("states %v, want %v", got, tt.want)
				}
				if ended := f.receipts.waits.stopped(); ended != (last.retry == "5000") {
					t.Errorf("retry %q of the last event", last.retry)
				}
				synctest.Wait()
				if n := f.receipts.waits.n.Load(); n != 0 {
					t.Errorf("%d streams left", n)
				}
			})
		})
	}
}

func TestEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.MaxWaiting = 1 })
		id := f.order()
		go f.do("GET", receiptsPrefix+id, "", "Prefer: wait=5")
		synctest.Wait()
		resp := f.do("GET", receiptsPrefix+id, "", eventsAccepted)
		events := bufio.NewReader(resp.Body)
		e, err := readEvent(t, events)
		if err != nil || e.receipt.State != buffer.Queued || e.retry != "5000" || resp.StatusCode != 200 {
			t.Errorf("status %d, event %+v, %v; want the receipt as it stands, and when to come back", resp.StatusCode, e, err)
		}
		if _, err := readEvent(t, events); !errors.Is(err, io.EOF) {
			t.Errorf("then %v, want the end", err)
		}
	})
}

func TestEventsOfNothing(t *testing.T) {
	f := newFixture(t)
	id := f.order()
	if got := decode[problemDocument](t, f.do("GET", receiptsPrefix+"x", "", eventsAccepted)); got.Status != 404 {
		t.Errorf("problem %+v, want 404", got)
	}
	f.buf.findErr = buffer.ErrGone
	if got := decode[problemDocument](t, f.do("GET", receiptsPrefix+id, "", eventsAccepted)); got.Status != 410 {
		t.Errorf("problem %+v, want 410", got)
	}
	f.buf.findErr = nil
	for _, accept := range []string{"application/json", "*/*", "text/*", ""} {
		if got := f.do("GET", receiptsPrefix+id, "", "Accept: "+accept).Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("Accept %q: Content-Type %q", accept, got)
		}
	}
	if got := f.do("HEAD", receiptsPrefix+id, "", eventsAccepted); got.StatusCode != 200 || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: status %d, header %v", got.StatusCode, got.Header)
	}
}

func TestWantsEvents(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "text/event-stream": true, "Text/Event-Stream; q=0.5, */*": true, "text/event-stream;q=0": false,
		"application/json, text/event-stream": true, "application/json;q=1, text/event-stream;q=0.1": false, "application/json;q=0.1,text/event-stream": true,
	} {
		if got := wantsEvents([]string{accept}); got != want {
			t.Errorf("Accept: %s wants events: %t, want %t", accept, got, want)
		}
	}
}
