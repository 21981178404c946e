package elasticsearch_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"forebay/drain"
	"forebay/policies"
)

func TestItems(t *testing.T) {
	c := newCluster(t)
	s := newSink(t, policyOf(t, "index: logs", c.URL))
	host := strings.TrimPrefix(c.URL, "http://")
	tests := []struct {
		status     int
		error      string
		want       drain.Class
		wantReason string
	}{
		{200, "", drain.Success, ""},
		{201, "", drain.Success, ""},
		{409, `{"type":"version_conflict_engine_exception","reason":"[m]: document already exists"}`, drain.Success, ""},
		{400, `{"type":"mapper_parsing_exception","reason":"failed to parse field [n] of type [integer]. Preview of field's value: 'secret'"}`, drain.Permanent, ": mapper_parsing_exception: failed to parse field [n] of type [integer]."},
		{400, `{"type":"validation_exception","reason":"Validation Failed: this action would add [2] shards, but this cluster currently has [1000]/[1000]"}`, drain.Retry, ": validation_exception: Validation Failed: this action would add [2] shards, but this cluster currently has [1000]/[1000]"},
		{400, `{"type":"index_closed_exception","reason":"closed"}`, drain.Retry, ": index_closed_exception: closed"},
		{401, "", drain.Retry, ""},
		{403, `{"type":"cluster_block_exception","reason":"index [logs]\nblocked by: [FORBIDDEN/8]"}`, drain.Retry, ": cluster_block_exception: index [logs] blocked by: [FORBIDDEN/8]"},
		{404, `{"type":"index_not_found_exception","reason":"no such index [logs]"}`, drain.Retry, ": index_not_found_exception: no such index [logs]"},
		{413, `{"type":"x"}`, drain.Permanent, ": x"},
		{429, `{"type":"es_rejected_execution_exception","reason":"` + strings.Repeat("é", 400) + `"}`, drain.Retry, ": es_rejected_execution_exception: " + strings.Repeat("é", 256) + "…"},
		{500, `{}`, drain.Retry, ""},
		{503, `{"type":"unavailable_shards_exception"}`, drain.Retry, ": unavailable_shards_exception"},
	}
	c.item = func(id string) (int, string) {
		var i int
		_, _ = fmt.Sscanf(id, "m%d", &i)
		return tests[i].status, tests[i].error
	}
	for i, got := range s.Deliver(t.Context(), logs(len(tests))) {
		tt := tests[i]
		want := drain.Outcome{Class: tt.want, Status: tt.status}
		if tt.want != drain.Success {
			want.Error = fmt.Sprintf("status %d from %s%s", tt.status, host, tt.wantReason)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("status %d, error %s (-want +got):\n%s", tt.status, tt.error, diff)
		}
	}
	if requests, _ := c.seen(); len(requests) != 1 {
		t.Errorf("%d requests, want one", len(requests))
	}
}

// A message that was delivered and is delivered again makes no second document.
func TestAgain(t *testing.T) {
	c := newCluster(t)
	s := newSink(t, policyOf(t, "index: logs", c.URL))
	for _, status := range []int{201, 409} {
		got := s.Deliver(t.Context(), logs(1))
		if want := []drain.Outcome{{Class: drain.Success, Status: status}}; !cmp.Equal(got, want) {
			t.Errorf("outcomes = %+v, want %+v", got, want)
		}
	}
}

// What the cluster finds too large is sent in halves, and what is too large alone is
// buried. The next attempt knows better.
func TestTooLarge(t *testing.T) {
	c := newCluster(t)
	c.limit = 4000
	s := newSink(t, policyOf(t, "index: logs", c.URL))
	ms := logs(300)
	ms[123].Body = []byte(`{"n":"` + strings.Repeat("x", 5000) + `"}`)
	host := strings.TrimPrefix(c.URL, "http://")
	begun := 0
	ctx := drain.WithBegin(t.Context(), func() error { begun++; return nil })
	for i, got := range s.Deliver(ctx, ms) {
		want := drain.Outcome{Class: drain.Success, Status: 201}
		if i == 123 {
			want = drain.Outcome{Class: drain.Permanent, Status: 413, Error: "too large: status 413 from " + host + " for a request of this message alone, 5051 bytes"}
		}
		if !cmp.Equal(got, want) {
			t.Errorf("message %d: outcome = %+v, want %+v", i, got, want)
		}
	}
	before, _ := c.seen()
	if begun != len(before) {
		t.Errorf("%d requests, but their messages began %d times", len(before), begun)
	}
	for i, got := range s.Deliver(t.Context(), logs(300)) {
		if want := 409; got.Status != want && i != 123 {
			t.Fatalf("message %d, once more: outcome = %+v, want %d", i, got, want)
		}
	}
	after, sizes := c.seen()
	if n := len(after) - len(before); n < 4 || n > 10 {
		t.Errorf("300 documents of about 50 bytes took %d requests (%v documents) of a cluster that takes 4000 bytes", n, sizes)
	}
}

