package http_test

import (
	"encoding/json"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/buffer"
	"forebay/drain"
	"forebay/drain/sink/http"
	"forebay/policies"
)

// documents are messages with these bodies and the ids a, b, c and so on.
func documents(bodies ...string) []drain.Delivery {
	var msgs []drain.Delivery
	for i, body := range bodies {
		msgs = append(msgs, drain.Delivery{
			ID: string(rune('a' + i)),
			Delivery: buffer.Delivery{
				Ref:        buffer.Ref{Stream: "registrations", Offset: uint64(i)},
				AcceptedAt: time.Date(2026, 11, 11, 0, 0, i, 0, time.UTC),
				Message:    buffer.Message{Method: "PUT", Target: "/v1/registrations", Body: []byte(body)},
			},
		})
	}
	return msgs
}

// batchesTo returns a sink whose requests are answered by a function.
func batchesTo(t *testing.T, format policies.BatchFormat, answer nethttp.HandlerFunc) drain.Sink {
	t.Helper()
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	p := policy(t, srv.URL+"/batch")
	p.HTTP.Permanent = append(p.HTTP.Permanent, 413)
	p.HTTP.Batch = &policies.Batch{MaxMessages: 20, MaxBytes: 1000, MaxWait: time.Second, Format: format}
	return newSink(t, p).Drained()
}

