package ingress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
	"forebay/policies"
)

func TestAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for range 24 {
			f.order()
		}
		resp := f.do("POST", "/v1/orders?shop=7", `{"order":25}`, "Content-Type: application/json", "X-Request-Id: abc")
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		id := f.buf.ID(buffer.Ref{Stream: "orders", Offset: 24})
		want := `{"id":"` + id + `","stream":"orders","state":"queued","position":24,"position_exact":true,` +
			`"eta":"2000-01-01T00:00:02.500Z","eta_p90":"2000-01-01T00:00:03.500Z","eta_note":null,` +
			`"accepted_at":"2000-01-01T00:00:00.000Z","deadline":null,"drains":[{"drain":"orders-to-service",` +
			`"state":"queued","position":24,"eta":"2000-01-01T00:00:02.500Z","eta_p90":"2000-01-01T00:00:03.500Z",` +
			`"eta_note":null,"attempts":0,"next_attempt_at":null,"last_error":null,"result":null,"reason":null,` +
			`"finished_at":null}]}` + "\n"
		if diff := cmp.Diff(want, string(body)); diff != "" {
			t.Errorf("receipt (-want +got):\n%s", diff)
		}
		wantHeader := http.Header{
			"Content-Type": {"application/json"},
			"Location":     {"/.forebay/receipts/" + id},
			"Retry-After":  {"3"},
			"Vary":         {"Prefer"},
			"X-Request-Id": {"abc"},
		}
		if diff := cmp.Diff(wantHeader, resp.Header); diff != "" || resp.StatusCode != http.StatusAccepted {
			t.Errorf("status %d, header (-want +got):\n%s", resp.StatusCode, diff)
		}
		wantMessage := buffer.Message{
			Method: "POST", Target: "/v1/orders?shop=7", Body: []byte(`{"order":25}`),
			Header: []buffer.Field{
				{Name: "Content-Type", Value: "application/json"},
				{Name: "Via", Value: "1.1 forebay"},
				{Name: "X-Forwarded-Host", Value: "example.com"},
				{Name: "X-Forwarded-Proto", Value: "http"},
				{Name: "X-Request-Id", Value: "abc"},
			},
		}
		if diff := cmp.Diff(wantMessage, f.buf.messages[24]); diff != "" {
			t.Errorf("stored message (-want +got):\n%s", diff)
		}
	})
}

func TestAcceptedByDrainWithoutRate(t *testing.T) {
	f := newFixture(t)
	resp := f.do("POST", "/v1/registrations", "x")
	got := decode[Receipt](t, resp)
	if resp.Header.Get("Retry-After") != "60" || !got.ETA.IsZero() || got.ETANote == nil || *got.ETANote != "the schedule has no rate" {
		t.Errorf("Retry-After %q, receipt %+v; want 60, and the note of sms", resp.Header.Get("Retry-After"), got)
	}
	if len(got.Drains) != 2 || got.Drains[0].ETA.IsZero() || *got.Position != 0 {
		t.Errorf("drains %+v, want email with an eta, and sms", got.Drains)
	}
}

// TestNothingBeforeAppend holds that no byte of an answer leaves while the
// message is not durable.
func TestNothingBeforeAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		durable := make(chan struct{})
		f := newFixture(t, func(c *Config) { c.Buffer = slowBuffer{c.Buffer, durable} })
		w := httptest.NewRecorder()
		w.Code = 0
		done := make(chan struct{})
		go func() {
			f.ServeHTTP(w, request(t.Context(), "POST", "/v1/orders", "{}"))
			close(done)
		}()
		synctest.Wait()
		if w.Code != 0 || w.Body.Len() != 0 {
			t.Errorf("answered %d before Append returned", w.Code)
		}
		close(durable)
		<-done
		if w.Code != http.StatusAccepted {
			t.Errorf("status %d after Append returned, want 202", w.Code)
		}
	})
}

type slowBuffer struct {
	Buffer
	durable chan struct{}
}

func (b slowBuffer) Append(ctx context.Context, stream string, now time.Time, msgs []buffer.Message) (buffer.Accepted, error) {
	select {
	case <-b.durable:
		return b.Buffer.Append(ctx, stream, now, msgs)
	case <-ctx.Done():
		return buffer.Accepted{}, ctx.Err()
	}
}

// TestCallerLeavesDuringAppend holds that a message is accepted, and counted as that,
// whether or not its caller waits for the answer.
func TestCallerLeavesDuringAppend(t *testing.T) {
	durable := make(chan struct{})
	f := newFixture(t, func(c *Config) { c.Buffer = slowBuffer{c.Buffer, durable} })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	answered := make(chan int)
	go func() { answered <- f.send(request(ctx, "POST", "/v1/orders", "{}")).StatusCode }()
	select {
	case status := <-answered:
		t.Fatalf("status %d before the message was durable", status)
	case durable <- struct{}{}:
	}
	if status := <-answered; status != http.StatusAccepted {
		t.Errorf("status %d, want 202", status)
	}
	wantCount(t, f, "create-order", decisionBuffered, "202", 1)
}

