package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// backend answers everything with one of each.
func backend() Backend {
	return Backend{
		Ready:   func() error { return nil },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
		Streams: func() ([]Stream, error) { return nil, nil },
		Drains:  func() ([]Drain, error) { return []Drain{{Name: "d"}}, nil },
		Audit:   func(context.Context) (Audit, error) { return Audit{Balanced: true, Drains: []Account{}}, nil },
		Receipts: func() (http.Handler, error) {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }), nil
		},
		Reload:  func(context.Context) (string, error) { return "abc", nil },
		Policy:  func() (Policy, error) { return Policy{Hash: "abc"}, nil },
		Routes:  func() ([]Route, error) { return nil, nil },
		Sinks:   func() ([]Sink, error) { return nil, nil },
		Limits:  func() ([]Limit, error) { return nil, nil },
		Windows: func(q WindowsQuery) (any, error) { return []WindowsQuery{q}, nil },
		Why: func(drain, message string) (Why, error) {
			w := Why{Drain: drain, Constraints: []Constraint{}}
			if message != "" {
				w.Message = &Standing{Head: Head{ID: message}}
			}
			return w, nil
		},
		Messages: func(_ context.Context, q MessagesQuery) (any, error) { return []MessagesQuery{q}, nil },
		Events: func(after int64, _ time.Time, limit int) ([]Event, error) {
			if after == 0 {
				return []Event{{ID: 7}, {ID: 9}}, nil
			}
			return nil, nil
		},
		Dead: func(Selection, DeadPage) (Page[Dead], error) { return Page[Dead]{}, nil },
		DeadShow: func(id, drain string) (DeadMessage, error) {
			return DeadMessage{}, fmt.Errorf("dead letter %s of %q: %w", id, drain, ErrNotFound)
		},
		Acts: map[string]func(context.Context, Act) (any, error){
			"POST /drains/{name}/pause": func(_ context.Context, a Act) (any, error) { return a.Object + " by " + a.Actor, a.NeedsReason() },
			"PUT /drains/{name}/rate":   func(_ context.Context, a Act) (any, error) { return a.Rate, nil },
		},
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

type request struct {
	method, path, host string
	header             map[string]string
	body               string
}

func ask(t *testing.T, h http.Handler, q request) *httptest.ResponseRecorder {
	t.Helper()
	if q.method == "" {
		q.method = http.MethodGet
	}
	if q.host == "" {
		q.host = "127.0.0.1:9080"
	}
	r := httptest.NewRequest(q.method, q.path, strings.NewReader(q.body))
	r.Host = q.host
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHost(t *testing.T) {
	h := Handler(backend(), nil, quiet())
	tests := map[string]int{
		"127.0.0.1:9080": 200, "127.0.0.1": 200, "localhost:9080": 200, "LOCALHOST": 200, "[::1]:9080": 200, "x.localhost": 200,
		"evil.example": 403, "127.0.0.1.evil.example:9080": 403, "10.0.0.1:9080": 403, "0.0.0.0:9080": 403,
	}
	for host, want := range tests {
		w := ask(t, h, request{path: "/api/v1/streams", host: host})
		if w.Code != want {
			t.Errorf("GET with Host %q = %d, want %d", host, w.Code, want)
		}
		if want == 403 && !strings.Contains(w.Body.String(), `"instance":"/api/v1/streams"`) {
			t.Errorf("403 without its instance: %s", w.Body)
		}
	}
}

func TestToken(t *testing.T) {
	h := Handler(backend(), []Token{{"anna", "other"}, {"token", "s3cret"}}, quiet())
	tests := []struct {
		name, path, authorization string
		want                      int
	}{
		{"right", "/api/v1/streams", "Bearer s3cret", 200},
		{"scheme in lower case", "/api/v1/streams", "bearer s3cret", 200},
		{"none", "/api/v1/streams", "", 401},
		{"wrong", "/api/v1/streams", "Bearer s3cre", 401},
		{"longer", "/api/v1/streams", "Bearer s3crets", 401},
		{"other scheme", "/api/v1/streams", "Basic s3cret", 401},
		{"metrics", "/metrics", "", 401},
		{"profiles", "/debug/pprof/", "", 401},
		{"live", "/livez", "", 200},
		{"ready", "/readyz", "", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(t, h, request{path: tt.path, host: "forebay.example", header: map[string]string{"Authorization": tt.authorization}})
			if w.Code != tt.want {
				t.Errorf("GET %s with Authorization %q = %d, want %d", tt.path, tt.authorization, w.Code, tt.want)
			}
			if tt.want == 401 && w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("401 without WWW-Authenticate")
			}
			if tt.want == 401 && !strings.Contains(w.Body.String(), `"instance":"`+tt.path+`"`) {
				t.Errorf("401 without its instance: %s", w.Body)
			}
		})
	}
}