// max_bytes holds for the bodies of requests, action lines and all.
func TestMaxBytes(t *testing.T) {
	c := newCluster(t)
	c.limit = 1000
	begun := 0
	ctx := drain.WithBegin(t.Context(), func() error { begun++; return nil })
	for i, got := range newSink(t, policyOf(t, "index: logs, bulk: { max_bytes: 1000 }", c.URL)).Deliver(ctx, logs(100)) {
		if got.Class != drain.Success {
			t.Fatalf("message %d: outcome = %+v", i, got)
		}
	}
	if _, sizes := c.seen(); slices.Max(sizes) < 15 || len(sizes) > 7 {
		t.Errorf("requests of %v documents", sizes)
	}
	if begun != 1 {
		t.Errorf("messages that were each sent once began %d times", begun)
	}
}

// A request that is refused says nothing of its messages, only of the sink: a status
// that would count against them is not theirs.
func TestRefused(t *testing.T) {
	tests := []struct {
		status     int
		retryAfter string
		body       string
		want       drain.Outcome // its error behind the host
	}{
		{429, "7", "", drain.Outcome{Status: 429, RetryAfter: 7 * time.Second}},
		{429, "", `{"error":{"type":"circuit_breaking_exception","reason":"[parent] Data too large"},"status":429}`, drain.Outcome{Status: 429, Error: ": circuit_breaking_exception: [parent] Data too large"}},
		{503, "2", "<html>", drain.Outcome{Status: 503, RetryAfter: 2 * time.Second}},
		{502, "", "", drain.Outcome{Status: 502}},
		{500, "", "", drain.Outcome{}},
		{400, "", `{"error":{"type":"illegal_argument_exception"}}`, drain.Outcome{Error: ": illegal_argument_exception"}},
		{401, "", `{"error":{"type":"security_exception","reason":"missing authentication credentials"}}`, drain.Outcome{Error: ": security_exception: missing authentication credentials"}},
		{404, "", "not here", drain.Outcome{}},
		{406, "", `{"error":"Content-Type header [] is not supported"}`, drain.Outcome{}},
		{307, "", "", drain.Outcome{}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status, tt.retryAfter), func(t *testing.T) {
			c := newCluster(t)
			c.answer = func(w http.ResponseWriter) bool {
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
				return true
			}
			want := tt.want
			want.Error = fmt.Sprintf("status %d from %s%s", tt.status, strings.TrimPrefix(c.URL, "http://"), want.Error)
			got := newSink(t, policyOf(t, "index: logs", c.URL)).Deliver(t.Context(), logs(2))
			if diff := cmp.Diff([]drain.Outcome{want, want}, got); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
		})
	}
}