func TestBatchIsOneRequest(t *testing.T) {
	for format, want := range map[policies.BatchFormat]seen{
		policies.BatchJSONArray: {Header: header("Content-Type", "application/json"), Body: []byte(`[{"n":1},[ "two",` + "\n" + `2 ],3]`)},
		policies.BatchNDJSON:    {Header: header("Content-Type", "application/x-ndjson"), Body: []byte("{\"n\":1}\n[\"two\",2]\n3\n")},
	} {
		t.Run(string(format), func(t *testing.T) {
			var r recorder
			s := batchesTo(t, format, r.ServeHTTP)
			msgs := documents(`{"n":1}`, "[ \"two\",\n2 ]", "3")
			msgs[1].Tries.Attempts = 4
			outcomes := s.Deliver(t.Context(), msgs)
			if diff := cmp.Diff(slices.Repeat([]drain.Outcome{{Class: drain.Success, Status: 200}}, 3), outcomes); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			got := r.all()
			if len(got) != 1 {
				t.Fatalf("%d requests", len(got))
			}
			want.Method, want.Target, want.Host = "POST", "/batch", got[0].Host
			for name, value := range map[string]string{
				"Forebay-Ids": "a,b,c", "Forebay-Messages": "3", "Forebay-Attempt": "5", "Forebay-Stream": "registrations",
				"Forebay-Accepted-At": "2026-11-11T00:00:00.000Z", "User-Agent": "forebay", "Content-Length": fmt.Sprint(len(want.Body)),
			} {
				want.Header.Set(name, value)
			}
			for _, ours := range []string{"Idempotency-Key", "Traceparent"} {
				if got[0].Header.Get(ours) == "" {
					t.Errorf("no %s", ours)
				}
				got[0].Header.Del(ours)
			}
			if diff := cmp.Diff(want, got[0]); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

// The key of a batch is that of its messages, whatever their attempts.
func TestBatchKey(t *testing.T) {
	var r recorder
	s := batchesTo(t, policies.BatchNDJSON, r.ServeHTTP)
	msgs := documents("1", "2", "3")
	s.Deliver(t.Context(), msgs)
	msgs[0].Tries.Attempts++
	s.Deliver(t.Context(), msgs)
	s.Deliver(t.Context(), msgs[:2])
	var keys []string
	for _, x := range r.all() {
		keys = append(keys, x.Header.Get("Idempotency-Key"))
	}
	if len(keys) != 3 || keys[0] != keys[1] || keys[1] == keys[2] {
		t.Errorf("keys = %q", keys)
	}
}

func TestWhatAnAnswerSaysOfEach(t *testing.T) {
	ok := drain.Outcome{Class: drain.Success, Status: 200}
	malformed := func(said string) []drain.Outcome {
		return slices.Repeat([]drain.Outcome{{Class: drain.Retry, Error: "malformed answer: HOST says what became of " + said}}, 3)
	}
	each := []drain.Outcome{
		{Class: drain.Success, Status: 201},
		{Class: drain.Permanent, Status: 422, Error: "status 422 from HOST: no such shop"},
		{Class: drain.Retry, Status: 503, Error: `status 503 from HOST: {"busy": true}`},
	}
	tests := map[string]struct {
		status int
		answer string
		want   []drain.Outcome
	}{
		"nothing":              {200, "", []drain.Outcome{ok, ok, ok}},
		"something else":       {200, `{"items": 3, "took": 4}`, []drain.Outcome{ok, ok, ok}},
		"others' items":        {200, `{"items": [{"sku": "a"}, {"sku": "b"}]}`, []drain.Outcome{ok, ok, ok}},
		"an array":             {207, `[{"status": 201}, {"status": 422, "error": "no such shop"}, {"status": 503, "error": {"busy": true}}]`, each},
		"items":                {200, ` {"items": [{"status": 201}, {"status": 422, "error": "no such shop"}, {"status": 503, "error": {"busy": true}}]}`, each},
		"too few":              {200, `[{"status": 201}]`, malformed("1 messages of 3")},
		"too many":             {200, `[{"status": 201}, {"status": 201}, {"status": 201}, {"status": 201}]`, malformed("4 messages of 3")},
		"207 that says nought": {207, "", malformed("0 messages of 3")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			host := ""
			s := batchesTo(t, policies.BatchNDJSON, func(w nethttp.ResponseWriter, r *nethttp.Request) {
				host = r.Host
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.answer)
			})
			got := s.Deliver(t.Context(), documents("1", "2", "3"))
			for i := range got {
				got[i].Error = strings.ReplaceAll(got[i].Error, host, "HOST")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
		})
	}
}

// A batch that is refused whole is halved until the messages that are to blame stand alone.
func TestBatchIsHalved(t *testing.T) {
	var mu sync.Mutex
	var sizes []int // guarded by mu
	s := batchesTo(t, policies.BatchJSONArray, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		var list []string
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
			panic(err)
		}
		mu.Lock()
		sizes = append(sizes, len(list))
		mu.Unlock()
		if slices.Contains(list, "poison") {
			w.WriteHeader(400)
		}
	})
	msgs := documents(`"1"`, `"2"`, `"3"`, `"4"`, `"5"`, `"poison"`, `"7"`, `"8"`)
	got := s.Deliver(t.Context(), msgs)
	for i, o := range got {
		if want := drain.Success; i != 5 && o.Class != want {
			t.Errorf("message %d: %+v", i, o)
		}
	}
	if got[5].Class != drain.Permanent || got[5].Status != 400 {
		t.Errorf("the poison: %+v", got[5])
	}
	if diff := cmp.Diff([]int{8, 4, 4, 2, 1, 1, 2}, sizes); diff != "" {
		t.Errorf("messages a request (-want +got):\n%s", diff)
	}
}

// What says nothing of a message is not asked again for its halves.
func TestBatchIsNotHalved(t *testing.T) {
	for status, class := range map[int]drain.Class{404: drain.Permanent, 500: drain.Retry, 503: drain.Retry, 302: drain.Retry} {
		requests := 0
		s := batchesTo(t, policies.BatchNDJSON, func(w nethttp.ResponseWriter, _ *nethttp.Request) {
			requests++
			w.WriteHeader(status)
		})
		got := s.Deliver(t.Context(), documents("1", "2"))
		if requests != 1 || got[0].Class != class || got[1].Class != class || got[0].Status != status {
			t.Errorf("status %d: %d requests, %+v", status, requests, got)
		}
	}
}

// What cannot be part of a batch is buried, and is nobody else's matter.
func TestBatchOfWhatIsNotJSON(t *testing.T) {
	var r recorder
	s := batchesTo(t, policies.BatchJSONArray, r.ServeHTTP)
	got := s.Deliver(t.Context(), documents("1", "], [", "", "\xff", "2"))
	for i, want := range []drain.Class{drain.Success, drain.Permanent, drain.Permanent, drain.Permanent, drain.Success} {
		if got[i].Class != want {
			t.Errorf("message %d: %+v", i, got[i])
		}
	}
	if all := r.all(); len(all) != 1 || string(all[0].Body) != "[1,2]" {
		t.Errorf("sent %+v", all)
	}
	if got := s.Deliver(t.Context(), documents("no")); got[0].Class != drain.Permanent || len(r.all()) != 1 {
		t.Errorf("a batch of nothing: %+v, %d requests", got, len(r.all()))
	}
}

func TestBatchThatIsNotSent(t *testing.T) {
	var r recorder
	s := batchesTo(t, policies.BatchNDJSON, r.ServeHTTP)
	ctx := drain.WithBegin(t.Context(), func() error { return io.ErrClosedPipe })
	for i, o := range s.Deliver(ctx, documents("1", "2")) {
		if !o.Unsent {
			t.Errorf("message %d: %+v", i, o)
		}
	}
	if n := len(r.all()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestBatchKeepsToThePolicy(t *testing.T) {
	p := policy(t, "http://127.0.0.1:1/batch")
	if s := newSink(t, p).Drained(); !isPlain(s) {
		t.Errorf("without batch: %T", s)
	}
	p.HTTP.Batch = &policies.Batch{MaxMessages: 7, MaxBytes: 70, MaxWait: time.Minute, Format: policies.BatchNDJSON}
	got := newSink(t, p).Drained().(interface{ Batch() drain.Batch }).Batch()
	if want := (drain.Batch{Messages: 7, Bytes: 70, Wait: time.Minute}); got != want {
		t.Errorf("Batch = %+v, want %+v", got, want)
	}
}

func isPlain(s drain.Sink) bool {
	_, ok := s.(*http.Sink)
	return ok
}

func header(name, value string) nethttp.Header { return nethttp.Header{name: {value}} }
