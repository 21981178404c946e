package ingress

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
	"forebay/buffer/buffertest"
)

func TestReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		id := f.order()
		accepted := Timestamp{time.Now().UTC()}
		check := func(what, retryAfter string, want Receipt) {
			t.Helper()
			want.ID, want.Stream, want.State, want.PositionExact = id, "orders", want.Drains[0].State, true
			want.AcceptedAt, want.Drains[0].Drain = accepted, "orders-to-service"
			d := want.Drains[0]
			want.Position, want.ETA, want.ETAP90 = d.Position, d.ETA, d.ETAP90
			resp := f.do("GET", receiptsPrefix+id, "")
			if diff := cmp.Diff(want, decode[Receipt](t, resp)); diff != "" || resp.StatusCode != 200 {
				t.Errorf("%s: status %d (-want +got):\n%s", what, resp.StatusCode, diff)
			}
			if got := resp.Header.Get("Retry-After"); got != retryAfter {
				t.Errorf("%s: Retry-After %q, want %q", what, got, retryAfter)
			}
			if got := resp.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("%s: Cache-Control %q", what, got)
			}
		}
		in := func(d time.Duration) Timestamp { return Timestamp{time.Now().UTC().Add(d)} }
		none, failed := uint64(0), "503 Service Unavailable"

		check("queued", "1", Receipt{Drains: []DrainReceipt{{
			State: buffer.Queued, Position: &none, ETA: in(100 * time.Millisecond), ETAP90: in(1100 * time.Millisecond),
		}}})
		f.take()
		check("delivering", "1", Receipt{Drains: []DrainReceipt{{State: buffer.Delivering, ETA: in(0), ETAP90: in(time.Second)}}})
		f.buf.Release("orders-to-service", 0, buffer.Retry{
			Due: time.Now().Add(90 * time.Second), Tries: buffer.Tries{Attempts: 1, FirstAt: time.Now()}, Status: 503, Error: failed,
		})
		check("scheduled", "90", Receipt{Drains: []DrainReceipt{{
			State: buffer.Scheduled, Position: &none, ETA: in(90 * time.Second), ETAP90: in(91 * time.Second),
			Attempts: 1, NextAttemptAt: in(90 * time.Second), LastError: &failed,
		}}})
		time.Sleep(90 * time.Second)
		f.take()
		at, reason, refused := in(0), "permanent", "422 Unprocessable Entity"
		f.buf.Bury("orders-to-service", 0, buffer.ReasonPermanent, buffer.Result{At: at.Time, Attempts: 2, Status: 422, Error: refused})
		check("dead", "", Receipt{Drains: []DrainReceipt{{
			State: buffer.Dead, Attempts: 2, LastError: &refused, Result: &Result{Status: 422}, Reason: &reason, FinishedAt: at,
		}}})
	})
}

func TestReceiptEntityTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.order()
		id := f.order()
		tag := f.do("GET", receiptsPrefix+id, "").Header.Get("Etag")
		same := func(want bool, candidates string) {
			t.Helper()
			resp := f.do("GET", receiptsPrefix+id, "", "If-None-Match: "+candidates)
			body, _ := io.ReadAll(resp.Body)
			if got := resp.StatusCode == http.StatusNotModified; got != want || got != (len(body) == 0) {
				t.Errorf("If-None-Match: %s answered %d with %d bytes, want not modified: %t", candidates, resp.StatusCode, len(body), want)
			}
			if resp.Header.Get("Etag") == "" || resp.Header.Get("Retry-After") == "" {
				t.Errorf("header %v, want ETag and Retry-After", resp.Header)
			}
		}
		time.Sleep(time.Second) // moves the estimate, nothing else
		same(true, tag)
		same(true, tag[len("W/"):])
		same(true, `"other", `+tag)
		same(true, "*")
		same(false, `"other"`)
		f.deliver(0) // one less ahead
		same(false, tag)
	})
}

func TestReceiptHead(t *testing.T) {
	f := newFixture(t)
	id := f.order()
	server := httptest.NewServer(f)
	defer server.Close()
	get, err := server.Client().Get(server.URL + receiptsPrefix + id)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(get.Body)
	get.Body.Close()
	head, err := server.Client().Head(server.URL + receiptsPrefix + id)
	if err != nil {
		t.Fatal(err)
	}
	head.Body.Close()
	if head.StatusCode != 200 || head.Header.Get("Content-Length") != strconv.Itoa(len(body)) || head.Header.Get("Etag") != get.Header.Get("Etag") {
		t.Errorf("HEAD: status %d, header %v; GET: %d bytes, ETag %s", head.StatusCode, head.Header, len(body), get.Header.Get("Etag"))
	}
}

func TestReceiptCancel(t *testing.T) {
	f := newFixture(t)
	id := f.order()
	for _, want := range []int{200, 409} {
		resp := f.do("DELETE", receiptsPrefix+id, "")
		if resp.StatusCode != want {
			t.Fatalf("DELETE: status %d, want %d", resp.StatusCode, want)
		}
		if want == 200 {
			if got := decode[Receipt](t, resp); got.State != buffer.Cancelled || got.ID != id {
				t.Errorf("receipt %+v, want it cancelled", got)
			}
		}
	}
}

