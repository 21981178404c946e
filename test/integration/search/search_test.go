// Package search_test runs the elasticsearch sink against real servers.
package search_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"forebay/test/integration/parts"
)

// policy is one that delivers logs as documents: keys are those of the sink behind its
// urls.
func policy(s *parts.Search, keys string) string {
	return fmt.Sprintf(`version: 1
sinks:
  - name: search
    elasticsearch: { urls: [%q], timeout: { total: 5s }, %s }
    budget: { concurrency: { max: 4 } }
    breaker: { failure_ratio: 1, min_requests: 20, window: 5s, open_for: 500ms }
    slow_start: 0
streams:
  - { name: logs, max_message_bytes: 4MiB }
drains:
  - { name: logs-to-search, stream: logs, sink: search, retry: { max_attempts: 1000, budget: 100%%, backoff: { initial: 50ms, max: 500ms } } }
routes:
  - { name: logs, match: { methods: [POST], path: /v1/logs }, mode: buffer, stream: logs, split: ndjson, max_body: 16MiB }
  - { name: lines, match: { methods: [POST], path: /v1/lines }, mode: buffer, stream: logs, split: lines }
`, s.URL, keys)
}

// each runs a test against both products.
func each(t *testing.T, o parts.SearchOptions, test func(t *testing.T, s *parts.Search)) {
	t.Run("opensearch", func(t *testing.T) { test(t, parts.StartOpenSearch(t, o)) })
	t.Run("elasticsearch", func(t *testing.T) { test(t, parts.StartElasticsearch(t, o)) })
}

// post sends lines, which have to be accepted.
func post(t *testing.T, f *parts.Forebay, path string, lines ...string) {
	t.Helper()
	status, answer, err := f.Post(path, "application/x-ndjson", []byte(strings.Join(lines, "\n")))
	if err != nil || status != http.StatusAccepted {
		t.Fatalf("POST %s = %d, %v: %s", path, status, err, answer)
	}
}

// dead are the last errors of the dead letters.
func dead(t *testing.T, f *parts.Forebay) (errors []string) {
	t.Helper()
	out, code := f.Command("dead", "list", "--drain", "logs-to-search", "-o", "json")
	var list struct {
		Items []struct {
			LastError string `json:"last_error"`
		} `json:"items"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 {
		t.Fatalf("dead list = %d, %s: %v", code, out, err)
	}
	for _, d := range list.Items {
		errors = append(errors, d.LastError)
	}
	return errors
}

// numbers are the n of the documents of an index, each once.
func numbers(t *testing.T, s *parts.Search, index string) map[int]bool {
	t.Helper()
	seen := make(map[int]bool)
	for _, d := range s.Documents(index) {
		var doc struct {
			N int `json:"n"`
		}
		if err := json.Unmarshal(d.Source, &doc); err != nil {
			t.Fatalf("document %s: %v", d.Source, err)
		}
		if seen[doc.N] {
			t.Errorf("%d is there twice", doc.N)
		}
		seen[doc.N] = true
	}
	return seen
}

// retries is how many attempts were not the last of their message.
func retries(f *parts.Forebay) float64 {
	n, _ := f.Metric(`forebay_drain_attempts_total{drain="logs-to-search",outcome="retry",sink="search"}`)
	return n
}

// Through items that are refused for want of room, a node and a program that are killed
// amid, and a node that hangs, each line is one document, and what can be none is dead
// with its reason.
func TestThroughFaults(t *testing.T) {
	busy := parts.SearchOptions{Settings: map[string]string{"thread_pool.write.size": "1", "thread_pool.write.queue_size": "1"}}
	each(t, busy, func(t *testing.T, s *parts.Search) {
		s.CreateIndex("logs", 4, `{"properties": {"n": {"type": "integer"}}}`)
		f := parts.StartForebay(t, policy(s, "index: logs, bulk: { max_messages: 200 }"), parts.ForebayOptions{})
		const lines = 500
		want, bad, sent := map[int]bool{-1: true}, 0, 0
		send := func(batches int) {
			for ; batches > 0; batches-- {
				var text []string
				for range lines {
					if sent++; sent%250 == 0 {
						text = append(text, fmt.Sprintf(`{"n":"no number %d"}`, sent))
						bad++
						continue
					}
					text = append(text, fmt.Sprintf(`{"n":%d,"text":"a line of a log, as long as they are"}`, sent))
					want[sent] = true
				}
				post(t, f, "/v1/logs", text...)
			}
		}
		midway := func(batches int) {
			from := f.Drain("logs-to-search").Delivered
			send(batches)
			parts.Until(t, time.Minute, "something more is delivered", func() bool { return f.Drain("logs-to-search").Delivered > from })
		}
		midway(5)
		s.Kill()
		s.Restart()
		midway(4)
		f.Kill()
		f.Restart()
		midway(2)
		s.Pause()
		outOfTime(t, f)
		s.Resume()
		send(1)
		account := f.Settle("logs-to-search", 2*time.Minute)
		got := numbers(t, s, "logs")
		if len(got) != len(want) || account.Delivered != int64(len(want)) || account.Dead != int64(bad) {
			t.Errorf("%d documents of %d; account %+v, want %d dead", len(got), len(want), account, bad)
		}
		for n := range want {
			if !got[n] {
				t.Fatalf("%d is not there", n)
			}
		}
		reasons := dead(t, f)
		if len(reasons) != bad {
			t.Errorf("%d dead letters are listed, want %d", len(reasons), bad)
		}
		for _, reason := range reasons {
			if !strings.Contains(reason, "status 400") || !strings.Contains(reason, "failed to parse field [n] of type [integer]") || strings.Contains(reason, "no number") {
				t.Fatalf("a dead letter's reason is %q", reason)
			}
		}
		if retries(f) == 0 {
			t.Error("nothing was tried again: the node was not busy")
		}
	})
}

// outOfTime posts a line and waits until attempts have found that the node hangs.
func outOfTime(t *testing.T, f *parts.Forebay) {
	t.Helper()
	post(t, f, "/v1/logs", `{"n":-1}`)
	parts.Until(t, time.Minute, "an attempt is out of time", func() bool {
		n, _ := f.Metric(`forebay_drain_attempts_total{drain="logs-to-search",outcome="timeout",sink="search"}`)
		return n > 0
	})
}

// A data stream takes lines of text and objects without a time. The bare node of
// Elasticsearch has none: they are in its module x-pack.
func TestDataStream(t *testing.T) {
	t.Run("opensearch", func(t *testing.T) {
		s := parts.StartOpenSearch(t, parts.SearchOptions{})
		s.Call(http.MethodPut, "/_index_template/apps", `{"index_patterns": ["logs-app-*"], "data_stream": {}, "priority": 500, "template": {"settings": {"number_of_replicas": 0}}}`)
		f := parts.StartForebay(t, policy(s, `index: "logs-app-{json:/service}", data_stream: true`), parts.ForebayOptions{})
		post(t, f, "/v1/logs", `{"service":"pay","n":1}`, `{"service":"pay","n":2,"@timestamp":"2026-11-11T00:00:00Z"}`, `{"service":"a/../b","n":3}`)
		if a := f.Settle("logs-to-search", time.Minute); a.Delivered != 2 || a.Dead != 1 {
			t.Errorf("account = %+v, want 2 delivered, 1 dead", a)
		}
		if reasons := dead(t, f); !slices.Equal(reasons, []string{`index: json:/service is "a/../b", which no index can be named by`}) {
			t.Errorf("reasons of dead letters = %q", reasons)
		}
		f.Reload(policy(s, `index: logs-app-text, data_stream: true`))
		post(t, f, "/v1/lines", `127.0.0.1 "GET /" 200`, "\xff\xfe")
		if a := f.Settle("logs-to-search", time.Minute); a.Delivered != 3 || a.Dead != 2 {
			t.Errorf("account = %+v, want 3 delivered, 2 dead", a)
		}
		for index, want := range map[string]int{"logs-app-pay": 2, "logs-app-text": 1} {
			docs := s.Documents(index)
			if len(docs) != want {
				t.Errorf("%s has %d documents, want %d", index, len(docs), want)
			}
			for _, d := range docs {
				if !strings.HasPrefix(d.Index, ".ds-"+index) || !strings.Contains(string(d.Source), `"@timestamp":"2026-`) {
					t.Errorf("document %+v of %s", d, index)
				}
			}
		}
	})
}