func TestCrossOrigin(t *testing.T) {
	h := Handler(backend(), nil, quiet())
	for site, want := range map[string]int{"cross-site": 403, "same-site": 403, "same-origin": 200, "none": 200, "": 200} {
		q := request{method: http.MethodPost, path: "/api/v1/reload"}
		if site != "" {
			q.header = map[string]string{"Sec-Fetch-Site": site}
		}
		if got := ask(t, h, q).Code; got != want {
			t.Errorf("POST with Sec-Fetch-Site %q = %d, want %d", site, got, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		name    string
		request request
		change  func(*Backend)
		status  int
		body    string // exactly, or
		problem string // the type of a problem
		allow   string
	}{
		{name: "no streams", request: request{path: "/api/v1/streams"}, status: 200, body: "[]\n"},
		{
			name: "windows", request: request{path: "/api/v1/windows?drain=d&from=2027-01-02T00:00:00Z&for=2d"}, status: 200,
			body: `[{"Drain":"d","From":"2027-01-02T00:00:00Z","For":172800000000000}]` + "\n",
		},
		{name: "windows for too long", request: request{path: "/api/v1/windows?for=401d"}, status: 400, problem: urn("bad-request")},
		{name: "a parameter that is not", request: request{path: "/api/v1/windows?drains=d"}, status: 400, problem: urn("bad-request")},
		{name: "why", request: request{path: "/api/v1/drains/d/why"}, status: 200, body: `{"drain":"d","rate":0,"binding":"","constraints":[],"next_change":null,"head":null,"gathering":null}` + "\n"},
		{
			name: "why, of a message", request: request{path: "/api/v1/drains/d/why?message=i"}, status: 200,
			body: `{"drain":"d","rate":0,"binding":"","constraints":[],"next_change":null,"head":null,"message":{"id":"i","state":"","waits_for":"","ahead":0},"gathering":null}` + "\n",
		},
		{name: "why, with a parameter that is not", request: request{path: "/api/v1/drains/d/why?id=i"}, status: 400, problem: urn("bad-request")},
		{
			name: "events", request: request{path: "/api/v1/events"}, status: 200,
			body: `{"items":[{"id":7,"at":null,"kind":"","object":"","actor":"","reason":"","detail":""},{"id":9,"at":null,"kind":"","object":"","actor":"","reason":"","detail":""}],"next":"9"}` + "\n",
		},
		{name: "no newer events", request: request{path: "/api/v1/events?since=9"}, status: 200, body: `{"items":[],"next":"9"}` + "\n"},
		{name: "events since nonsense", request: request{path: "/api/v1/events?since=noon"}, status: 400, problem: urn("bad-request")},
		{name: "too many events", request: request{path: "/api/v1/events?limit=1001"}, status: 400, problem: urn("bad-request")},
		{name: "messages", request: request{path: "/api/v1/streams/s/messages?key=k"}, status: 200, body: `[{"Stream":"s","Key":"k","IdempotencyKey":""}]` + "\n"},
		{name: "messages by idempotency key", request: request{path: "/api/v1/streams/s/messages?idempotency_key=k"}, status: 200, body: `[{"Stream":"s","Key":"","IdempotencyKey":"k"}]` + "\n"},
		{name: "messages by both keys", request: request{path: "/api/v1/streams/s/messages?idempotency_key=k&key=k"}, status: 400, problem: urn("bad-request")},
		{name: "messages without a key", request: request{path: "/api/v1/streams/s/messages"}, status: 400, problem: urn("bad-request")},
		{name: "no dead letters", request: request{path: "/api/v1/dead?drain=d"}, status: 200, body: `{"items":[],"next":null}` + "\n"},
		{name: "no such dead letter", request: request{path: "/api/v1/dead/x"}, status: 404, problem: urn("not-found")},
		{
			name: "pause", request: request{method: "POST", path: "/api/v1/drains/d/pause", body: `{"reason":"INC-1","for_seconds":60}`},
			status: 200, body: `"d by local"` + "\n",
		},
		{name: "pause without a reason", request: request{method: "POST", path: "/api/v1/drains/d/pause"}, status: 400, problem: urn("bad-request")},
		{
			name: "pause with what it does not know", request: request{method: "POST", path: "/api/v1/drains/d/pause", body: `{"reazon":"x"}`},
			status: 400, problem: urn("bad-request"),
		},
		{
			name: "pause for ever and a day", request: request{method: "POST", path: "/api/v1/drains/d/pause", body: `{"reason":"x","for_seconds":1e12}`},
			status: 400, problem: urn("bad-request"),
		},
		{
			name: "an empty selection is not all", request: request{method: "POST", path: "/api/v1/drains/d/pause", body: `{"reason":"x","ids":[]}`},
			status: 400, problem: urn("bad-request"),
		},
		{
			name: "two documents", request: request{method: "POST", path: "/api/v1/drains/d/pause", body: `{"reason":"x"} {}`},
			status: 400, problem: urn("bad-request"),
		},
		{name: "rate as policies write it", request: request{method: "PUT", path: "/api/v1/drains/d/rate", body: `{"rate":"3000/m"}`}, status: 200, body: "50\n"},
		{name: "rate as a number", request: request{method: "PUT", path: "/api/v1/drains/d/rate", body: `{"rate":0.5}`}, status: 200, body: "0.5\n"},
		{name: "no rate at all", request: request{method: "PUT", path: "/api/v1/drains/d/rate", body: `{"rate":"fast"}`}, status: 400, problem: urn("bad-request")},
		{name: "audit", request: request{path: "/api/v1/audit"}, status: 200, body: `{"balanced":true,"drains":[]}` + "\n"},
		{name: "reload", request: request{method: "POST", path: "/api/v1/reload"}, status: 200, body: `{"hash":"abc"}` + "\n"},
		{name: "receipt", request: request{path: "/api/v1/receipts/x"}, status: 200, body: "/api/v1/receipts/x"},
		{name: "cancel", request: request{method: "DELETE", path: "/api/v1/receipts/x"}, status: 200, body: "/api/v1/receipts/x"},
		{name: "metrics", request: request{path: "/metrics"}, status: 200, body: "metrics"},
		{name: "unknown drain", request: request{path: "/api/v1/drains/nope"}, status: 404, problem: urn("not-found")},
		{name: "unknown path", request: request{path: "/api/v2"}, status: 404, problem: urn("not-found")},
		{
			name: "wrong method", request: request{method: "GET", path: "/api/v1/reload"},
			status: 405, problem: urn("method-not-allowed"), allow: "POST",
		},
		{
			name: "not ready", request: request{path: "/api/v1/drains"}, status: 503, problem: urn("not-ready"),
			change: func(b *Backend) { b.Drains = func() ([]Drain, error) { return nil, ErrNotReady } },
		},
		{
			name: "readyz", request: request{path: "/readyz"}, status: 503, body: "recovering\n",
			change: func(b *Backend) { b.Ready = func() error { return errors.New("recovering") } },
		},
		{
			name: "unknown failure says nothing", request: request{path: "/api/v1/policy"}, status: 500, problem: urn("internal"),
			change: func(b *Backend) { b.Policy = func() (Policy, error) { return Policy{}, errors.New("secret") } },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := backend()
			if tt.change != nil {
				tt.change(&b)
			}
			w := ask(t, Handler(b, nil, quiet()), tt.request)
			if w.Code != tt.status || (tt.body != "" && w.Body.String() != tt.body) {
				t.Errorf("%+v = %d %q, want %d %q", tt.request, w.Code, w.Body, tt.status, tt.body)
			}
			if got := w.Header().Get("Allow"); got != tt.allow {
				t.Errorf("Allow = %q, want %q", got, tt.allow)
			}
			if tt.problem == "" {
				return
			}
			var p problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Type != tt.problem || p.Status != tt.status || p.RequestID == "" {
				t.Errorf("problem = %+v (%v), want type %s", p, err, tt.problem)
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("the answer tells the cause: %s", w.Body)
			}
		})
	}
}

func TestRefusedReload(t *testing.T) {
	b := backend()
	want := Refused{
		{File: "a.yaml", Line: 3, Column: 5, Message: "unknown key", Hint: "did you mean rate?"},
		{Message: "stream orders is left out"},
	}
	b.Reload = func(context.Context) (string, error) { return "", want }
	w := ask(t, Handler(b, nil, quiet()), request{method: "POST", path: "/api/v1/reload"})
	var got struct {
		Detail string
		Errors Refused
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 422 {
		t.Fatalf("POST /reload = %d %s (%v), want 422", w.Code, w.Body, err)
	}
	if want := "The running policy stays: 2 mistakes, the first: a.yaml:3:5: error: unknown key."; got.Detail != want {
		t.Errorf("detail = %q, want %q", got.Detail, want)
	}
	if diff := cmp.Diff(want, got.Errors); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}