// TestDurableIsAccepted holds that a failure to look a fresh message up does
// not turn into an error: its caller would send it again.
func TestDurableIsAccepted(t *testing.T) {
	f := newFixture(t)
	f.buf.findErr = errors.New("read block 7: input/output error")
	resp := f.do("POST", "/v1/orders", "{}")
	got := decode[Receipt](t, resp)
	if resp.StatusCode != http.StatusAccepted || got.State != buffer.Queued || got.ETANote == nil || got.Drains == nil {
		t.Errorf("status %d, receipt %+v; want 202, queued with a note", resp.StatusCode, got)
	}
	if !strings.Contains(f.log.String(), "read block 7") {
		t.Errorf("log %q, want the cause", f.log)
	}
}

func TestBodyLimits(t *testing.T) {
	tests := []struct {
		name, path string
		size       int
		chunked    bool
		want       int
	}{
		{"route's limit", "/v1/registrations", 32, false, 202},
		{"over the route's limit", "/v1/registrations", 33, false, 413},
		{"route's limit in chunks", "/v1/registrations", 32, true, 202},
		{"over it in chunks", "/v1/registrations", 33, true, 413},
		{"stream's limit", "/v1/orders", 64 << 10, false, 202},
		{"over the stream's limit", "/v1/orders", 64<<10 + 1, false, 413},
		{"stream's limit in chunks", "/v1/orders", 64 << 10, true, 202},
		{"over it in chunks, by far", "/v1/orders", 2 << 20, true, 413},
		{"first buffer", "/v1/orders", firstBodyBytes, false, 202},
		{"beyond the first buffer", "/v1/orders", firstBodyBytes + 1, true, 202},
		{"none", "/v1/orders", 0, false, 202},
		{"none in chunks", "/v1/orders", 0, true, 202},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			body := bytes.Repeat([]byte("0123456789abcdef"), tt.size/16+1)[:tt.size]
			r := httptest.NewRequest("POST", tt.path, bytes.NewReader(body))
			if tt.chunked {
				r.ContentLength = -1
			}
			resp := f.send(r)
			if resp.StatusCode != tt.want {
				t.Fatalf("status %d for %d bytes, want %d", resp.StatusCode, tt.size, tt.want)
			}
			if tt.want == 202 && !bytes.Equal(f.buf.messages[0].Body, body) {
				t.Errorf("stored %d bytes that differ from the %d sent", len(f.buf.messages[0].Body), len(body))
			}
			if used := f.bodies.used.Load(); used != 0 {
				t.Errorf("%d bytes of body memory still held", used)
			}
		})
	}
}

func TestDeclaredTooLargeIsNotRead(t *testing.T) {
	f := newFixture(t)
	r := httptest.NewRequest("POST", "/v1/orders", unreadable{t})
	r.ContentLength = 64<<10 + 1
	resp := f.send(r)
	if resp.StatusCode != 413 || resp.Header.Get("Connection") != "close" {
		t.Errorf("status %d, Connection %q; want 413, close", resp.StatusCode, resp.Header.Get("Connection"))
	}
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestBrokenBody(t *testing.T) {
	f := newFixture(t)
	for _, cut := range []int64{-1, 20} {
		r := httptest.NewRequest("POST", "/v1/orders", io.MultiReader(strings.NewReader("{"), failing{io.ErrUnexpectedEOF}))
		r.ContentLength = cut
		if resp := f.send(r); resp.StatusCode != 400 {
			t.Errorf("declared %d: status %d, want 400", cut, resp.StatusCode)
		}
	}
	if len(f.buf.messages) != 0 {
		t.Errorf("stored %d messages of broken bodies", len(f.buf.messages))
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestBodyMemory(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxBodyMemory = 40 << 10 })
	big := strings.Repeat("x", 60<<10)
	if got := decode[problemDocument](t, f.do("POST", "/v1/orders", big)); got.Reason != reasonOverloaded {
		t.Errorf("a body over the memory for bodies: %+v, want overloaded", got)
	}
	if resp := f.do("POST", "/v1/orders", big[:12<<10]); resp.StatusCode != 202 {
		t.Errorf("a small body meanwhile: status %d, want 202", resp.StatusCode)
	}
	if used := f.bodies.used.Load(); used != 0 {
		t.Errorf("%d bytes of body memory still held", used)
	}
}

// TestReuse holds that pooled memory never mixes requests.
func TestReuse(t *testing.T) {
	f := newFixture(t)
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			for i := range 100 {
				body := strings.Repeat(fmt.Sprintf("%d-%d;", c, i), 1+i*20)
				w := httptest.NewRecorder()
				f.ServeHTTP(w, request(t.Context(), "POST", "/v1/orders", body, "X-Length: "+strconv.Itoa(len(body))))
				if w.Code != 202 {
					t.Errorf("status %d, want 202", w.Code)
				}
			}
		})
	}
	callers.Wait()
	for _, m := range f.buf.messages {
		unit, _, _ := strings.Cut(string(m.Body), ";")
		length := buffer.Field{Name: "X-Length", Value: strconv.Itoa(len(m.Body))}
		if string(m.Body) != strings.Repeat(unit+";", len(m.Body)/(len(unit)+1)) || !slices.Contains(m.Header, length) || len(m.Header) != 5 {
			t.Fatalf("a stored message mixes requests: %q, %v", m.Body, m.Header)
		}
	}
}

func TestUnknownModeIsRefused(t *testing.T) {
	f := newFixture(t)
	set := f.cfg.Policy()
	set.Routes[0].Mode = "teleport"
	f.cfg.Policy = func() *policies.Set { return set }
	if resp := f.do("POST", "/v1/orders", "{}"); resp.StatusCode != 500 {
		t.Errorf("status %d, want 500", resp.StatusCode)
	}
}