// What is over http.max_content_length is sent in parts, and one message that is by
// itself is dead.
func TestTooLarge(t *testing.T) {
	small := parts.SearchOptions{Settings: map[string]string{"http.max_content_length": "256kb"}}
	for _, compression := range []string{"gzip", "none"} {
		t.Run(compression, func(t *testing.T) {
			each(t, small, func(t *testing.T, s *parts.Search) {
				s.CreateIndex("logs", 1, "")
				f := parts.StartForebay(t, policy(s, "index: logs, compression: "+compression), parts.ForebayOptions{})
				var lines []string
				for n := range 2000 {
					size := 1000
					if n == 777 {
						size = 300_000
					}
					lines = append(lines, fmt.Sprintf(`{"n":%d,"text":%q}`, n, strings.Repeat("x", size)))
				}
				post(t, f, "/v1/logs", lines...)
				a := f.Settle("logs-to-search", time.Minute)
				if got := numbers(t, s, "logs"); len(got) != 1999 || got[777] || a.Delivered != 1999 || a.Dead != 1 {
					t.Errorf("%d documents, account %+v", len(got), a)
				}
				if reasons := dead(t, f); len(reasons) != 1 || !strings.HasPrefix(reasons[0], "too large: status 413") {
					t.Errorf("reasons of dead letters = %q", reasons)
				}
				if n := retries(f); n > 0 {
					t.Errorf("%v attempts had no answer of the node's", n)
				}
			})
		})
	}
}

// A message whose index is missing, where none is made by itself, waits for it.
func TestMissingIndex(t *testing.T) {
	strict := parts.SearchOptions{Settings: map[string]string{"action.auto_create_index": "false"}}
	each(t, strict, func(t *testing.T, s *parts.Search) {
		s.CreateIndex("logs-a", 1, "")
		f := parts.StartForebay(t, policy(s, `index: "logs-{json:/service}"`), parts.ForebayOptions{})
		post(t, f, "/v1/logs", `{"service":"a","n":1}`, `{"service":"b","n":2}`)
		parts.Until(t, time.Minute, "one is delivered and one was tried", func() bool {
			d := f.Drain("logs-to-search")
			return d.Delivered == 1 && d.Scheduled == 1
		})
		s.CreateIndex("logs-b", 1, "")
		if a := f.Settle("logs-to-search", time.Minute); a.Delivered != 2 {
			t.Errorf("account = %+v, want 2 delivered", a)
		}
	})
}