// TestReceiptCancelWithSeveralDrains holds that a message is cancelled with the
// drains where it waits, and refused where it waits with none.
func TestReceiptCancelWithSeveralDrains(t *testing.T) {
	f := newFixture(t)
	resp := f.do("POST", "/v1/registrations", "{}")
	id := strings.TrimPrefix(resp.Header.Get("Location"), receiptsPrefix)
	states := func(resp *http.Response) (list []buffer.State) {
		for _, d := range decode[Receipt](t, resp).Drains {
			list = append(list, d.State)
		}
		return list
	}
	if ds, _, err := f.buf.Take("email", time.Now(), 1); err != nil || len(ds) != 1 {
		t.Fatalf("take for email: %v, %v", ds, err)
	}
	resp = f.do("DELETE", receiptsPrefix+id, "")
	if diff := cmp.Diff([]buffer.State{buffer.Delivering, buffer.Cancelled}, states(resp)); diff != "" || resp.StatusCode != 200 {
		t.Errorf("in flight with email, waiting with sms: status %d, states (-want +got):\n%s", resp.StatusCode, diff)
	}
	if resp = f.do("DELETE", receiptsPrefix+id, ""); resp.StatusCode != 409 {
		t.Errorf("in flight with email alone: status %d, want 409", resp.StatusCode)
	}
	f.buf.Ack("email", 0, buffer.Result{At: time.Now(), Attempts: 1, Status: 200})
	if resp = f.do("DELETE", receiptsPrefix+id, ""); resp.StatusCode != 409 {
		t.Errorf("final with both: status %d, want 409", resp.StatusCode)
	}
}

// TestReceiptCancelWithoutDrains holds that a message which nobody reads is not
// said to be final.
func TestReceiptCancelWithoutDrains(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.Buffer.(*faulty).Mem = buffertest.NewMem(buffer.Stream{Name: "orders"})
	})
	id := f.order()
	resp := f.do("DELETE", receiptsPrefix+id, "")
	got := decode[problemDocument](t, resp)
	if got.Status != 409 || got.Type != problemPrefix+"not-cancellable" || !strings.HasPrefix(got.Detail, "no drain reads the message's stream") {
		t.Errorf("DELETE: problem %+v, want 409 because no drain reads the stream", got)
	}
	if r := decode[Receipt](t, f.do("GET", receiptsPrefix+id, "")); r.State != buffer.Queued || len(r.Drains) != 0 {
		t.Errorf("receipt %+v, want it queued with no drain", r)
	}
}

func TestReceiptWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		id := f.order()
		wait := func(prefer string, end func(), after time.Duration, state buffer.State, applied string) {
			t.Helper()
			if end != nil {
				time.AfterFunc(time.Second, end)
			}
			begin := time.Now()
			resp := f.do("GET", receiptsPrefix+id, "", "Prefer: "+prefer)
			got := decode[Receipt](t, resp)
			if took := time.Since(begin); took != after || got.State != state || resp.StatusCode != 200 {
				t.Errorf("%s: %d, %s after %v, want 200, %s after %v", prefer, resp.StatusCode, got.State, took, state, after)
			}
			if p, v := resp.Header.Get("Preference-Applied"), resp.Header.Get("Vary"); p != applied || v != "Accept, Prefer" {
				t.Errorf("%s: Preference-Applied %q, Vary %q, want %q", prefer, p, v, applied)
			}
		}
		wait("wait=2", nil, 2*time.Second, buffer.Queued, "wait=2")
		wait("wait=3000", nil, 30*time.Second, buffer.Queued, "wait=30")
		wait("wait=3", f.take, 3*time.Second, buffer.Delivering, "wait=3")
		wait("wait=9", func() {
			f.buf.Ack("orders-to-service", 0, buffer.Result{At: time.Now(), Attempts: 1, Status: 204})
		}, time.Second, buffer.Delivered, "wait=9")
		wait("wait=9", nil, 0, buffer.Delivered, "wait=9")

		id = f.order()
		wait("wait=9", f.Stop, time.Second, buffer.Queued, "wait=9")
		wait("wait=9", nil, 0, buffer.Queued, "")
	})
}

func TestReceiptsForAdmin(t *testing.T) {
	f := newFixture(t)
	id, now := f.order(), time.Now()
	got, err := f.Receipts().Get(id, now)
	if err != nil || got.ID != id || got.State != buffer.Queued {
		t.Errorf("Get: %+v, %v", got, err)
	}
	got, err = f.Receipts().Cancel(t.Context(), id, now)
	if err != nil || got.State != buffer.Cancelled {
		t.Errorf("Cancel: %+v, %v", got, err)
	}
	if _, err = f.Receipts().Cancel(t.Context(), id, now); !errors.Is(err, buffer.ErrFinal) {
		t.Errorf("Cancel again: %v, want ErrFinal", err)
	}
	if _, err = f.Receipts().Get("x", now); !errors.Is(err, buffer.ErrNoMessage) {
		t.Errorf("Get of a forged id: %v, want ErrNoMessage", err)
	}
	if _, err = f.Receipts().Cancel(t.Context(), "x", now); !errors.Is(err, buffer.ErrNoMessage) {
		t.Errorf("Cancel of a forged id: %v, want ErrNoMessage", err)
	}

	admin := f.Receipts().Handler("/api/v1/receipts/")
	for target, want := range map[string]int{
		"/api/v1/receipts/" + id: 200, "/api/v1/receipts/x": 404, "/api/v1/receipts/": 404,
		"/api/v1/receipts/" + id + "/x": 404, "/elsewhere": 404,
	} {
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		if w.Code != want || w.Header().Get("X-Request-Id") == "" {
			t.Errorf("GET %s: status %d, want %d with a request id", target, w.Code, want)
		}
	}
}