// Of an answer that does not tell of each document, nothing is believed.
func TestMalformedAnswers(t *testing.T) {
	one, two := `{"create":{"status":201}}`, `{"create":{"status":201}},{"create":{"status":201}}`
	tests := []struct{ name, answer, want string }{
		{"fewer", `{"errors":false,"items":[` + one + `]}`, "it tells of 1 documents, 2 were sent"},
		{"more", `{"errors":false,"items":[` + two + "," + one + `]}`, "it tells of 3 documents, 2 were sent"},
		{"none", `{"errors":false}`, "it tells of 0 documents, 2 were sent"},
		{"no status", `{"items":[` + one + `,{"create":{}}]}`, "document 2 has no status"},
		{"another action", `{"items":[` + one + `,{"index":{"status":201}}]}`, "document 2 has no status"},
		{"a status that is none", `{"items":[` + one + `,{"create":{"status":20}}]}`, "document 2 has no status"},
		{"more behind it", `{"items":[` + two + `]}]`, "it is no JSON of the kind"},
		{"cut off", `{"items":[` + one + `,{"create":{"st`, "it is no JSON of the kind"},
		{"a page", "<html>", "it is no JSON of the kind"},
		{"nothing", "", "it is no JSON of the kind"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			c.answer = func(w http.ResponseWriter) bool {
				_, _ = w.Write([]byte(tt.answer))
				return true
			}
			want := drain.Outcome{Error: "malformed answer: " + strings.TrimPrefix(c.URL, "http://") + ": " + tt.want}
			got := newSink(t, policyOf(t, "index: logs", c.URL)).Deliver(t.Context(), logs(2))
			if diff := cmp.Diff([]drain.Outcome{want, want}, got); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("broken off", func(t *testing.T) {
		c := newCluster(t)
		c.answer = func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"items":[` + two))
			panic(http.ErrAbortHandler)
		}
		got := newSink(t, policyOf(t, "index: logs", c.URL)).Deliver(t.Context(), logs(1))
		if got[0].Class != drain.Retry || got[0].Status != 0 {
			t.Errorf("outcome = %+v, want another try", got[0])
		}
	})
}

// After the first request that fails no other one is sent, and what was sent has its outcome.
func TestFailsMidway(t *testing.T) {
	c := newCluster(t)
	c.answer = func(w http.ResponseWriter) bool {
		if len(c.requests) == 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return len(c.requests) == 3
	}
	var statuses []int
	for _, out := range newSink(t, policyOf(t, "index: logs, bulk: { max_bytes: 1 }", c.URL)).Deliver(t.Context(), logs(5)) {
		statuses = append(statuses, out.Status)
	}
	requests, _ := c.seen()
	if want := []int{201, 201, 503, 503, 503}; !slices.Equal(statuses, want) || len(requests) != 3 {
		t.Errorf("statuses %v after %d requests, want %v after 3", statuses, len(requests), want)
	}
}

func TestRequests(t *testing.T) {
	t.Setenv("FOREBAY_TEST_SECRET", "pass:word")
	const filter = "?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,error.type,error.reason"
	tests := []struct{ name, path, keys, target, encoding, authorization string }{
		{"by default", "", "", "/_bulk" + filter, "gzip", ""},
		{"a path", "/search/", "", "/search/_bulk" + filter, "gzip", ""},
		{"not compressed", "", ", compression: none", "/_bulk" + filter, "", ""},
		{"basic", "", `, auth: { basic: { username: u, password: "${env:FOREBAY_TEST_SECRET}" } }`, "/_bulk" + filter, "gzip", "Basic dTpwYXNzOndvcmQ="},
		{"an API key", "", `, auth: { api_key: "${env:FOREBAY_TEST_SECRET}" }`, "/_bulk" + filter, "gzip", "ApiKey pass:word"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			if got := newSink(t, policyOf(t, "index: logs"+tt.keys, c.URL+tt.path)).Deliver(t.Context(), logs(3)); got[2].Class != drain.Success {
				t.Fatalf("outcome = %+v", got[2])
			}
			requests, _ := c.seen()
			r := requests[0]
			got := []string{r.Method, r.RequestURI, r.Header.Get("Content-Type"), r.Header.Get("Content-Encoding"), r.Header.Get("Authorization")}
			if want := []string{"POST", tt.target, "application/x-ndjson", tt.encoding, tt.authorization}; !slices.Equal(got, want) {
				t.Errorf("request = %q\nwant %q", got, want)
			}
		})
	}
}

func TestSeveralURLs(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	c := newCluster(t)
	s := newSink(t, policyOf(t, "index: logs", gone.URL, c.URL))
	for range 3 {
		if got := s.Deliver(t.Context(), logs(1)); got[0].Class != drain.Success {
			t.Errorf("outcome = %+v", got[0])
		}
	}
	if targets := s.Targets(time.Now()); len(targets) != 2 || targets[0].Resting.IsZero() || targets[0].URL != gone.URL+"/_bulk" {
		t.Errorf("targets = %+v, want the first one to rest", targets)
	}
}

func TestTLS(t *testing.T) {
	c := newCluster(t)
	srv := httptest.NewUnstartedServer(c)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	for _, own := range []bool{false, true} {
		p := policyOf(t, "index: logs", srv.URL)
		if own {
			p.Elasticsearch.HTTP.TLS = &policies.TLS{CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})}
		}
		want := drain.Outcome{Error: "tls: " + strings.TrimPrefix(srv.URL, "https://")}
		if own {
			want = drain.Outcome{Class: drain.Success, Status: 201}
		}
		if got := newSink(t, p).Deliver(t.Context(), logs(1)); !cmp.Equal(got[0], want) {
			t.Errorf("with its CA %v: outcome = %+v, want %+v", own, got[0], want)
		}
	}
}

// Nothing is written that may not be written now.
func TestNotNow(t *testing.T) {
	c := newCluster(t)
	s := newSink(t, policyOf(t, "index: logs", c.URL))
	ctx := drain.WithBegin(t.Context(), func() error { return errors.New("not now") })
	for _, got := range s.Deliver(ctx, logs(2)) {
		if !got.Unsent {
			t.Errorf("outcome = %+v, want unsent", got)
		}
	}
	if requests, _ := c.seen(); len(requests) > 0 {
		t.Errorf("%d requests", len(requests))
	}
}

func TestHangs(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	s := newSink(t, policyOf(t, "index: logs, timeout: { total: 50ms }", srv.URL))
	want := drain.Outcome{Class: drain.Timeout, Error: "timeout: " + strings.TrimPrefix(srv.URL, "http://")}
	for _, got := range s.Deliver(t.Context(), logs(2)) {
		if !cmp.Equal(got, want) {
			t.Errorf("outcome = %+v, want %+v", got, want)
		}
	}
}
