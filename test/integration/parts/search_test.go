package parts_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"forebay/test/integration/parts"
)

func TestOpenSearch(t *testing.T) { testSearch(t, parts.StartOpenSearch) }

func TestElasticsearch(t *testing.T) { testSearch(t, parts.StartElasticsearch) }

// testSearch: what a bulk created is there after a kill, and is not created twice.
func testSearch(t *testing.T, start func(testing.TB, parts.SearchOptions) *parts.Search) {
	s := start(t, parts.SearchOptions{})
	s.CreateIndex("logs", 2, `{"properties": {"n": {"type": "integer"}}}`)
	bulk := []string{
		`{"create": {"_index": "logs", "_id": "a"}}`, `{"n": 1}`,
		`{"create": {"_index": "logs", "_id": "b"}}`, `{"n": "no number"}`,
	}
	if got, want := s.Bulk(bulk...), []int{http.StatusCreated, http.StatusBadRequest}; !slices.Equal(got, want) {
		t.Errorf("statuses of the items = %v, want %v", got, want)
	}
	s.Kill()
	s.Restart()
	if got, want := s.Bulk(bulk...), []int{http.StatusConflict, http.StatusBadRequest}; !slices.Equal(got, want) {
		t.Errorf("statuses of the items, sent again after a kill = %v, want %v", got, want)
	}
	all := s.Documents("logs*")
	if len(all) != 1 || all[0].ID != "a" || string(all[0].Source) != `{"n": 1}` {
		t.Errorf("documents = %+v, want the one that was created", all)
	}
}

// TestSearchRefuses: a node that may queue one bulk refuses items of the others.
func TestSearchRefuses(t *testing.T) {
	s := parts.StartOpenSearch(t, parts.SearchOptions{Settings: map[string]string{
		"thread_pool.write.size": "1", "thread_pool.write.queue_size": "1",
	}})
	s.CreateIndex("logs", 4, "")
	items := strings.Split(strings.TrimSpace(strings.Repeat("{\"index\": {\"_index\": \"logs\"}}\n{\"n\": 1}\n", 100)), "\n")
	statuses := s.Bulk(items...)
	if !slices.Contains(statuses, http.StatusTooManyRequests) || !slices.Contains(statuses, http.StatusCreated) {
		t.Errorf("statuses of the items = %v, want some 201 and some 429", statuses)
	}
}
